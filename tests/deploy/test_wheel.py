"""The wheel: it contains every file that the program reads, and its metadata has our own name."""

import email
import email.message
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core import package
from pipelines.providers.common import model_files

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "audiotext", "core", "gateway", "pipelines", "redpanda", "schemas", "sinks")
_CODE = ("*.pyc", "__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Builds the wheel from a copy of the sources, so that no file of an earlier build is in it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*_CODE))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target))
    subprocess.run((*command, str(source)), check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_contains_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    """Compares the files in the wheel with those in the source tree.

    A missing file, for example of the web page or a migration, is found only after an installation from the wheel: an
    editable installation reads the source tree.
    """
    expected = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    found = {name for name in wheel.namelist() if name.partition("/")[0] in PACKAGES}
    assert expected - found == set()
    assert {"api/ui/index.html", "audiotext/models.lock", "redpanda/topics.yaml"} <= found
    assert any(name.endswith(".sql") for name in found)


def test_the_metadata_has_our_own_name(wheel: zipfile.ZipFile) -> None:
    """Reads name, version, extras and command of the wheel.

    `audiotext` is the name of a stranger's package on the index, so no requirement may name it, and the extra `local`
    includes the extra `models` by our own name.
    """
    metadata = _metadata(wheel)
    assert (metadata["Name"], metadata["Version"]) == ("audiotext-live", package.VERSION)
    assert set(metadata.get_all("Provides-Extra", [])) == {"gemini", "models", "local", "dev"}
    requirements = metadata.get_all("Requires-Dist", [])
    assert 'audiotext-live[models]; extra == "local"' in requirements
    assert not [one for one in requirements if one.startswith(("audiotext[", "audiotext ", "torch"))]
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "audiotext = audiotext.cli.main:main" in wheel.read(entry_points).decode()


def test_the_lock_of_the_models_names_their_packages(wheel: zipfile.ZipFile) -> None:
    """Reads the lock in the wheel that `audiotext models install` uses: it has each package of the default models.

    A failure means that the command ends without one of the models.
    """
    lines = wheel.read("audiotext/models.lock").decode().splitlines()
    locked = {line.partition("==")[0].replace("-", "_") for line in lines if "==" in line and not line.startswith("#")}
    models = (model_files.WHISPER["base"], model_files.MINILM)
    assert {part.package for model in models for file in model.files for part in file.parts} == locked
    assert sum("--hash=sha256:" in line for line in lines) >= len(locked)


def _metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))
