"""Tests of the private network of the embedded log."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from audiotext.embedded import private_network
from audiotext.embedded.private_network import PrivateNetwork
from audiotext.embedded.server import port_is_open

pytestmark = pytest.mark.server

_SERVE = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""
_CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))"


@pytest.fixture
def network() -> PrivateNetwork:
    """Returns a new private network."""
    created = PrivateNetwork.create()
    if created is None:
        pytest.skip("this system does not allow a private network")
    return created


def test_only_programs_in_the_network_reach_its_ports(network: PrivateNetwork) -> None:
    """Listens in the network: another program in it can connect, this process cannot.

    A failure means that other users of the machine can read and write the embedded log.
    """
    server = subprocess.Popen(
        network.command((sys.executable, "-c", _SERVE)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=network.descriptors,
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        assert not port_is_open(port)
        connect = network.command((sys.executable, "-c", _CONNECT, str(port)))
        assert subprocess.run(connect, pass_fds=network.descriptors, timeout=30, check=False).returncode == 0
    finally:
        server.communicate("", timeout=30)


def test_the_program_replaces_the_one_that_enters(network: PrivateNetwork, tmp_path: Path) -> None:
    """Starts a program that records its process id: it must be that of the started process, which gets the signals.

    It has no descriptor of the network any more.
    """
    written = tmp_path / "pid"
    source = "import os, sys; open(sys.argv[1], 'w').write(f'{os.getpid()} {len(os.listdir(\"/proc/self/fd\"))}')"
    started = subprocess.Popen(
        network.command((sys.executable, "-c", source, str(written))),
        stdin=subprocess.DEVNULL,
        pass_fds=network.descriptors,
    )
    assert started.wait(30) == 0
    assert written.read_text() == f"{started.pid} 5"  # standard streams, the file, and the directory


def test_a_system_that_forbids_it_has_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the system refuse a namespace: the result is None, and it comes at once.

    A failure means that `audiotext up` does not start in a container without privileges.
    """

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(private_network, "_create_namespaces", refuse)
    began = time.monotonic()
    assert PrivateNetwork.create() is None
    assert time.monotonic() - began < 5
