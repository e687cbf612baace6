"""`audiotext up` as a real process on a directory, with a client of its HTTP API."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADMIN_KEY = "e2e-admin-key-of-no-worth"
TWILIO_TOKEN = "e2e-twilio-token"


class UpProcess:
    """One `audiotext up`. start() returns when it accepts calls. It can be killed and started again.

    environment: further variables of the process.
    """

    def __init__(self, data_dir: Path, environment: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self._environment = dict(environment or {})
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Returns the base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def media_url(self) -> str:
        """Returns the URL of Twilio's media socket."""
        return f"ws://127.0.0.1:{self.port}/v1/media/twilio"

    def start(self, timeout_s: float = 60) -> None:
        """Starts it and waits for /readyz. Raises AssertionError with its output if it does not become ready."""
        env = os.environ | {
            "AUDIOTEXT_ADMIN_KEY": ADMIN_KEY,
            "AUDIOTEXT_TWILIO__AUTH_TOKEN": TWILIO_TOKEN,
            "AUDIOTEXT_PUBLIC_URL": self.url,
            **self._environment,
        }
        self.data_dir.mkdir(exist_ok=True)
        output = (self.data_dir.parent / f"{self.data_dir.name}.out").open("ab")
        command = (sys.executable, "-m", "audiotext", "up", "--data-dir", str(self.data_dir), "--port", str(self.port))
        with output:
            self._process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            assert self._process.poll() is None, f"up ended: {Path(output.name).read_text()}"
            assert time.monotonic() < deadline, f"not ready: {Path(output.name).read_text()}"
            time.sleep(0.1)

    def stop(self) -> float:
        """Sends Ctrl-C and returns the seconds it took. Fails if it does not end."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(60) == 0
        return time.monotonic() - began

    def kill(self) -> None:
        """Sends SIGKILL to the supervisor, like the out-of-memory killer."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def running(self) -> bool:
        """True if the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def pids(self, service: str) -> list[int]:
        """Returns the process ids of a service or server of this stack, by a word of its command line."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if self._process and parent == self._process.pid and service.encode() in command:
                found.append(int(entry.name))
        return found

    def kill_service(self, service: str) -> None:
        """Sends SIGKILL to one service. The supervisor starts it again."""
        pids = self.pids(service)
        assert pids, f"no process of {service}"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def get(self, path: str, key: str | None = ADMIN_KEY, **query: str) -> tuple[int, bytes]:
        """Returns status and body of a GET."""
        address = self.url + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {key}"} if key else {})
        try:
            with urllib.request.urlopen(request, timeout=15) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, path: str, **query: str) -> Any:
        """Returns the JSON at a path. Fails if the status is not 200."""
        status, body = self.get(path, **query)
        assert status == 200, f"{path}: {status} {body[:300]!r}"
        return json.loads(body)

    def call(self, call_id: str) -> dict[str, Any] | None:
        """Returns the document of a call, or None."""
        status, body = self.get(f"/v1/calls/{call_id}")
        document: dict[str, Any] | None = json.loads(body) if status == 200 else None
        return document

    def wait_for(self, call_id: str, *states: str, timeout_s: float = 90) -> dict[str, Any]:
        """Returns the document of a call when it has one of these statuses. Fails at once if the call failed."""
        deadline = time.monotonic() + timeout_s
        call = None
        while time.monotonic() < deadline:
            call = self.call(call_id)
            if call is not None and call["status"] in states:
                return call
            assert call is None or call["status"] != "failed", call
            time.sleep(0.05)
        raise AssertionError(f"{call_id} is {call and call['status']} after {timeout_s} s, not {states}")

    def _ready(self) -> bool:
        # A gateway that has outlived a killed supervisor answers, too, for a moment; ours starts when it is gone.
        try:
            if not self.pids("gateway"):
                return False
            status, body = self.get("/readyz", key=None)
            return status == 200 and not json.loads(body)["api_missing"]
        except OSError:
            return False


def free_port() -> int:
    """Returns a port on which no process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
