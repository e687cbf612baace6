"""What a stack remembers between runs."""

import socket
from pathlib import Path

from audiotext.embedded.state import State, write_private


def test_ports_and_secrets_stay_the_same(tmp_path: Path) -> None:
    """Addresses a user wrote down, and passwords inside the servers' data, hold after a restart."""
    first = State(tmp_path)
    port, secret = first.port("s3"), first.secret("s3")
    assert State(tmp_path).port("s3") == port
    assert State(tmp_path).secret("s3") == secret
    assert first.secret("s3") != first.secret("other")


def test_a_port_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    """Another program may have taken last run's port; then the stack moves instead of failing."""
    port = State(tmp_path).port("s3")
    with socket.create_server(("127.0.0.1", port)):
        moved = State(tmp_path).port("s3")
        assert moved != port
    assert State(tmp_path).port("s3") == moved


def test_a_preferred_port_is_taken_if_free(tmp_path: Path) -> None:
    """The API's usual port is used where nobody else has it, and names never share one."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    state = State(tmp_path)
    assert state.port("api", free) == free
    assert state.port("other", free) != free


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    """A file with secrets is never readable by others, also not for a moment, and never half written."""
    path = tmp_path / "secret"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
