"""What a replay does otherwise: the right setting is changed, and what makes no sense is refused in words."""

import pytest

from core.settings import Settings
from pipelines.replay.overrides import OverrideError, overridden
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
