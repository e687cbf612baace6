"""What a replay does otherwise: the right setting is changed, and what makes no sense is refused in words."""

import pytest

from core.settings import ReplaySettings, Settings
from pipelines.replay.overrides import OverrideError, overridden, require_choice
from schemas.events import ReplayOverrides, ReplayStage


def test_the_first_engine_that_is_asked_again() -> None:
    """A model goes to whoever works first: transcribing from a recording, embedding from `embedding`."""
    settings = Settings()
    again = overridden(settings, "recording", ReplayOverrides(model="tiny.en", language="de"))
    assert (again.stt.model, again.stt.language) == ("tiny.en", "de")
    assert (settings.stt.model, settings.stt.language) == ("base", None)


def test_a_provider_with_a_model_of_its_own() -> None:
    """Soniox' model is a setting of Soniox, and stt.model is Whisper's: the replay's must reach who is asked."""
    again = overridden(Settings(), "media", ReplayOverrides(provider="soniox", model="stt-async-v9"))
    assert (again.stt.provider, again.soniox.model, again.stt.model) == ("soniox", "stt-async-v9", "base")


def test_a_provider_with_a_model_for_each_thing() -> None:
    """Gemini summarizes with one model and embeds with another: each replay must change its own."""
    again = overridden(Settings(), "transcript", ReplayOverrides(provider="gemini", model="big", prompt="Be brief."))
    gemini = again.gemini
    assert (again.summary.provider, gemini.summary_model, gemini.summary_prompt) == ("gemini", "big", "Be brief.")
    again = overridden(Settings(), "embedding", ReplayOverrides(provider="gemini", model="big"))
    assert (again.gemini.embedding_model, again.gemini.summary_model) == ("big", Settings().gemini.summary_model)


@pytest.mark.parametrize(
    ("stage", "overrides", "words"),
    [
        ("summary", ReplayOverrides(language="de"), "replay from `recording`"),
        ("embedding", ReplayOverrides(prompt="Be brief."), "replay from `summary`"),
        ("recording", ReplayOverrides(provider="abacus"), "provider"),
        ("recording", ReplayOverrides(language="german"), "language: 'german' is not a language code .* write de"),
        ("summary", ReplayOverrides(model="x"), "has no such setting"),
    ],
)
def test_what_makes_no_sense(stage: ReplayStage, overrides: ReplayOverrides, words: str) -> None:
    """Each is one sentence that says what to do. If it failed, the setting would be passed over, and somebody would
    believe to have tried it."""
    with pytest.raises(OverrideError, match=words):
        overridden(Settings(), stage, overrides)


_ALLOWED = Settings(replay=ReplaySettings(tenant_engines={"acme": ("whisper:tiny.en", "openai:whisper-1")}))
_PATHS = ("/etc", "/var/lib/models", "./base", "models", "base/../../etc")


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        ("recording", ReplayOverrides()),
        ("recording", ReplayOverrides(language="de")),
        ("recording", ReplayOverrides(provider="whisper")),
        ("recording", ReplayOverrides(model="base")),
        ("recording", ReplayOverrides(model="tiny.en")),
        ("media", ReplayOverrides(provider="openai")),
        ("media", ReplayOverrides(provider="openai", model="whisper-1")),
        ("summary", ReplayOverrides(provider="extractive")),
    ],
)
def test_a_tenant_chooses_among_its_engines(stage: ReplayStage, overrides: ReplayOverrides) -> None:
    """Accepts the configured engine, by its name or without, and the engines of the tenant's list."""
    require_choice(_ALLOWED, stage, overrides, "acme")


@pytest.mark.parametrize(
    ("tenant", "stage", "overrides"),
    [
        ("other", "recording", ReplayOverrides(model="tiny.en")),
        ("other", "recording", ReplayOverrides(provider="openai")),
        ("acme", "recording", ReplayOverrides(provider="openai", model="gpt-4o-transcribe")),
        ("acme", "recording", ReplayOverrides(provider="soniox")),
        ("acme", "recording", ReplayOverrides(provider="abacus")),
        ("acme", "summary", ReplayOverrides(provider="gemini")),
        ("acme", "embedding", ReplayOverrides(provider="gemini", model="gemini-embedding-2")),
        *(("acme", "recording", ReplayOverrides(model=path)) for path in _PATHS),
    ],
)
def test_a_tenant_gets_no_other_engine(tenant: str, stage: ReplayStage, overrides: ReplayOverrides) -> None:
    """Refuses every other engine with the same sentence, whatever exists on this machine. A failure means that a
    customer can send audio to a provider that the operator did not choose, or learn which files exist."""
    with pytest.raises(OverrideError) as refused:
        require_choice(_ALLOWED, stage, overrides, tenant)
    assert str(refused.value).startswith("provider, model: this key may choose ")
    assert str(overrides.model) not in str(refused.value)


def test_no_key_chooses_a_path() -> None:
    """A key that sees every tenant may choose any provider and any packaged model, but no path: existing and missing
    paths get the same answer, also if a tenant's list names a path."""
    require_choice(Settings(), "recording", ReplayOverrides(provider="soniox", model="stt-async-v9"), None)
    require_choice(Settings(), "recording", ReplayOverrides(model="tiny.en"), None)
    require_choice(Settings(), "recording", ReplayOverrides(provider="openai", model="Systran/large"), None)
    listed = Settings(replay=ReplaySettings(tenant_engines={"acme": tuple(f"whisper:{path}" for path in _PATHS)}))
    for path in _PATHS:
        for settings, tenant in ((Settings(), None), (listed, "acme")):
            with pytest.raises(OverrideError, match=r"^model: choose one of base, tiny\.en; a path can only be set on"):
                require_choice(settings, "recording", ReplayOverrides(model=path), tenant)
