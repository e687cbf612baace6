"""HTTP range and condition headers (RFC 9110). Pure."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=\s*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))\s*", re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """Range outside the content (status 416)."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from first to last, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1


def requested_range(header: str | None, size: int) -> ByteRange | None:
    """Returns the part of `size` bytes that a Range header requests; None = all of them.

    Ignores a header that is not understood or has several ranges, as the RFC permits. Raises UnsatisfiableRangeError.
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
    """True if an If-None-Match header names this (quoted) entity tag, by weak comparison as the RFC requires."""
    if not header:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def range_applies(if_range: str | None, etag: str) -> bool:
    """True if Range applies: If-Range is missing or names exactly this (quoted) tag.

    A date never matches, since our responses have no Last-Modified.
    """
    return if_range is None or if_range.strip() == etag
