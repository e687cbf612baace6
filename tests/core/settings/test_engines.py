"""Settings of the providers: what cannot work is refused when the service starts, not with every call."""

import pytest

from core.settings import SettingsError, load


@pytest.mark.parametrize("section", ["SONIOX", "OPENAI"])
def test_a_url_without_a_scheme_is_refused(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request would fail, and look like a provider that is away."""
    monkeypatch.setenv(f"AUDIOTEXT_{section}__BASE_URL", "api.example.com/v1")
    with pytest.raises(SettingsError, match=f"AUDIOTEXT_{section}__BASE_URL"):
        load()


def test_more_context_than_soniox_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Context, terms of all and the longest list of a tenant go into one order: together they must fit, or every call
    of that tenant would be refused. Lists of different tenants do not add up."""
    monkeypatch.setenv("AUDIOTEXT_SONIOX__CONTEXT", "x" * 5_000)
    monkeypatch.setenv("AUDIOTEXT_SONIOX__TERMS", '["' + "y" * 2_000 + '"]')
    lists = '{"one":["' + "z" * 2_500 + '"],"two":["' + "z" * 2_500 + '"]}'
    monkeypatch.setenv("AUDIOTEXT_SONIOX__TENANT_TERMS", lists)
    assert len(load().soniox.tenant_terms) == 2
    monkeypatch.setenv("AUDIOTEXT_SONIOX__TENANT_TERMS", lists.replace('"two":["', '"two":["zzz","' + "z" * 1_000))
    with pytest.raises(SettingsError, match="10,000 characters"):
        load()


def test_a_secret_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a webhook anybody can call."""
    monkeypatch.setenv("AUDIOTEXT_SONIOX__WEBHOOK_SECRET", "secret")
    with pytest.raises(SettingsError, match="AUDIOTEXT_SONIOX__WEBHOOK_SECRET"):
        load()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AUDIOTEXT_STT__LANGUAGE", "german", "write de"),
        ("AUDIOTEXT_STT__LANGUAGE", "de-CH", "write de"),
        ("AUDIOTEXT_STT__LANGUAGE", "EN", "write en"),
        ("AUDIOTEXT_STT__LANGUAGE", "klingon", "ISO 639-1"),
        ("AUDIOTEXT_STT__LANGUAGE", "xx", "whisper does not know the language 'xx'"),
        ("AUDIOTEXT_SONIOX__LANGUAGE_HINTS", '["en", "german"]', "write de"),
    ],
)
def test_a_language_that_is_none_is_refused(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets a language as people write it, and one that nobody speaks: the engine would fail with every call, and each
    would be tried again. The message says what to write instead."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable.rpartition('__')[0]}.*{words}"):
        load()


def test_a_server_may_know_languages_that_we_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Irish is not among Whisper's languages; a server that speaks OpenAI's protocol may have been taught it."""
    monkeypatch.setenv("AUDIOTEXT_STT__LANGUAGE", "ga")
    monkeypatch.setenv("AUDIOTEXT_STT__PROVIDER", "openai")
    assert load().stt.language == "ga"
