"""Engines that a replay would use, without loading or requesting them."""

from collections.abc import Callable
from dataclasses import dataclass

from core.settings import Settings
from pipelines.providers import registry
from pipelines.providers.base import Embedder, RemoteJobs, SpeechToText, Summarizer, config_hash_for
from pipelines.replay.selection import TRANSCRIBING
from schemas.events import ReplayStage


@dataclass(frozen=True, slots=True)
class Engine:
    """Name and model of an engine in price lists, and the hash of its configuration for a tenant."""

    provider: str
    model: str
    hash_for: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ReplayEngines:
    """Engines of a replay; None for a stage that is not part of the replay."""

    transcribe: Engine | None = None
    summarize: Engine | None = None
    embed: Engine | None = None


def engines_of(settings: Settings, stage: ReplayStage) -> ReplayEngines:
    """Returns the engines of a replay from that stage on, with these settings. May import their libraries.

    Raises SettingsError for an engine that cannot be used.
    """
    return ReplayEngines(
        transcribe=_engine(registry.speech_to_text(settings)) if stage in TRANSCRIBING else None,
        summarize=_engine(registry.summarizer(settings)) if stage != "embedding" else None,
        embed=_engine(registry.embedder(settings)) if stage != "summary" else None,
    )


def _engine(provider: SpeechToText | RemoteJobs | Summarizer | Embedder) -> Engine:
    return Engine(provider.name, provider.model, config_hash_for(provider))
