"""`load`: errors in environment variables and in audiotext.toml name the setting, and suggest the right name."""

from pathlib import Path

import pytest

from core.settings import SettingsError, load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes to an empty directory, where a test can write audiotext.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("AUDIOTEXT_SST__PROVIDER", "AUDIOTEXT_STT__PROVIDER"),
        ("AUDIOTEXT_TWILIO_AUTH_TOKEN", "AUDIOTEXT_TWILIO__AUTH_TOKEN"),
        ("AUDIOTEXT_PUBLICURL", "AUDIOTEXT_PUBLIC_URL"),
        ("AUDIOTEXT_SERVER__BOOTSTRAP_SERVERS", "AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"),
    ],
)
def test_a_misspelt_variable_gets_a_suggestion(name: str, suggestion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a variable whose name is almost right: the error names both names, and not the value."""
    monkeypatch.setenv(name, "some-secret")
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value) == (
        f"unknown setting {name} (did you mean {suggestion}?): `audiotext settings` lists all settings"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[sst]\nprovider = "whisper"', "sst.provider (did you mean stt.provider?)"),
        ('[stt]\nprovder = "whisper"', "stt.provder (did you mean stt.provider?)"),
        ('AUDIOTEXT_ADMIN_KEY = "k"', "AUDIOTEXT_ADMIN_KEY (did you mean admin_key?)"),
        ('nonsense = "k"', "nonsense"),
        ("[nonsense.deeper]\na = 1", "nonsense.deeper"),
    ],
)
def test_a_misspelt_name_in_the_file_gets_a_suggestion(text: str, problem: str, folder: Path) -> None:
    """Writes an unknown name into audiotext.toml: the error has the name and the suggestion as they are in the file.

    A failure shows a name like AUDIOTEXT_SST, which the user has not written, or passes over the setting.
    """
    (folder / "audiotext.toml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value) == f"audiotext.toml: unknown setting {problem}: `audiotext settings` lists all settings"


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ('[gateway]\nport = "x"', "audiotext.toml: gateway.port: Input should be a valid integer"),
        ('stt = "whisper"', "audiotext.toml: stt: a section and not a value: write [stt]"),
        ('[twilio]\ndial = "+1"\nredirect = "https://a"', "audiotext.toml: twilio: dial and redirect exclude"),
        ("[twilio.accounts.AC1]\nnonsense = 1", "audiotext.toml: twilio.accounts.AC1.nonsense: Extra inputs"),
        ("a = [", "audiotext.toml cannot be read: "),
    ],
)
def test_an_invalid_value_in_the_file_is_named(text: str, beginning: str, folder: Path) -> None:
    """Writes invalid values into audiotext.toml: the error names the file, and the setting as it is in the file."""
    (folder / "audiotext.toml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value).startswith(beginning)


def test_a_variable_is_named_if_it_overrides_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets an invalid variable and a valid value in the file: the variable takes precedence, so the error names it."""
    (folder / "audiotext.toml").write_text("[gateway]\nport = 8080")
    monkeypatch.setenv("AUDIOTEXT_GATEWAY__PORT", "x")
    with pytest.raises(SettingsError, match=r"^AUDIOTEXT_GATEWAY__PORT: Input should be a valid integer"):
        load()


def test_a_directory_in_the_place_of_the_file_is_an_error(folder: Path) -> None:
    """Creates a directory with the name of the file. A failure runs with the defaults, and the user does not notice."""
    (folder / "audiotext.toml").mkdir()
    with pytest.raises(SettingsError, match=r"audiotext\.toml is a directory: rename it"):
        load()


def test_the_file_is_used_below_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets values in the file, and one of them as a variable: the variable takes precedence within its section."""
    (folder / "audiotext.toml").write_text('[twilio]\nauth_token = "file"\ndial = "+15550100"')
    monkeypatch.setenv("AUDIOTEXT_TWILIO__AUTH_TOKEN", "variable")
    twilio = load().twilio
    assert twilio.auth_token is not None
    assert (twilio.auth_token.get_secret_value(), twilio.dial) == ("variable", "+15550100")
