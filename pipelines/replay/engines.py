"""Which engine would transcribe, without asking it for anything."""

from audiotext.settings import Settings
from pipelines.providers import registry
from pipelines.replay.selection import Engine
from schemas.ids import config_hash


def engine_of(settings: Settings) -> Engine:
    """Speech to text as these settings have it. May import the engine's library. Raises SettingsError."""
    provider = registry.speech_to_text(settings)
    return Engine(provider.name, config_hash(provider.config()))
