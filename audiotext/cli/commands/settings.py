"""Command `audiotext settings`: prints every setting."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from audiotext.cli.arguments import Parser, add_json_option

if TYPE_CHECKING:
    from pydantic import BaseModel

HELP = "print every setting with its value and its meaning"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    add_json_option(parser)
    parser.add_argument("--example", action="store_true", help="print a complete audiotext.toml with the defaults")


def run(args: argparse.Namespace) -> int:
    """Prints every setting with its description below it. A star marks a value that differs from its default."""
    from audiotext.cli import listing
    from core.settings import Settings, descriptions, load

    if args.example:
        print("\n".join(example_lines()))
        return 0
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
        line = f"{variable}  {value}" if value == default else f"{variable}  {value}*  ({default})"
        print(_wrapped(line, "        ", width))
        print(_wrapped("    " + meanings[variable], "    ", width))
    return 0


def example_lines() -> list[str]:
    """Returns the lines of an audiotext.toml with every setting, its meaning and its default.

    The settings are comments: `#name = default`, or `#name =` for a setting without a default. Sections come last, as
    TOML requires.
    """
    from pydantic import BaseModel

    from core.settings import Settings

    defaults = Settings.model_construct()
    sections = [name for name in Settings.model_fields if isinstance(getattr(defaults, name), BaseModel)]
    lines = ["# All settings of AudioText with their defaults. To change one, remove the # before its name.", ""]
    lines += _example_fields(defaults, skipped=sections)
    for name in sections:
        lines += [f"[{name}]", *_example_fields(getattr(defaults, name))]
    return lines[:-1]


def _example_fields(section: BaseModel, skipped: Sequence[str] = ()) -> list[str]:
    values = section.model_dump(mode="json")
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        if name in skipped:
            continue
        value = values[name]
        meaning = " ".join((field.description or "").split())
        lines += textwrap.wrap(meaning, 118, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        lines += [f"#{name} =" if value is None else f"#{name} = {_toml(value)}", ""]
    return lines


def _toml(value: object) -> str:
    """Returns a value from JSON as TOML on one line."""
    if isinstance(value, dict):
        pairs = [f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items() if inner is not None]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _wrapped(text: str, indent: str, width: int | None) -> str:
    """Returns the text wrapped to the width of the terminal, or on one line if the output is not a terminal."""
    if width is None:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def rows(section: BaseModel, prefix: str = "AUDIOTEXT_") -> list[tuple[str, str]]:
    """Returns the variable and the value of each setting as text. Secrets are masked; a missing value is "-"."""
    from pydantic import BaseModel, SecretStr

    from core.printable import without_password

    found: list[tuple[str, str]] = []
    for name in type(section).model_fields:
        value: object = getattr(section, name)
        variable = prefix + name.upper()
        if isinstance(value, BaseModel):
            found += rows(value, variable + "__")
        elif isinstance(value, SecretStr):
            found.append((variable, "****"))
        elif isinstance(value, tuple):
            found.append((variable, "[" + ", ".join(without_password(str(item)) for item in value) + "]"))
        elif isinstance(value, dict):  # only the names, because the values may contain secrets
            found.append((variable, "{" + ", ".join(value) + "}"))
        else:
            found.append((variable, "-" if value is None else without_password(str(value))))
    return found
