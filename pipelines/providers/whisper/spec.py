"""Whisper in the table of providers."""

from core.settings import Settings
from pipelines.providers.spec import ProviderSpec, SpeechEngine, model_cache


def _create(settings: Settings) -> SpeechEngine:
    from pipelines.providers.whisper.transcriber import Whisper  # noqa: PLC0415

    stt = settings.stt
    return Whisper(stt.model, model_cache(settings), stt.language, stt.concurrency or WHISPER.concurrency)


# Whisper uses the cores of this machine, so one process transcribes one call at a time.
WHISPER: ProviderSpec[SpeechEngine] = ProviderSpec(name="whisper", create=_create, concurrency=1, extra="local")
