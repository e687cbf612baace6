"""HTTP range and condition headers (RFC 9110), as pure decisions."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=\s*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))\s*", re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The range lies wholly outside: 416."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes first to last, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1


def requested_range(header: str | None, size: int) -> ByteRange | None:
    """What of `size` bytes a Range header asks for; None = all of them.

    A header we do not understand and one with several ranges count as none, as the RFC permits. Raises
    UnsatisfiableRangeError.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        wanted = ByteRange(max(size - int(suffix), 0), size - 1)
        satisfiable = int(suffix) > 0 and size > 0
    else:
        wanted = ByteRange(int(first), min(int(last), size - 1) if last else size - 1)
        if last and int(last) < int(first):
            return None
        satisfiable = int(first) < size
    if not satisfiable:
        raise UnsatisfiableRangeError(header)
    return wanted


def etag_matches(header: str | None, etag: str) -> bool:
    """Does an If-None-Match header name this (quoted) entity tag? Compared weakly, as the RFC wants there."""
    if not header:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def range_applies(if_range: str | None, etag: str) -> bool:
    """May Range be honoured? If-Range must name exactly this (quoted) tag; a date never does, as we send none."""
    return if_range is None or if_range.strip() == etag
