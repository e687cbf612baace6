"""docs/operations.md against the program: whoever follows it must not be stopped by a command that is not there."""

import re
import shlex
from pathlib import Path

import pytest

from audiotext.cli import main
from core.settings import variable_names

_PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
_BLOCKS = re.findall(r"```sh\n(.*?)```", _PAGE, re.DOTALL)
_INLINE = re.findall(r"`(audiotext [^`]+)`", re.sub(r"```.*?```", "", _PAGE, flags=re.DOTALL))
_COMMANDS = [line for block in _BLOCKS for line in block.splitlines()] + _INLINE


@pytest.mark.parametrize("line", _COMMANDS)
def test_every_command_is_one(line: str) -> None:
    """Parses each command on the page as the command line would."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "audiotext"
    assert main.parser().parse_args(arguments).run


def test_every_setting_is_one() -> None:
    """A setting that is misspelt would be set and do nothing."""
    settings = set(re.findall(r"AUDIOTEXT_[A-Z0-9_]+", _PAGE))
    assert settings
    assert settings <= set(variable_names())


def test_links_lead_somewhere() -> None:
    """Files and headings that are linked to are there."""
    for file, heading in re.findall(r"\]\(([a-z-]+\.md)?(?:#([a-z0-9-]+))?\)", _PAGE):
        text = (Path(__file__).parents[2] / "docs" / file).read_text() if file else _PAGE
        headings = {
            re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        assert not heading or heading in headings
