"""Tables of the providers, and the engines that the settings select from them.

To add a provider, write its folder with a `spec.py`, add the spec to a table here, and add its settings: the name to
`provider` in core/settings/engines.py, its section, and for speech to text `<name>_per_hour` in
core/settings/pricing.py.
"""

import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from core import package
from core.settings import Settings, SettingsError
from pipelines.providers.base import Embedder, Summarizer
from pipelines.providers.extractive.spec import EXTRACTIVE
from pipelines.providers.gemini.spec import GEMINI_EMBEDDINGS, GEMINI_SUMMARIES
from pipelines.providers.minilm.spec import MINILM
from pipelines.providers.openai.spec import OPENAI
from pipelines.providers.soniox.spec import SONIOX
from pipelines.providers.spec import ProviderSpec, SpeechEngine
from pipelines.providers.whisper.spec import WHISPER

logger = logging.getLogger(__name__)

T = TypeVar("T")


def _table(*specs: ProviderSpec[T]) -> Mapping[str, ProviderSpec[T]]:
    return {spec.name: spec for spec in specs}


SPEECH_TO_TEXT = _table(WHISPER, SONIOX, OPENAI)
SUMMARIES = _table(EXTRACTIVE, GEMINI_SUMMARIES)
EMBEDDINGS = _table(MINILM, GEMINI_EMBEDDINGS)


@runtime_checkable
class LocalModel(Protocol):
    """Engine whose model must be in memory before it can work."""

    def load(self) -> None:
        """Loads the model unless it is loaded. Blocks meanwhile."""
        ...


def speech_to_text(settings: Settings) -> SpeechEngine:
    """Creates the engine that `stt.provider` selects.

    Raises:
        SettingsError: A setting or a package is missing. The message names it.
    """
    return _create("STT", SPEECH_TO_TEXT[settings.stt.provider], settings)


def summarizer(settings: Settings) -> Summarizer:
    """Creates the engine that `summary.provider` selects.

    Raises:
        SettingsError: A setting or a package is missing. The message names it.
    """
    return _create("SUMMARY", SUMMARIES[settings.summary.provider], settings)


def embedder(settings: Settings) -> Embedder:
    """Creates the engine that `embedding.provider` selects.

    Raises:
        SettingsError: A setting or a package is missing. The message names it.
    """
    return _create("EMBEDDING", EMBEDDINGS[settings.embedding.provider], settings)


def provider_sections(engine: str) -> frozenset[str]:
    """Returns the sections of the settings that belong to the providers of an engine: `stt`, `summary` or `embedding`.

    Raises:
        KeyError: The engine is unknown.
    """
    tables: Mapping[str, Mapping[str, ProviderSpec[Any]]] = {
        "stt": SPEECH_TO_TEXT,
        "summary": SUMMARIES,
        "embedding": EMBEDDINGS,
    }
    return frozenset(spec.section for spec in tables[engine].values() if spec.section)


def require_settings(settings: Settings) -> None:
    """Checks the settings of the selected providers. Imports no engine.

    Raises:
        SettingsError: A setting is missing, such as an API key. The message names it.
    """
    SPEECH_TO_TEXT[settings.stt.provider].require(settings)
    SUMMARIES[settings.summary.provider].require(settings)
    EMBEDDINGS[settings.embedding.provider].require(settings)


def transcription_concurrency(settings: Settings) -> int:
    """Returns the number of calls that one process transcribes at the same time."""
    return settings.stt.concurrency or SPEECH_TO_TEXT[settings.stt.provider].concurrency


def callback_url(settings: Settings) -> str | None:
    """Returns the address at which the speech-to-text provider reports a finished order; None without callbacks."""
    return SPEECH_TO_TEXT[settings.stt.provider].callback_url(settings)


def load_in_background(engine: object) -> None:
    """Loads a local model in a thread, so that the first call does not wait for it. Ignores other engines."""
    if isinstance(engine, LocalModel):
        threading.Thread(target=_load, args=(engine,), name="load-model", daemon=True).start()


def _create(section: str, spec: ProviderSpec[T], settings: Settings) -> T:
    spec.require(settings)
    try:
        return spec.create(settings)
    except ImportError as error:
        if spec.extra is None:
            raise
        raise SettingsError(
            f"AUDIOTEXT_{section}__PROVIDER={spec.name} needs packages that are not installed ({error}): "
            f"{package.install_extra(spec.extra)}"
        ) from error


def _load(engine: LocalModel) -> None:
    try:
        engine.load()
    except Exception as error:
        # The first job tries again, and its failure belongs to a call.
        logger.error("the model cannot be loaded yet: %s", error)
