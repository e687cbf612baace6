"""Expected recordings, calculated from the log a second time without the recorder's code. Pure functions."""

import io
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from core.audio.g711 import ALAW_DECODE, ULAW_DECODE
from schemas.media import Codec, MediaRecord, RecordType

Samples = npt.NDArray[np.int16]
Frame = tuple[str, int, bytes]
"""track, ts_ms, payload of 20 ms"""

_FRAME_BYTES = 160
_TRACKS = ("inbound", "outbound")
_TABLES = {Codec.PCMU: ULAW_DECODE, Codec.PCMA: ALAW_DECODE}


@dataclass(slots=True)
class Part:
    """A part of a call: its records up to the decision that closed it."""

    number: int
    records: list[MediaRecord] = field(default_factory=list)
    last_offset: int = -1
    closed: bool = False


def parts_of(records: Iterable[tuple[int, MediaRecord]]) -> list[Part]:
    """Returns the parts into which the decisions on the log divide a call."""
    parts: list[Part] = []
    for offset, record in records:
        part = parts[-1] if parts and not parts[-1].closed else None
        if record.type in (RecordType.RECORDED, RecordType.FORGET):
            continue
        if record.type is RecordType.CLOSE:
            # It counts only if nothing of the call came between what it knew of and itself.
            if part is not None and record.part == part.number and record.seen >= part.last_offset:
                part.closed = True
            continue
        if part is None:
            if record.type not in (RecordType.START, RecordType.MEDIA):
                continue
            part = Part(len(parts) + 1)
            parts.append(part)
        part.records.append(record)
        part.last_offset = offset
    return parts


def frames_of(records: Iterable[MediaRecord], stream_id: str) -> set[Frame]:
    """Returns the frames of a stream on the log."""
    return {
        (record.track, record.ts_ms + start // 8, record.payload[start : start + _FRAME_BYTES])
        for record in records
        if record.type is RecordType.MEDIA and record.stream_id == stream_id
        for start in range(0, len(record.payload), _FRAME_BYTES)
    }


def wav_of(part: Part) -> bytes:
    """Returns the bytes of the recording of a part."""
    samples = _samples(part.records)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(len(_TRACKS))
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def _samples(records: Sequence[MediaRecord]) -> Samples:
    """Returns the samples of a part. 8 samples are a millisecond.

    The clock of each stream begins at the wall clock of its start. The earliest audio is sample 0. At one place the
    first audio of a stream on the log is used; the audio of several streams is added. No call of the suite restarts a
    stream with other timestamps.
    """
    zero_ms: dict[str, int] = {}
    placed: list[tuple[str, int, int, Samples]] = []
    for record in records:
        if record.type is RecordType.START:
            zero_ms.setdefault(record.stream_id, record.at_ms)
        elif record.type is RecordType.MEDIA:
            zero = zero_ms.setdefault(record.stream_id, record.at_ms - record.ts_ms)
            audio = _TABLES[record.codec][np.frombuffer(record.payload, np.uint8)]
            placed.append((record.stream_id, (zero + record.ts_ms) * 8, _TRACKS.index(record.track), audio))
    if not placed:
        return np.zeros((0, len(_TRACKS)), np.int16)
    origin = min(start for _, start, _, _ in placed)
    total = np.zeros((max(start + len(audio) for _, start, _, audio in placed) - origin, len(_TRACKS)), np.int64)
    for stream in zero_ms:
        free = np.ones(total.shape, bool)
        for of, start, channel, audio in placed:
            if of == stream:
                place = slice(start - origin, start - origin + len(audio))
                total[place, channel] += np.where(free[place, channel], audio, 0)
                free[place, channel] = False
    return np.clip(total, -32768, 32767).astype(np.int16)
