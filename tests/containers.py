"""The image as docker-compose.yml runs it: built, and every service in a container of its own, on a Docker engine.

    python -m tests.containers [--image audiotext:0.1.0]

Read-only, without capabilities, as nobody in particular, within Compose's limits of memory and processor, with its
volumes, commands and health checks. What is not ours (log, object storage, ClickHouse, Qdrant) is embedded on the host,
and the containers share its network, so neither registry nor bridge is needed. Two calls are played; both have to come
out whole. Not part of `make test`: building takes minutes, and few machines that run tests have a Docker engine.
"""

import argparse
import asyncio
import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from gateway.simulator import play
from tests.conftest import MAKERS
from tests.support.demo_calls import CALLS, demo_call
from tests.support.running_server import RunningServer
from tests.support.up_process import ADMIN_KEY, TWILIO_TOKEN, UpProcess, free_port

_ROOT = Path(__file__).parents[1]
_OURS = "audiotext:"
_START_S = 90
_FRAME = 160  # samples: the last one is filled up
_RUN_ID = "audiotext-check"


class Stack(UpProcess):
    """Asks the containers as if they were `audiotext up`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.api_port = free_port()


def main() -> int:
    """Returns 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__.partition("\n")[0])
    parser.add_argument("--image", help="do not build: use this one")
    args = parser.parse_args()
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        print("no Docker engine answers: start one", file=sys.stderr)
        return 2
    image = args.image or _built()
    compose = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
    services = {name: one for name, one in compose["services"].items() if one.get("image", "").startswith(_OURS)}
    with tempfile.TemporaryDirectory() as name, _servers(Path(name)) as addresses:
        stack = Stack(Path(name) / "data")
        common = _variables(stack, addresses)
        prepare = services.pop("prepare")
        for turn in ("first", "second"):
            _docker("run", "--rm", *_options("prepare", prepare, image, common))
            print(f"prepare, the {turn} time: done")
        try:
            _run(stack, services, image, common)
        finally:
            for one in services:
                subprocess.run(["docker", "rm", "--force", f"{_RUN_ID}-{one}"], capture_output=True, check=False)
            for one in compose["volumes"]:
                subprocess.run(["docker", "volume", "rm", f"{_RUN_ID}-{one}"], capture_output=True, check=False)
    return 0


def _run(stack: Stack, services: Mapping[str, Any], image: str, common: Mapping[str, str]) -> None:
    ports = {name: free_port() for name in services}
    for name, service in services.items():
        variables = {**common, "AUDIOTEXT_METRICS__PORT": str(ports[name])}
        _docker("run", "--detach", "--name", f"{_RUN_ID}-{name}", *_options(name, service, image, variables))
    _until("the gateway is ready", lambda: stack.get("/readyz", key=None)[0] == 200)
    for name, service in services.items():
        own = {"9100": ports[name], "8080": stack.port, "8081": stack.api_port}
        _until(f"{name} is healthy", lambda name=name, service=service, own=own: _healthy(name, service, own))
    print(_docker("exec", f"{_RUN_ID}-api", "audiotext", "doctor"))
    for call in CALLS:
        path = demo_call(call).write_wav(stack.data_dir.parent / f"{call}.wav")
        asyncio.run(
            play(
                path,
                url=stack.media_url,
                auth_token=TWILIO_TOKEN,
                public_url=stack.url,
                call_id=f"CA{call}",
                speed=20,
            )
        )
    # A killed service comes back by Compose's restart policy and goes on.
    _docker("kill", f"{_RUN_ID}-transcriber")
    _docker("start", f"{_RUN_ID}-transcriber")
    for call in CALLS:
        found = stack.wait_for(f"CA{call}", "complete", timeout_s=240)
        said = demo_call(call).samples
        recorded, _ = soundfile.read(io.BytesIO(stack.get(f"/v1/calls/CA{call}/recording")[1]), dtype="int16")
        assert np.array_equal(recorded[: len(said)], said), call
        assert len(recorded) - len(said) < _FRAME, call
        print(f"{call}: {found['status']}, {found['duration_ms'] / 1000:.1f} s")
    assert stack.json("/v1/usage")["total"][0]["lines"] == len(CALLS)
    for name in services:
        user = _docker("exec", f"{_RUN_ID}-{name}", "python", "-c", "import os; print(os.getuid())").strip()
        assert user == "10001", user
    for name, service in services.items():
        began = time.monotonic()
        _docker("stop", "--time", service.get("stop_grace_period", "10s").removesuffix("s"), f"{_RUN_ID}-{name}")
        code = _docker("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", f"{_RUN_ID}-{name}").strip()
        print(f"{name}: ended in {time.monotonic() - began:.1f} s, exit code and out of memory: {code}")
        assert code == "0 false", code


def _built() -> str:
    image = f"{_OURS}check"
    _docker("build", "--network=host", "--tag", image, str(_ROOT))
    return image


@contextlib.contextmanager
def _servers(directory: Path) -> Iterator[Mapping[str, str]]:
    """What is not ours, running on this machine; yields how to reach it."""
    addresses: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for name, make in MAKERS.items():
            (directory / name).mkdir()
            server = RunningServer(directory / name, make)
            stack.callback(server.kill)
            addresses |= server.start().addresses
        yield addresses


def _variables(stack: Stack, addresses: Mapping[str, str]) -> dict[str, str]:
    """What docker-compose.yml sets, with the addresses of here."""
    return {
        **addresses,
        "AUDIOTEXT_PUBLIC_URL": stack.url,
        "AUDIOTEXT_ADMIN_KEY": ADMIN_KEY,
        "AUDIOTEXT_TWILIO__AUTH_TOKEN": TWILIO_TOKEN,
        "AUDIOTEXT_KAFKA__INSTANCE_ID": "compose",
        "AUDIOTEXT_GATEWAY__PORT": str(stack.port),
        "AUDIOTEXT_GATEWAY__API_URL": f"http://127.0.0.1:{stack.api_port}",
        "AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET": "a-secret-of-some-length",
        "AUDIOTEXT_GATEWAY__DRAIN_TIMEOUT_S": "20",
        "AUDIOTEXT_API__PORT": str(stack.api_port),
        "AUDIOTEXT_API__SESSION_SECRET": "another-secret-of-some-length",
    }


def _options(name: str, service: Mapping[str, Any], image: str, variables: Mapping[str, str]) -> list[str]:
    """`docker run`'s arguments for a service of Compose's."""
    limits = service["deploy"]["resources"]["limits"]
    options = ["--network=host", "--memory", limits["memory"], "--cpus", limits["cpus"]]
    options += ["--read-only"] * service["read_only"]
    for mount in service["tmpfs"]:
        options += ["--tmpfs", mount]
    for capability in service["cap_drop"]:
        options += ["--cap-drop", capability]
    for option in service["security_opt"]:
        options += ["--security-opt", option]
    for volume in service.get("volumes", ()):
        options += ["--volume", f"{_RUN_ID}-{volume}"]
    own = {key: value for key, value in service["environment"].items() if not key.startswith("AUDIOTEXT_")}
    for key, value in {**variables, **own}.items():
        options += ["--env", f"{key}={value}"]
    command = service["command"]
    if entrypoint := service.get("entrypoint"):
        options += ["--entrypoint", entrypoint[0]]
        command = [*entrypoint[1:], *command]
    return [*options, image, *command]


def _healthy(name: str, service: Mapping[str, Any], ports: Mapping[str, int]) -> bool:
    """Compose's health check, at the port that the service has here."""
    _, *check = service["healthcheck"]["test"]
    for port, here in ports.items():
        check = [word.replace(f":{port}/", f":{here}/") for word in check]
    done = subprocess.run(["docker", "exec", f"{_RUN_ID}-{name}", *check], capture_output=True, check=False)
    return done.returncode == 0


def _until(what: str, condition: Any) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError):
            if condition():
                print(what)
                return
        assert time.monotonic() < deadline, f"not within {_START_S} s: {what}"
        time.sleep(0.2)


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
