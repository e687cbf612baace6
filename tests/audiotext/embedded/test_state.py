"""Tests of the stack's persistent ports and secrets."""

import socket
from pathlib import Path

from audiotext.embedded.state import State, write_private


def test_ports_and_secrets_stay_the_same(tmp_path: Path) -> None:
    """Reads ports and secrets in two runs: they must be equal, because users and servers' data contain them."""
    first = State(tmp_path)
    port, secret = first.port("s3"), first.secret("s3")
    assert State(tmp_path).port("s3") == port
    assert State(tmp_path).secret("s3") == secret
    assert first.secret("s3") != first.secret("other")


def test_a_port_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    """Takes the previous run's port: the stack must choose another one instead of failing."""
    port = State(tmp_path).port("s3")
    with socket.create_server(("127.0.0.1", port)):
        moved = State(tmp_path).port("s3")
        assert moved != port
    assert State(tmp_path).port("s3") == moved


def test_free_preferred_port_is_used(tmp_path: Path) -> None:
    """Requests a preferred port: it must be used if it is free, and two names must never share one."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    state = State(tmp_path)
    assert state.port("api", free) == free
    assert state.port("other", free) != free


def test_private_file_is_replaced_atomically(tmp_path: Path) -> None:
    """Replaces a file with secrets: it must never be readable by others, and never be incomplete."""
    path = tmp_path / "secret"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
