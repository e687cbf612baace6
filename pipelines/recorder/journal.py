"""Journal: the append-only file with the records of one part, in the order in which they arrived.

Layout: frames of `length u32, crc32 u32, body`, little-endian. The first body is the part's identity as JSON; every
other body is `offset i64, header count u16, (name length u8, name, value length u16, value)…, payload`. A frame that is
incomplete or does not match its CRC ends the file: the machine stopped while it was written, and its record will be
read from the log again.
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
    """Identity of a part, and the partition of call.media that its records come from."""

    tenant: str
    call_id: str
    part: int
    partition: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in a journal. offset: on the log; position: of its payload in the file (bytes)."""

    offset: int
    record: MediaRecord
    position: int


def encode_identity(identity: PartId) -> bytes:
    """Returns the first frame of a journal."""
    return _frame(json.dumps(asdict(identity), sort_keys=True).encode())


def encode_record(record: MediaRecord, offset: int) -> bytes:
    """Returns the frame of a record."""
    headers = to_headers(record)
    body = [_PREFIX.pack(offset, len(headers))]
    for name, value in headers:
        body += [_U8.pack(len(name)), name.encode(), _U16.pack(len(value)), value]
    body.append(record.payload)
    return _frame(b"".join(body))


def _frame(body: bytes) -> bytes:
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _bodies(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the position and content of the body of each complete frame."""
    with path.open("rb") as file:
        position = 0
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, crc = _FRAME.unpack(head)
            body = file.read(length)
            # A file system may leave zeros after a power failure. They look like an empty frame with a valid checksum.
            if not body or len(body) < length or zlib.crc32(body) != crc:
                return
            yield position + _FRAME.size, body
            position += _FRAME.size + length


def read_identity(path: Path) -> PartId | None:
    """Returns the identity of the journal's part, or None if the file does not begin with one.

    Then not even the identity was written, or the file was deleted and created again without the recorder.
    """
    for _, body in _bodies(path):
        try:
            return PartId(**json.loads(body))
        except (ValueError, TypeError):
            return None
    return None


def read(path: Path) -> Iterator[Entry]:
    """Yields the records in log order, up to the end of the file or its first incomplete frame.

    Raises:
        OSError: The file cannot be read.
    """
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
    """End of a journal. last_offset: of its last record, -1 without one; size: of its complete frames, in bytes."""

    last_offset: int
    size: int


def recover(path: Path) -> Tail:
    """Cuts off incomplete frames and returns the end of the journal.

    A journal is empty if the file is missing, or has no record or no identity.
    """
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
