"""Gemini in the tables of providers: for summaries and for embeddings."""

import importlib.util
import json

from core import package
from core.settings import Settings, SettingsError
from pipelines.billing.pricing import token_rates
from pipelines.providers.base import Embedder, Summarizer
from pipelines.providers.spec import ProviderSpec, require_secret


def _key(settings: Settings, section: str, model: str) -> str:
    """Returns the API key.

    Args:
        settings: All settings.
        section: Section that selects Gemini, "SUMMARY" or "EMBEDDING".
        model: Model that the section uses.

    Raises:
        SettingsError: The key, the client library or the price of the model is missing.
    """
    selection = f"AUDIOTEXT_{section}__PROVIDER=gemini"
    key = require_secret(settings, "gemini", selection, " (aistudio.google.com/apikey)")
    if importlib.util.find_spec("google.genai") is None:
        raise SettingsError(f"{selection} needs Google's client: {package.install_extra('gemini')}")
    try:
        token_rates(model.removeprefix("models/"), settings.pricing)
    except KeyError:
        example = json.dumps({model: {"input": "0.30", "output": "2.50"}})
        raise SettingsError(
            f"{selection}: the price of {model} is unknown; set it, per million tokens, like "
            f"AUDIOTEXT_PRICING__GEMINI_RATES='{example}'"
        ) from None
    return key


def _summary_key(settings: Settings) -> str:
    return _key(settings, "SUMMARY", settings.gemini.summary_model)


def _embedding_key(settings: Settings) -> str:
    return _key(settings, "EMBEDDING", settings.gemini.embedding_model)


def _require_summaries(settings: Settings) -> None:
    _summary_key(settings)


def _require_embeddings(settings: Settings) -> None:
    _embedding_key(settings)


def _create_summarizer(settings: Settings) -> Summarizer:
    from pipelines.providers.gemini.summarizer import GeminiSummarizer  # noqa: PLC0415

    return GeminiSummarizer(settings.gemini, settings.summary, _summary_key(settings))


def _create_embedder(settings: Settings) -> Embedder:
    from pipelines.providers.gemini.embedder import GeminiEmbedder  # noqa: PLC0415

    return GeminiEmbedder(settings.gemini, _embedding_key(settings), settings.embedding.timeout_s)


GEMINI_SUMMARIES: ProviderSpec[Summarizer] = ProviderSpec(
    name="gemini", create=_create_summarizer, require=_require_summaries, section="gemini"
)
GEMINI_EMBEDDINGS: ProviderSpec[Embedder] = ProviderSpec(
    name="gemini", create=_create_embedder, require=_require_embeddings, section="gemini"
)
