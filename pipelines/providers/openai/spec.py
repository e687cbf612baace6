"""OpenAI and compatible servers in the table of providers."""

from core.settings import OPENAI_URL, Settings
from pipelines.providers.spec import ProviderSpec, SpeechEngine, require_secret


def _require(settings: Settings) -> None:
    """Requires a key for OpenAI itself. A server of your own may have none."""
    if settings.openai.base_url.rstrip("/") == OPENAI_URL:
        hint = ", or AUDIOTEXT_OPENAI__BASE_URL of a server of your own"
        require_secret(settings, "openai", "AUDIOTEXT_STT__PROVIDER=openai", hint)


def _create(settings: Settings) -> SpeechEngine:
    from pipelines.providers.openai.transcriber import OpenAi  # noqa: PLC0415

    return OpenAi(settings.openai, language=settings.stt.language, timeout_s=settings.stt.timeout_s)


OPENAI: ProviderSpec[SpeechEngine] = ProviderSpec(
    name="openai", create=_create, require=_require, section="openai", concurrency=4
)
