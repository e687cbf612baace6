"""Soniox in the table of providers."""

from core.settings import Settings
from pipelines.providers.spec import ProviderSpec, SpeechEngine, require_secret
from schemas.provider_callbacks import WEBHOOK_PATH
from sinks.object_store import ObjectStore


def _key(settings: Settings) -> str:
    return require_secret(settings, "soniox", "AUDIOTEXT_STT__PROVIDER=soniox", " (console.soniox.com)")


def _require(settings: Settings) -> None:
    _key(settings)


def _callback_url(settings: Settings) -> str | None:
    if not settings.soniox.webhook_secret or not settings.public_url:
        return None
    return settings.base_url + WEBHOOK_PATH


def _create(settings: Settings) -> SpeechEngine:
    from pipelines.providers.soniox.transcriber import Soniox  # noqa: PLC0415

    return Soniox(
        settings.soniox,
        _key(settings),
        language=settings.stt.language,
        objects=ObjectStore(settings.s3) if settings.soniox.send == "url" else None,
        webhook_url=_callback_url(settings),
    )


# A process only waits for Soniox, so it can have many calls there at the same time.
SONIOX: ProviderSpec[SpeechEngine] = ProviderSpec(
    name="soniox", create=_create, require=_require, section="soniox", concurrency=16, callback_url=_callback_url
)
