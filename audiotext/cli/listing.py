"""Lists on the command line: as a table, as JSON, and the ids that people copy from them."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from core.errors import UserError

_GAP = "  "
_INDENT = "    "
_CANDIDATES = 20  # ids that an error names

JsonRow = Mapping[str, object]


def show(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under their column names. A terminal's width is kept where that is possible without cutting a cell;
    a pipe or a file gets one line a row."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(lines(names, rows, width)))


def show_json(rows: Iterable[JsonRow]) -> None:
    """Prints rows as one JSON array, an object a line. All output of a list with `--json` is this."""
    texts = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
    print("[" + ",\n ".join(texts) + "]")


def lines(names: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a list. No cell is ever cut, and only spaces are broken.

    A table, if it is not wider than `width` (None: as wide as it likes). Otherwise each row is a block: the first
    cells as they are, the others with their names, on as many lines as they need.
    """
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    if width is None or sum(widths) + len(_GAP) * (len(widths) - 1) <= width:
        table = [list(names), *cells]
        return [_GAP.join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in table]
    return [line for row in cells for line in _block(names, row, width)]


def _block(names: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """A row on several lines: a mark like * and the id as they are, then the other cells with their names."""
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
        *whole, line = _broken(_INDENT + piece, width)
        found += whole
    return found + ([line] if line else [])


def _broken(text: str, width: int) -> list[str]:
    """The text on lines of that width, broken at spaces only: a word that is longer has a line of its own."""
    found: list[str] = []
    for word in text.split():
        if found and len(found[-1]) + 1 + len(word) <= width:
            found[-1] += " " + word
        else:
            found.append((_INDENT if not found else _INDENT + _GAP) + word)
    return found


def minute(at_ms: int | None) -> str:
    """A point in time for a list, in UTC; "" for none."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else ""


def id_of(text: str, ids: Iterable[str], noun: str, command: str) -> str:
    """The one id that is the text or begins with it; an ellipsis at its end is ignored.

    noun: what has the id; command: lists all. Raises UserError, with the candidates if there are several.
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
        f"{noun} {text} is ambiguous: it begins {', '.join(found[:_CANDIDATES])}{more}; give more characters of it"
    )
