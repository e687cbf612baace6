"""Describes a provider to the registry: its name, the settings it needs, and how to create its engine.

A spec is light to import. The engine's module, whose libraries may be large and not installed, is imported by `create`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from core.settings import Settings, SettingsError
from pipelines.providers.base import RemoteJobs, SpeechToText

T = TypeVar("T")

SpeechEngine = SpeechToText | RemoteJobs


def _no_requirements(_settings: Settings) -> None:
    """Accepts all settings."""


def _no_callbacks(_settings: Settings) -> str | None:
    """Returns None: the provider sends no callbacks."""
    return None


@dataclass(frozen=True, slots=True)
class ProviderSpec(Generic[T]):
    """A provider of one kind of engine.

    The price of an hour of audio is the setting `pricing.<name>_per_hour`.

    Attributes:
        name: Value of the setting `provider` that selects it.
        create: Creates the engine. Imports its module.
        require: Raises SettingsError if a setting is missing, such as the API key. Imports no engine.
        section: Section of the settings that belongs to the provider; None if it has no section.
        concurrency: Default of the calls that one process handles at the same time. Only speech to text uses it.
        callback_url: Returns the address at which the provider reports a finished order; None without callbacks.
        packaged_models: Models to choose by name, if every other value of the setting `model` is a path on this
            machine; None if the provider itself has the models.
        extra: Extra of our distribution that installs the engine's libraries; None if the base has them.
    """

    name: str
    create: Callable[[Settings], T]
    require: Callable[[Settings], None] = _no_requirements
    section: str | None = None
    concurrency: int = 1
    callback_url: Callable[[Settings], str | None] = _no_callbacks
    packaged_models: tuple[str, ...] | None = None
    extra: str | None = None


def model_cache(settings: Settings) -> Path:
    """Returns the directory for models that are built from packaged weights."""
    return settings.data_dir / "models"


def require_secret(settings: Settings, section: str, selection: str, hint: str) -> str:
    """Returns the API key of a settings section.

    Args:
        settings: All settings.
        section: Section with the field `api_key`.
        selection: Setting that selects the provider, for the message.
        hint: Source of the key or an alternative, for the message.

    Raises:
        SettingsError: The key is missing or blank.
    """
    secret = getattr(settings, section).api_key
    key: str = secret.get_secret_value().strip() if secret else ""
    if not key:
        raise SettingsError(f"{selection} needs AUDIOTEXT_{section.upper()}__API_KEY{hint}")
    return key
