"""Which engine does the work: from the settings to a provider.

Engines are imported when they are chosen, since their libraries are large and not in the base installation.
"""

import importlib.util
import json
import logging
import threading
from pathlib import Path
from typing import Protocol, runtime_checkable

from core.settings import OPENAI_URL, Settings, SettingsError
from pipelines.billing.pricing import token_rates
from pipelines.providers.base import Embedder, RemoteJobs, SpeechToText, Summarizer
from schemas.provider_callbacks import WEBHOOK_PATH
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)


@runtime_checkable
class LocalModel(Protocol):
    """A provider whose model must be in memory before it can work. `load` blocks, and may be called again."""

    def load(self) -> None: ...


def model_cache(settings: Settings) -> Path:
    """Where models are kept that are made of packaged weights."""
    return settings.data_dir / "models"


def speech_to_text(settings: Settings) -> SpeechToText | RemoteJobs:
    """The engine of `stt.provider`. Raises SettingsError, which names what is missing or can be used."""
    stt = settings.stt
    if stt.provider == "soniox":
        return _soniox(settings)
    if stt.provider == "openai":
        return _openai(settings)
    try:
        from pipelines.providers.whisper.transcriber import Whisper  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed("AUDIOTEXT_STT__PROVIDER=whisper", error) from error
    return Whisper(stt.model, model_cache(settings), stt.language, stt.calls)


def refuse_incomplete(settings: Settings) -> None:
    """Raises SettingsError, which names what is missing, if an engine that was chosen lacks its key. Imports none."""
    if settings.stt.provider == "soniox":
        _soniox_key(settings)
    if settings.stt.provider == "openai":
        _refuse_openai_without_key(settings)
    if settings.summary.provider == "gemini":
        _gemini_key(settings, "SUMMARY", settings.gemini.summary_model)
    if settings.embedding.provider == "gemini":
        _gemini_key(settings, "EMBEDDING", settings.gemini.embedding_model)


def _soniox(settings: Settings) -> RemoteJobs:
    key = _soniox_key(settings)
    from pipelines.providers.soniox.transcriber import Soniox  # noqa: PLC0415

    soniox = settings.soniox
    return Soniox(
        soniox,
        key,
        language=settings.stt.language,
        objects=ObjectStore(settings.s3) if soniox.send == "url" else None,
        webhook_url=webhook_url(settings),
    )


def _soniox_key(settings: Settings) -> str:
    """The API key. Raises SettingsError."""
    if settings.soniox.api_key is None:
        raise SettingsError("AUDIOTEXT_STT__PROVIDER=soniox needs AUDIOTEXT_SONIOX__API_KEY (console.soniox.com)")
    return settings.soniox.api_key.get_secret_value()


def _openai(settings: Settings) -> SpeechToText:
    _refuse_openai_without_key(settings)
    from pipelines.providers.openai.transcriber import OpenAi  # noqa: PLC0415

    return OpenAi(settings.openai, language=settings.stt.language, timeout_s=settings.stt.timeout_s)


def _refuse_openai_without_key(settings: Settings) -> None:
    if settings.openai.api_key is None and settings.openai.base_url.rstrip("/") == OPENAI_URL:
        raise SettingsError(
            "AUDIOTEXT_STT__PROVIDER=openai needs AUDIOTEXT_OPENAI__API_KEY, or AUDIOTEXT_OPENAI__BASE_URL of a server "
            "of your own"
        )


def webhook_url(settings: Settings) -> str | None:
    """Where the speech-to-text provider can tell that an order is done; None if it cannot, or is not to."""
    if settings.stt.provider != "soniox" or not settings.soniox.webhook_secret or not settings.public_url:
        return None
    return settings.base_url + WEBHOOK_PATH


def summarizer(settings: Settings) -> Summarizer:
    """The engine of `summary.provider`. Raises SettingsError, which names what is missing."""
    if settings.summary.provider == "gemini":
        key = _gemini_key(settings, "SUMMARY", settings.gemini.summary_model)
        from pipelines.providers.gemini.summarizer import GeminiSummarizer  # noqa: PLC0415

        return GeminiSummarizer(settings.gemini, settings.summary, key)
    from pipelines.providers.extractive.summarizer import Extractive  # noqa: PLC0415

    return Extractive()


def _gemini_key(settings: Settings, section: str, model: str) -> str:
    """The API key, once everything else is there that Gemini needs. Raises SettingsError."""
    setting = f"AUDIOTEXT_{section}__PROVIDER=gemini"
    key = settings.gemini.api_key.get_secret_value().strip() if settings.gemini.api_key else ""
    if not key:
        raise SettingsError(f"{setting} needs AUDIOTEXT_GEMINI__API_KEY (aistudio.google.com/apikey)")
    if importlib.util.find_spec("google.genai") is None:
        raise SettingsError(f"{setting} needs Google's client: pip install 'audiotext[gemini]'")
    try:
        token_rates(model.removeprefix("models/"), settings.pricing)
    except KeyError:
        example = json.dumps({model: {"input": "0.30", "output": "2.50"}})
        raise SettingsError(
            f"{setting}: nobody knows what {model} costs; say so, per million tokens, like "
            f"AUDIOTEXT_PRICING__GEMINI_RATES='{example}'"
        ) from None
    return key


def embedder(settings: Settings) -> Embedder:
    """The engine of `embedding.provider`. Raises SettingsError, which names what is missing."""
    if settings.embedding.provider == "gemini":
        key = _gemini_key(settings, "EMBEDDING", settings.gemini.embedding_model)
        from pipelines.providers.gemini.embedder import GeminiEmbedder  # noqa: PLC0415

        return GeminiEmbedder(settings.gemini, key, settings.embedding.timeout_s)
    try:
        from pipelines.providers.minilm.embedder import MiniLm  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed("AUDIOTEXT_EMBEDDING__PROVIDER=local", error) from error
    return MiniLm(model_cache(settings))


def load_in_background(provider: object) -> None:
    """Loads a local model in a thread, so that the first call does not wait for it. For others does nothing."""
    if isinstance(provider, LocalModel):
        threading.Thread(target=_load, args=(provider,), name="load-model", daemon=True).start()


def _load(provider: LocalModel) -> None:
    try:
        provider.load()
    except Exception as error:
        # The first job will try again, and its failure has an owner.
        logger.error("the model cannot be loaded yet: %s", error)


def _not_installed(setting: str, error: ImportError) -> SettingsError:
    return SettingsError(f"{setting} needs packages that are not installed ({error}): pip install 'audiotext[local]'")
