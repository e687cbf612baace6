"""`audiotext settings --example` and the file `audiotext.example.toml`: both are complete, valid settings files."""

import re
import tomllib
from pathlib import Path

import pytest

from audiotext.cli import main
from core.settings import Settings, load, variable_names

EXAMPLE = Path(__file__).parents[3] / "audiotext.example.toml"


def test_the_example_in_the_repository_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies the example to audiotext.toml, as its first lines say, and loads it.

    Every name in it is a setting, and its values arrive. A failure means that the first file of a new user is refused.
    """
    monkeypatch.chdir(tmp_path)
    text = EXAMPLE.read_text()
    (tmp_path / "audiotext.toml").write_text(text)
    settings = load()
    assert settings.public_url == "https://calls.example.com"
    assert settings.twilio.dial == "+15550100"
    assert settings.twilio.auth_token is not None
    assert [str(network) for network in settings.gateway.trusted_proxies] == ["127.0.0.1/32", "::1/128"]
    assert set(tomllib.loads(text)) <= set(Settings.model_fields)


def test_the_printed_example_has_every_setting_and_its_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prints the example, and loads it once as printed and once without the `#` before the settings with a default.

    Both give the defaults, and the file names every setting. A failure means that a printed default is not the default,
    or that a value cannot be read.
    """
    monkeypatch.chdir(tmp_path)
    assert main.main(["settings", "--example"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 300
    for content in (text, re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)):
        (tmp_path / "audiotext.toml").write_text(content)
        assert load() == Settings.model_construct()
    names, section = set(), ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1].upper() + "__"
        elif setting := re.match(r"#(\w+) =", line):
            names.add(f"AUDIOTEXT_{section}{setting[1].upper()}")
    assert names == set(variable_names())


def test_urls_are_printed_without_passwords(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets addresses with passwords and prints the settings as text and as JSON: neither contains a password."""
    monkeypatch.setenv("AUDIOTEXT_TWILIO__REDIRECT", "https://user:SECRETPW@example.com/on")
    monkeypatch.setenv("AUDIOTEXT_OPENAI__BASE_URL", "http://user:SECRETPW@127.0.0.1:8000/v1")
    for arguments in (["settings"], ["settings", "--json"]):
        assert main.main(arguments) == 0
        printed = capsys.readouterr().out
        assert "SECRETPW" not in printed
        assert "https://****@example.com/on" in printed
