"""Selects the entries of the lock files that an image needs: the dependencies of the base and of some extras.

The lock files contain everything, also the tools for development. `python locked.py models gemini > image.lock` prints
the necessary entries with their hashes; `python locked.py build` prints those that build the wheel. It uses only the
standard library, because it runs before any installation.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*")
_OWN_EXTRAS = re.compile(r"^audiotext-live\[([\w,-]+)\]$")


def needed(project: dict[str, object], lock: str, extras: Sequence[str]) -> list[str]:
    """Returns the complete lock entries for the base and these extras. Raises ValueError if one is not locked."""
    entries = dict(_entries(lock))
    wanted = _roots(project, extras)
    if missing := wanted - entries.keys():
        raise ValueError(f"missing in requirements.lock, run make lock: {', '.join(sorted(missing))}")
    while more := {name for name, text in entries.items() if name not in wanted and _required_by(text) & wanted}:
        wanted |= more
    return [entries[name] for name in sorted(wanted)]


def _roots(project: dict[str, object], extras: Iterable[str]) -> set[str]:
    table = project["project"]
    assert isinstance(table, dict)
    wanted = {_normalized(requirement) for requirement in table["dependencies"]}
    for extra in extras:
        for requirement in table["optional-dependencies"][extra]:
            if own_extras := _OWN_EXTRAS.match(requirement):
                wanted |= _roots(project, own_extras[1].split(","))
            else:
                wanted.add(_normalized(requirement))
    return wanted


def _entries(lock: str) -> Iterator[tuple[str, str]]:
    """Yields the name and text of each entry: a requirement and its indented lines."""
    entry: list[str] = []
    for line in [*lock.splitlines(), ""]:
        if entry and not line.startswith(" "):
            yield _normalized(entry[0]), "\n".join(entry)
            entry = []
        if entry or (line and not line.startswith(("#", " ", "-"))):
            entry.append(line)


def _required_by(entry: str) -> set[str]:
    """Returns the packages that need this one, by pip-compile's "via" comments.

    AudioText itself is omitted: it may need the package only for an extra that is not selected.
    """
    comments = [line.strip("# ").removeprefix("via").strip() for line in entry.splitlines() if line.startswith("    #")]
    return {_normalized(comment) for comment in comments if comment and not comment.startswith("audiotext-live ")}


def _normalized(requirement: str) -> str:
    found = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def build_requirements(project: dict[str, object], lock: str) -> list[str]:
    """Returns the lock entries of the packages that build the wheel. Raises ValueError if one is not locked."""
    entries = dict(_entries(lock))
    table = project["build-system"]
    assert isinstance(table, dict)
    wanted = {_normalized(requirement) for requirement in table["requires"]}
    if missing := wanted - entries.keys():
        raise ValueError(f"missing in requirements.lock, run make lock: {', '.join(sorted(missing))}")
    return [entries[name] for name in sorted(wanted)]


def main(extras: Sequence[str], root: Path) -> None:
    """Prints the entries."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    if list(extras) == ["build"]:
        print("\n".join(build_requirements(project, (root / "requirements.lock").read_text("utf-8"))))
        return
    print("\n".join(needed(project, (root / "requirements.lock").read_text("utf-8"), extras)))
    if "models" in extras:
        print((root / "audiotext/models.lock").read_text("utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:], Path.cwd())
