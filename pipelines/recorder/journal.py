"""The file that holds one part's records as they came: append-only, and honest about where it ends.

Layout: frames of `length u32, crc32 u32, body`, little-endian. The first body is the part's identity as JSON; every
other is `offset i64, header count u16, (name length u8, name, value length u16, value)…, payload`. A frame that is
cut short or does not match its CRC ends the file: it was being written when the machine stopped, and its record will
be read from the log again.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.media import MediaRecord, from_headers, to_headers

_FRAME = struct.Struct("<II")
_PREFIX = struct.Struct("<qH")
_U8 = struct.Struct("<B")
_U16 = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class PartId:
    """Whose part a journal holds, and the partition of call.media it comes from."""

    tenant: str
    call_id: str
    part: int
    partition: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A journalled record: its log offset, and the position of its payload in the file (bytes)."""

    offset: int
    record: MediaRecord
    position: int


def encode_identity(identity: PartId) -> bytes:
    """The frame a journal begins with."""
    return _frame(json.dumps(asdict(identity), sort_keys=True).encode())


def encode_record(record: MediaRecord, offset: int) -> bytes:
    """The frame of a record."""
    headers = to_headers(record)
    body = [_PREFIX.pack(offset, len(headers))]
    for name, value in headers:
        body += [_U8.pack(len(name)), name.encode(), _U16.pack(len(value)), value]
    body.append(record.payload)
    return _frame(b"".join(body))


def _frame(body: bytes) -> bytes:
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _bodies(path: Path) -> Iterator[tuple[int, bytes]]:
    """Position and content of each whole frame's body."""
    with path.open("rb") as file:
        position = 0
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, crc = _FRAME.unpack(head)
            body = file.read(length)
            # Zeros, which a file system may leave after a power cut, are a frame of no bytes with the right checksum.
            if not body or len(body) < length or zlib.crc32(body) != crc:
                return
            yield position + _FRAME.size, body
            position += _FRAME.size + length


def read_identity(path: Path) -> PartId | None:
    """Whose journal it is, or None if it does not begin with that: not even that was written, or the file was deleted
    and begun anew behind the recorder's back."""
    for _, body in _bodies(path):
        try:
            return PartId(**json.loads(body))
        except (ValueError, TypeError):
            return None
    return None


def read(path: Path) -> Iterator[Entry]:
    """The records, in log order, up to the end or a torn tail. Raises OSError."""
    identity: PartId | None = None
    for position, body in _bodies(path):
        if identity is None:
            identity = PartId(**json.loads(body))
            continue
        offset, count = _PREFIX.unpack_from(body)
        at = _PREFIX.size
        headers: list[tuple[str, bytes | str | None]] = []
        for _ in range(count):
            name_end = at + 1 + body[at]
            (length,) = _U16.unpack_from(body, name_end)
            value_end = name_end + _U16.size + length
            headers.append((body[at + 1 : name_end].decode(), body[name_end + _U16.size : value_end]))
            at = value_end
        yield Entry(offset, from_headers(identity.call_id, headers, body[at:]), position + at)


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a journal ends: offset of its last record (-1: none) and its whole frames' size in bytes."""

    last_offset: int
    size: int


def recover(path: Path) -> Tail:
    """Cuts a torn tail off and says where the journal ends now. A missing file is an empty journal, and so is one
    without a record, or without its part's identity."""
    if not path.exists():
        return Tail(-1, 0)
    if read_identity(path) is None:
        os.truncate(path, 0)
        return Tail(-1, 0)
    last, size = -1, 0
    for position, body in _bodies(path):
        last = _PREFIX.unpack_from(body)[0] if size else -1
        size = position + len(body)
    if last < 0:
        size = 0
    if size < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(size)
    return Tail(last, size)
