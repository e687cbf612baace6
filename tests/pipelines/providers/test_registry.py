"""From settings to engines."""

import threading
from decimal import Decimal
from pathlib import Path

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
    """The defaults, with the session's models."""
    return Settings(data_dir=model_cache.parent)


def test_the_defaults_run_on_this_machine(settings: Settings) -> None:
    """Without a setting every stage has an engine that needs no network and no key."""
    assert (registry.speech_to_text(settings).name, registry.speech_to_text(settings).model) == ("whisper", "base")
    assert registry.summarizer(settings).name == "extractive"
    assert (registry.embedder(settings).name, registry.embedder(settings).dimension) == ("local", 384)


def test_a_paid_engine_needs_its_key(settings: Settings) -> None:
    """Soniox without a key: the service does not start and names the setting; with one it is Soniox that is ordered
    from."""
    asked = settings.model_copy(update={"stt": SttSettings(provider="soniox")})
    with pytest.raises(SettingsError, match="AUDIOTEXT_SONIOX__API_KEY"):
        registry.speech_to_text(asked)

    keyed = asked.model_copy(update={"soniox": SonioxSettings(api_key=SecretStr("key"))})
    engine = registry.speech_to_text(keyed)
    assert isinstance(engine, RemoteJobs)
    assert (engine.name, engine.model) == ("soniox", "stt-async-v5")


def test_a_server_of_ones_own_needs_no_key(settings: Settings) -> None:
    """OpenAI itself needs a key, and the message names both ways out; another server may have none."""
    asked = settings.model_copy(update={"stt": SttSettings(provider="openai")})
    with pytest.raises(SettingsError, match=r"AUDIOTEXT_OPENAI__API_KEY.*AUDIOTEXT_OPENAI__BASE_URL"):
        registry.speech_to_text(asked)

    own = OpenAiSettings(base_url="http://localhost:8000/v1", model="Systran/faster-whisper-small")
    engine = registry.speech_to_text(asked.model_copy(update={"openai": own}))
    assert (engine.name, engine.model) == ("openai", "Systran/faster-whisper-small")


def test_providers_tell_where_they_want_to_be_told(settings: Settings) -> None:
    """A webhook needs a secret, a public URL and a provider that calls it."""
    full = settings.model_copy(
        update={
            "stt": SttSettings(provider="soniox"),
            "soniox": SonioxSettings(webhook_secret=SecretStr("0123456789abcdef")),
            "public_url": "https://calls.example",
        }
    )
    assert registry.webhook_url(full) == "https://calls.example/v1/notices/soniox"
    for without in ({"stt": SttSettings()}, {"soniox": SonioxSettings()}, {"public_url": None}):
        assert registry.webhook_url(full.model_copy(update=without)) is None


def test_gemini_needs_a_key_and_a_price(settings: Settings) -> None:
    """Without a key the service does not start; nor with a model whose price nobody knows, whose lines would say it
    costs nothing."""
    asked = settings.model_copy(update={"summary": SummarySettings(provider="gemini")})
    keyed = asked.model_copy(update={"gemini": GeminiSettings(api_key=SecretStr("key"))})
    other = keyed.model_copy(update={"gemini": GeminiSettings(api_key=SecretStr("key"), summary_model="gemini-9")})
    priced = other.model_copy(
        update={"pricing": PricingSettings(gemini_rates={"gemini-9": TokenRates(input=Decimal(1))})}
    )

    with pytest.raises(SettingsError, match="AUDIOTEXT_GEMINI__API_KEY"):
        registry.summarizer(asked)
    with pytest.raises(SettingsError, match=r"gemini-9 .*AUDIOTEXT_PRICING__GEMINI_RATES"):
        registry.summarizer(other)
    assert registry.summarizer(keyed).model == "gemini-3.5-flash-lite"
    assert registry.summarizer(priced).model == "gemini-9"

    embedding = keyed.model_copy(update={"embedding": EmbeddingSettings(provider="gemini")})
    assert (registry.embedder(embedding).model, registry.embedder(embedding).dimension) == ("gemini-embedding-2", 768)
    with pytest.raises(SettingsError, match="AUDIOTEXT_GEMINI__API_KEY"):
        registry.embedder(embedding.model_copy(update={"gemini": GeminiSettings()}))


def test_a_local_model_is_loaded_while_the_service_starts() -> None:
    """A provider with a model is loaded in a thread; one without is left alone. Otherwise the first call would wait
    for the model."""
    loaded = threading.Event()

    class Local:
        def load(self) -> None:
            loaded.set()

    registry.load_in_background(Local())
    assert loaded.wait(5)
    registry.load_in_background(object())


def test_a_model_that_fails_to_load_does_not_end_the_service(caplog: pytest.LogCaptureFixture) -> None:
    """Loading fails in the background: it is logged, and the first job, which can be retried, will say so too."""
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
