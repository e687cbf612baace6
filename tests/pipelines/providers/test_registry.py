"""The tables of providers, and the engines that the settings select from them."""

import threading
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr

from core.settings import (
    EmbeddingSettings,
    GeminiSettings,
    OpenAiSettings,
    PricingSettings,
    Settings,
    SettingsError,
    SonioxSettings,
    SttSettings,
    SummarySettings,
    TokenRates,
)
from pipelines.providers import registry
from pipelines.providers.base import RemoteJobs


@pytest.fixture
def settings(model_cache: Path) -> Settings:
    """Returns the default settings, with the models of the test session."""
    return Settings(data_dir=model_cache.parent)


def test_the_defaults_run_on_this_machine(settings: Settings) -> None:
    """Creates the default engine of every stage. A failure means that the defaults need a network or a key."""
    assert (registry.speech_to_text(settings).name, registry.speech_to_text(settings).model) == ("whisper", "base")
    assert registry.summarizer(settings).name == "extractive"
    assert (registry.embedder(settings).name, registry.embedder(settings).dimension) == ("local", 384)


def test_every_provider_has_its_settings() -> None:
    """Compares the tables with the settings: names, sections, prices and the documented default concurrency.

    A failure names a provider that is in a table and not in the settings, or the other way round.
    """
    tables = (
        (SttSettings, registry.SPEECH_TO_TEXT),
        (SummarySettings, registry.SUMMARIES),
        (EmbeddingSettings, registry.EMBEDDINGS),
    )
    for section, table in tables:
        assert set(get_args(section.model_fields["provider"].annotation)) == set(table)
        assert {spec.section for spec in table.values()} - {None} <= set(Settings.model_fields)

    pricing = PricingSettings()
    documented = SttSettings.model_fields["concurrency"].description or ""
    for name, spec in registry.SPEECH_TO_TEXT.items():
        assert pricing.per_hour(name) >= 0
        assert f"{name} {spec.concurrency}" in documented


def test_concurrency_depends_on_the_provider(settings: Settings) -> None:
    """Reads the number of calls per process for two providers, and with a setting, which takes precedence.

    Whisper uses the cores of the machine; with Soniox a process only waits.
    """
    soniox = settings.model_copy(update={"stt": SttSettings(provider="soniox")})
    three = settings.model_copy(update={"stt": SttSettings(provider="soniox", concurrency=3)})
    assert registry.transcription_concurrency(settings) == 1
    assert registry.transcription_concurrency(soniox) == 16
    assert registry.transcription_concurrency(three) == 3


def test_a_paid_engine_needs_its_key(settings: Settings) -> None:
    """Creates Soniox without and with its key. Without it the error must name the setting, before anything starts."""
    soniox = settings.model_copy(update={"stt": SttSettings(provider="soniox")})
    for create in (registry.require_settings, registry.speech_to_text):
        with pytest.raises(SettingsError, match="AUDIOTEXT_SONIOX__API_KEY"):
            create(soniox)

    keyed = soniox.model_copy(update={"soniox": SonioxSettings(api_key=SecretStr("key"))})
    registry.require_settings(keyed)
    engine = registry.speech_to_text(keyed)
    assert isinstance(engine, RemoteJobs)
    assert (engine.name, engine.model) == ("soniox", "stt-async-v5")


def test_your_own_server_needs_no_key(settings: Settings) -> None:
    """Creates the engine for OpenAI itself, which needs a key, and for another server, which does not.

    The message must name both solutions: a key, or the address of another server.
    """
    openai = settings.model_copy(update={"stt": SttSettings(provider="openai")})
    with pytest.raises(SettingsError, match=r"AUDIOTEXT_OPENAI__API_KEY.*AUDIOTEXT_OPENAI__BASE_URL"):
        registry.speech_to_text(openai)

    own = OpenAiSettings(base_url="http://localhost:8000/v1", model="Systran/faster-whisper-small")
    engine = registry.speech_to_text(openai.model_copy(update={"openai": own}))
    assert (engine.name, engine.model) == ("openai", "Systran/faster-whisper-small")


def test_callbacks_need_a_secret_and_a_public_url(settings: Settings) -> None:
    """Reads the callback address with all settings, then without each of them: then there must be no callbacks."""
    full = settings.model_copy(
        update={
            "stt": SttSettings(provider="soniox"),
            "soniox": SonioxSettings(webhook_secret=SecretStr("0123456789abcdef")),
            "public_url": "https://calls.example",
        }
    )
    assert registry.callback_url(full) == "https://calls.example/v1/notices/soniox"
    for missing in ({"stt": SttSettings()}, {"soniox": SonioxSettings()}, {"public_url": None}):
        assert registry.callback_url(full.model_copy(update=missing)) is None


def test_gemini_needs_a_key_and_a_price(settings: Settings) -> None:
    """Creates Gemini's engines without a key, and with a model whose price is unknown.

    Both must be errors: without a price every ledger line would state a cost of 0.
    """
    gemini = settings.model_copy(update={"summary": SummarySettings(provider="gemini")})
    keyed = gemini.model_copy(update={"gemini": GeminiSettings(api_key=SecretStr("key"))})
    other = keyed.model_copy(update={"gemini": GeminiSettings(api_key=SecretStr("key"), summary_model="gemini-9")})
    priced = other.model_copy(
        update={"pricing": PricingSettings(gemini_rates={"gemini-9": TokenRates(input=Decimal(1))})}
    )

    with pytest.raises(SettingsError, match="AUDIOTEXT_GEMINI__API_KEY"):
        registry.summarizer(gemini)
    with pytest.raises(SettingsError, match=r"gemini-9 .*AUDIOTEXT_PRICING__GEMINI_RATES"):
        registry.summarizer(other)
    assert registry.summarizer(keyed).model == "gemini-3.5-flash-lite"
    assert registry.summarizer(priced).model == "gemini-9"

    embedding = keyed.model_copy(update={"embedding": EmbeddingSettings(provider="gemini")})
    assert (registry.embedder(embedding).model, registry.embedder(embedding).dimension) == ("gemini-embedding-2", 768)
    with pytest.raises(SettingsError, match="AUDIOTEXT_GEMINI__API_KEY"):
        registry.embedder(embedding.model_copy(update={"gemini": GeminiSettings()}))


def test_a_local_model_is_loaded_while_the_service_starts() -> None:
    """Loads an engine with a local model in the background, and passes one without a model, which must be ignored.

    A failure means that the first call has to wait for the model.
    """
    loaded = threading.Event()

    class Local:
        def load(self) -> None:
            loaded.set()

    registry.load_in_background(Local())
    assert loaded.wait(5)
    registry.load_in_background(object())


def test_a_model_that_fails_to_load_does_not_end_the_service(caplog: pytest.LogCaptureFixture) -> None:
    """Loads a model that fails. The error must be logged, and no thread may end the service: the first job retries."""
    tried = threading.Event()

    class Broken:
        def load(self) -> None:
            tried.set()
            raise OSError("no space left on device")

    registry.load_in_background(Broken())
    assert tried.wait(5)
    for thread in threading.enumerate():
        if thread.name == "load-model":
            thread.join(5)
    assert "no space left on device" in caplog.text
