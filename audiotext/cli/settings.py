"""Command `audiotext settings`: prints every setting."""

import argparse
import shutil
import sys
import textwrap

from pydantic import BaseModel, SecretStr

from audiotext.cli import listing
from core.settings import Settings, descriptions, load


def run(args: argparse.Namespace) -> int:
    """Prints every setting with its description below it. A star marks a value that differs from its default."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    defaults = dict(rows(Settings.model_construct()))
    meanings = descriptions()
    if args.json:
        listing.show_json(
            {"name": name, "value": value, "default": defaults[name], "meaning": meanings[name]}
            for name, value in rows(load())
        )
        return 0
    for variable, value in rows(load()):
        default = defaults[variable]
        told = f"{variable}  {value}" if value == default else f"{variable}  {value}*  ({default})"
        print(_fitting(told, "        ", width))
        print(_fitting("    " + meanings[variable], "    ", width))
    return 0


def _fitting(text: str, indent: str, width: int | None) -> str:
    """Returns the text wrapped to the width of the terminal, or on one line if the output is not a terminal."""
    if width is None:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def rows(section: BaseModel, prefix: str = "AUDIOTEXT_") -> list[tuple[str, str]]:
    """Returns the variable and the value of each setting as text. Secrets are masked; a missing value is "-"."""
    found: list[tuple[str, str]] = []
    for name in type(section).model_fields:
        value: object = getattr(section, name)
        variable = prefix + name.upper()
        if isinstance(value, BaseModel):
            found += rows(value, variable + "__")
        elif isinstance(value, SecretStr):
            found.append((variable, "****"))
        elif isinstance(value, tuple):
            found.append((variable, "[" + ", ".join(str(item) for item in value) + "]"))
        elif isinstance(value, dict):  # by name, which is no secret; what they hold may be one
            found.append((variable, "{" + ", ".join(value) + "}"))
        else:
            found.append((variable, "-" if value is None else str(value)))
    return found
