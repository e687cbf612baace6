"""Lists on the command line: as a table or as JSON, and the lookup of the ids that users copy from them."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from core.errors import UserError

_GAP = "  "
_INDENT = "    "
_CANDIDATES = 20  # ids that an error lists

JsonRow = Mapping[str, object]


def show(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under their column names.

    On a terminal no line is wider than the terminal, unless a single word is. A pipe or a file gets one line per row.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(lines(names, rows, width)))


def show_json(rows: Iterable[JsonRow]) -> None:
    """Prints rows as one JSON array with one object per line: the whole output of a list with `--json`."""
    texts = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
    print("[" + ",\n ".join(texts) + "]")


def lines(names: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Returns the lines of a list. Cells are never cut, and lines are broken only at spaces.

    The list is a table if it is not wider than `width` characters (None: no limit). Otherwise each row is a block: the
    first cells without names, then the others with their names, on as many lines as they need.
    """
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    if width is None or sum(widths) + len(_GAP) * (len(widths) - 1) <= width:
        table = [list(names), *cells]
        return [_GAP.join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in table]
    return [line for row in cells for line in _block(names, row, width)]


def _block(names: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """Returns a row on several lines: a mark like * and the id without names, then the other cells with their names."""
    head = next((at for at, name in enumerate(names) if name), 0) + 1
    found = [_GAP.join(row[:head]).strip()]
    line = ""
    for name, cell in zip(names[head:], row[head:], strict=True):
        if not cell:
            continue
        piece = f"{name}: {cell}"
        if line and len(line) + len(_GAP) + len(piece) <= width:
            line += _GAP + piece
            continue
        found += [line] if line else []
        *full, line = _wrapped(_INDENT + piece, width)
        found += full
    return found + ([line] if line else [])


def _wrapped(text: str, width: int) -> list[str]:
    """Returns the text on lines of that width, broken only at spaces. A longer word gets its own line."""
    found: list[str] = []
    for word in text.split():
        if found and len(found[-1]) + 1 + len(word) <= width:
            found[-1] += " " + word
        else:
            found.append((_INDENT if not found else _INDENT + _GAP) + word)
    return found


def minute(at_ms: int | None) -> str:
    """Returns a point in time (ms since the epoch) as text in UTC, or "" for None."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else ""


def id_of(text: str, ids: Iterable[str], noun: str, command: str) -> str:
    """Returns the only id that is the text or begins with it. An ellipsis at the end of the text is ignored.

    noun: the kind of thing that has the id. command: the command that lists all. Raises UserError, which names the
    candidates if there are several.
    """
    known = list(dict.fromkeys(ids))
    if text in known:
        return text
    beginning = text.removesuffix("…").removesuffix("...")
    found = [one for one in known if beginning and one.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"there is no {noun} {text}: see `{command}`")
    more = f" and {len(found) - _CANDIDATES} more" if len(found) > _CANDIDATES else ""
    raise UserError(
        f"{noun} {text} is ambiguous: {', '.join(found[:_CANDIDATES])}{more} begin with it; give more characters"
    )
