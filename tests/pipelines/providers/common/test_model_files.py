"""Model files: assembled, verified and built once."""

import hashlib
import multiprocessing
from pathlib import Path

import pytest

from pipelines.providers.common import model_files
from pipelines.providers.common.model_files import (
    ModelError,
    ModelFile,
    PackagedModel,
    Source,
    build_once,
    model_directory,
)

pytestmark = pytest.mark.server

CONTENT = b"weights of a small model"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """Returns a model in two packages, each with half of one file."""
    site = tmp_path / "site"
    for package, half in (("fake_part1", CONTENT[:10]), ("fake_part2", CONTENT[10:])):
        (site / package / "data").mkdir(parents=True)
        (site / package / "__init__.py").touch()
        (site / package / "data" / "half").write_bytes(half)
    monkeypatch.syspath_prepend(str(site))
    parts = (Source("fake_part1", "data/half"), Source("fake_part2", "data/half"))
    return PackagedModel(
        "fake", "pip install fake-model==1.0", (ModelFile("model.bin", parts, hashlib.sha256(CONTENT).hexdigest()),)
    )


def test_parts_are_joined_once(packaged: PackagedModel, tmp_path: Path) -> None:
    """Assembles a file from two halves, then removes the packages and requests it again.

    The second time nothing may be read: assembling and hashing 145 MB at every start would be slow.
    """
    cache = tmp_path / "cache"

    directory = model_directory(packaged, cache)
    assert (directory / "model.bin").read_bytes() == CONTENT

    for package in ("fake_part1", "fake_part2"):
        (tmp_path / "site" / package / "data" / "half").unlink()
    assert model_directory(packaged, cache) == directory


def test_weights_that_differ_from_the_original_are_rejected(packaged: PackagedModel, tmp_path: Path) -> None:
    """Changes one byte of a part.

    No file may be left where it could be loaded, and the message must name the fix: the publishers are unknown.
    """
    (tmp_path / "site" / "fake_part2" / "data" / "half").write_bytes(CONTENT[10:-1] + b"L")
    cache = tmp_path / "cache"

    with pytest.raises(ModelError, match=r"differs from the original.*pip install --force-reinstall"):
        model_directory(packaged, cache)

    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_model_that_is_not_installed_names_the_package(packaged: PackagedModel, tmp_path: Path) -> None:
    """Removes a package. The error must name the command that installs it, before anything is written."""
    missing = PackagedModel(
        "tiny", "pip install meeting==0.1", (ModelFile("m", (Source("no_such_package", "m"),), ""),)
    )

    with pytest.raises(ModelError, match=r"tiny is not installed: run `pip install meeting==0\.1`"):
        model_files.require_installed(missing)
    with pytest.raises(ModelError, match="not installed"):
        model_directory(missing, tmp_path / "cache")


def _build_slowly(target: Path, tally: Path) -> None:
    def build(directory: Path) -> None:
        with tally.open("a") as file:
            file.write("built\n")
        (directory / "one").write_bytes(b"1" * 1_000_000)
        (directory / "two").write_bytes(b"2" * 1_000_000)

    built = build_once(target, build)
    # What a process gets must be whole, whoever built it.
    assert sorted(path.name for path in built.iterdir()) == ["one", "two"]


def test_two_processes_that_want_the_same_model_build_it_once(tmp_path: Path) -> None:
    """Requests a model from four processes at the same moment. All must get it complete, and one may build it."""
    target, tally = tmp_path / "cache" / "model", tmp_path / "tally"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_build_slowly, args=(target, tally)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert tally.read_text() == "built\n"


def test_files_of_a_killed_process_are_not_used(tmp_path: Path) -> None:
    """Leaves files of a process that was killed while it wrote. They must not be part of the model."""
    target = tmp_path / "model"
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "half-written").touch()

    directory = build_once(target, lambda folder: (folder / "whole").touch())

    assert [path.name for path in directory.iterdir()] == ["whole"]
    assert not (tmp_path / ".model.partial").exists()


def test_a_failed_build_can_be_tried_again(tmp_path: Path) -> None:
    """Fails a build, as a full disk does. The next one must start from an empty directory and succeed."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        build_once(tmp_path / "model", fail)

    assert build_once(tmp_path / "model", lambda folder: None).is_dir()


def test_the_packaged_whisper_is_systrans(model_cache: Path) -> None:
    """Assembles the installed packages.

    The files must match Systran's SHA-256 and be complete, so that nothing is downloaded.
    """
    directory = model_files.whisper_directory("base", model_cache)

    names = {path.name for path in directory.iterdir()}
    assert names == {"model.bin", "config.json", "tokenizer.json", "vocabulary.txt"}


def test_an_explicit_path_is_taken_as_it_is(tmp_path: Path, model_cache: Path) -> None:
    """Uses the path of a CTranslate2 model. A directory without a required file must be rejected."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("model.bin", "config.json"):
        (own / name).touch()

    with pytest.raises(ModelError, match=r"tokenizer\.json missing"):
        model_files.whisper_directory(str(own), model_cache)

    (own / "tokenizer.json").touch()
    assert model_files.whisper_directory(str(own), model_cache) == own
