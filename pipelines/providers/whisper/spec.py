"""Whisper in the table of providers."""

from importlib.util import find_spec

from core import package
from core.settings import Settings, SettingsError
from pipelines.providers.common import model_files
from pipelines.providers.spec import ProviderSpec, SpeechEngine, model_cache


def _create(settings: Settings) -> SpeechEngine:
    from pipelines.providers.whisper.transcriber import Whisper  # noqa: PLC0415

    stt = settings.stt
    return Whisper(stt.model, model_cache(settings), stt.language, stt.concurrency or WHISPER.concurrency)


def _require(settings: Settings) -> None:
    """Raises SettingsError with the command that installs the engine or the model."""
    if find_spec("faster_whisper") is None:
        raise SettingsError(f"speech to text by whisper is not installed: {package.install_extra('local')}")
    model_files.require_whisper(settings.stt.model, model_cache(settings))


# Whisper uses the cores of this machine, so one process transcribes one call at a time.
WHISPER: ProviderSpec[SpeechEngine] = ProviderSpec(
    name="whisper",
    create=_create,
    require=_require,
    concurrency=1,
    packaged_models=tuple(model_files.WHISPER),
    extra="local",
)
