"""Attacks of another local user (`nobody`) on a running stack: nothing may be listed, read, written or deleted."""

import contextlib
import json
import os
import pwd
import socket
import ssl
import stat
import struct
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from audiotext.embedded.private_network import PrivateNetwork
from audiotext.stack.datadir import RunningStack, running_stack
from redpanda.client import connection_config, is_reachable
from schemas.topics import Topic
from tests.support.log_variables import from_variables
from tests.support.up_process import ADMIN_KEY, TWILIO_TOKEN, UpProcess

pytestmark = [
    pytest.mark.server,
    pytest.mark.alone,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user"),
]

# Requests that SeaweedFS, the stores and the API answer with content, or obey, if they do not check who asks.
PATHS = (
    *("/", "/dir/status", "/vol/status", "/dir/assign", "/cluster/status", "/col/delete?collection=audiotext"),
    *("/buckets/audiotext/", "/audiotext/", "/?query=SHOW%20TABLES", "/collections", "/v1/calls", "/v1/usage"),
)


@pytest.fixture(scope="module")
def stack(up: UpProcess) -> RunningStack:
    """Returns the addresses of the running stack. Starts it again if another test has stopped it."""
    if not up.running:
        up.start()
    running = running_stack(up.data_dir)
    assert running is not None
    return running


def _family(pid: int) -> list[int]:
    """Returns the process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _processes(up: UpProcess) -> list[int]:
    (gateway,) = up.pids("gateway")
    parent = int(Path(f"/proc/{gateway}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return _family(parent)


def _listening_ports(pids: list[int]) -> set[int]:
    """Returns the TCP ports of this network on which the processes listen."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def _http(port: int, path: str, tls: bool) -> bytes:
    """Returns the response to a GET; empty if the server closes the connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            connection = plain
            if tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection = context.wrap_socket(plain)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))
    except (OSError, ssl.SSLError):
        return b""


def _as_nobody(*command: str, data: str = "") -> str:
    done = subprocess.run(
        command,
        input=data,
        user="nobody",
        group="nogroup",
        extra_groups=[],
        cwd="/",
        env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns SeaweedFS' program at a place where every user can run it."""
    copy = Path(f"/tmp/weed-{os.getpid()}")
    copy.write_bytes((Path(sysconfig.get_path("scripts")) / "weed").read_bytes())
    copy.chmod(0o755)
    yield copy
    copy.unlink()


def test_no_port_answers_a_request_without_credentials(up: UpProcess, stack: RunningStack) -> None:
    """Sends HTTP requests, with TLS and without, to every port on which a process of the stack listens.

    Each is refused, or answered with an error. A failure means that every user of the machine, and every web page that
    is open on it, can list, copy or delete recordings.
    """
    ports = _listening_ports(_processes(up)) - {up.port}
    assert len(ports) >= 15  # ten of SeaweedFS, the log, ClickHouse, Qdrant, and the metrics
    for port in ports:
        for path in PATHS:
            for tls in (False, True):
                response = _http(port, path, tls)
                status = response.partition(b" ")[2][:3]
                qdrant_version = b'{"title": "qdrant - vector search engine", "version": "' in response[-80:]
                assert status in (b"", b"400", b"401", b"403", b"404") or qdrant_version, (port, path, response[:300])


def test_the_log_of_the_stack_is_closed(up: UpProcess, stack: RunningStack) -> None:
    """Lists the topics at every port of the stack, and writes a charge to the log, without the password.

    The port of noida-db itself, which has no password, is in a private network.
    """
    kafka = from_variables(stack.environment)
    assert is_reachable(kafka)
    plain = {"security_protocol": "plaintext", "sasl_mechanism": None, "sasl_username": None, "sasl_password": None}
    stranger = kafka.model_copy(update=plain)
    metadata = struct.pack(">hhihi", 3, 1, 7, -1, -1)
    for port in _listening_ports(_processes(up)):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(metadata)) + metadata)
            assert b"call.media" not in connection.recv(65536), port
    producer = Producer(connection_config(stranger) | {"log_level": 0})
    producer.produce(Topic.USAGE_RECORDED.value, b"forged")
    assert producer.flush(2) == 1  # it is still waiting
    producer.purge()
    if PrivateNetwork.create() is not None:
        inside = json.loads((up.data_dir / "stack.json").read_text())["ports"]["log.inside"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", inside), timeout=3)


def test_the_tools_of_the_object_storage_get_nothing(up: UpProcess, stack: RunningStack, weed: Path) -> None:
    """Runs `weed shell` and `weed backup` as nobody against the internal ports: no tree, and no volume."""
    ports = json.loads((up.data_dir / "stack.json").read_text())["ports"]
    master = f"127.0.0.1:{ports['master']}.{ports['master.grpc']}"
    filer = f"127.0.0.1:{ports['filer']}.{ports['filer.grpc']}"
    target = Path(f"/tmp/stolen-{os.getpid()}")
    target.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(target, nobody.pw_uid, nobody.pw_gid)
    try:
        for volume in range(1, 5):
            command = ("backup", f"-server={master}", f"-volumeId={volume}", "-collection=audiotext", f"-dir={target}")
            assert "uccessfully" not in _as_nobody(str(weed), *command)
        assert not [file for file in target.iterdir() if file.stat().st_size]
        with pytest.raises(subprocess.TimeoutExpired) as waiting:  # it tries to connect for ever
            subprocess.run(
                (str(weed), "shell", f"-master={master}", f"-filer={filer}"),
                input=b"fs.tree /\nexit\n",
                user="nobody",
                group="nogroup",
                extra_groups=[],
                cwd="/",
                capture_output=True,
                timeout=5,
                check=False,
            )
        assert b"buckets" not in (waiting.value.stdout or b"") + (waiting.value.stderr or b"")
    finally:
        for file in target.iterdir():
            file.unlink()
        target.rmdir()


def test_nobody_can_take_the_place_of_the_api(up: UpProcess, stack: RunningStack) -> None:
    """Connects as nobody to the socket of the API, and listens there after the API was killed: both must fail.

    While the API is away the gateway answers 502. A failure means that another user receives the requests of our users,
    with their keys.
    """
    path = up.data_dir / "api.sock"
    assert stat.S_ISSOCK(path.stat().st_mode)
    up.kill_service("api")
    for call in ("connect", "bind"):
        source = f"import socket; socket.socket(socket.AF_UNIX).{call}({str(path)!r})"
        assert "PermissionError" in _as_nobody("/usr/bin/python3", "-c", source)
    deadline = time.monotonic() + 60
    while up.get("/v1/calls")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_file_is_for_the_owner_only(up: UpProcess, stack: RunningStack) -> None:
    """Reads the modes of all files, directories and sockets: group and others have no permission.

    SeaweedFS sets the modes of some of its files itself; their directory is closed.
    """
    objects = up.data_dir / "objects"
    for path in (up.data_dir, *up.data_dir.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if objects in path.parents and path.is_file():
                continue
            assert path.is_symlink() or not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert "Permission denied" in _as_nobody("/bin/ls", str(up.data_dir))


def test_a_process_has_no_secret_that_it_does_not_use(up: UpProcess, stack: RunningStack) -> None:
    """Reads the environment of every process: embedded servers have no setting, and a stage no key of a carrier."""
    servers = ("noida-db", "audiotext.embedded", "weed")
    seen = 0
    for pid in _processes(up)[1:]:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            environment = Path(f"/proc/{pid}/environ").read_text()
        except OSError:
            continue
        if any(name in command for name in servers):
            seen += 1
            assert "AUDIOTEXT_" not in environment, command
        if " run gateway" not in command:
            assert TWILIO_TOKEN not in environment, command
        if " run api" not in command:
            assert ADMIN_KEY not in environment, command
    assert seen >= 5
