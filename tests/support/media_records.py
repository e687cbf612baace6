"""Calls for the tests of the recorder: generated audio in records like those of the gateway."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from core.audio.g711 import ULAW_DECODE
from schemas.media import EosReason, MediaRecord, RecordType

FRAME_MS = 20
FRAME = 160  # bytes, which are samples
EPOCH_MS = 1_790_000_000_000  # some moment


@dataclass(frozen=True)
class Call:
    """A call with one stream. tracks: mu-law bytes by track."""

    call_id: str
    tracks: dict[str, bytes]
    tenant: str = "acme"
    stream_id: str = "MZ1"
    at_ms: int = EPOCH_MS

    def start(self) -> MediaRecord:
        names = ", ".join(f'"{name}"' for name in self.tracks)
        return self.record(RecordType.START, payload=f'{{"tracks": [{names}]}}'.encode())

    def eos(self, reason: EosReason = EosReason.CARRIER_STOP, after_ms: int = 0) -> MediaRecord:
        return self.record(RecordType.EOS, at_ms=self.at_ms + after_ms, detail=reason)

    def record(self, kind: RecordType, **fields: object) -> MediaRecord:
        known = {
            "call_id": self.call_id,
            "tenant": self.tenant,
            "carrier": "twilio",
            "stream_id": self.stream_id,
            "at_ms": self.at_ms,
        }
        return MediaRecord(type=kind, **{**known, **fields})  # type: ignore[arg-type]  # a test's short cut

    def media(self, run_ms: int = 500, holes: Iterable[tuple[int, int]] = ()) -> list[MediaRecord]:
        """Returns the audio in chunks with interleaved tracks, without the holes (ms)."""
        holes = list(holes)
        runs = []
        for track, audio in self.tracks.items():
            for start_ms in range(0, len(audio) // 8, run_ms):
                end_ms = min(start_ms + run_ms, len(audio) // 8)
                if any(begin <= start_ms < end for begin, end in holes):
                    continue
                runs.append(self.run(track, start_ms, audio[start_ms * 8 : end_ms * 8]))
        return sorted(runs, key=lambda run: run.ts_ms)

    def run(self, track: str, ts_ms: int, payload: bytes) -> MediaRecord:
        return self.record(
            RecordType.MEDIA,
            at_ms=self.at_ms + ts_ms,
            track=track,
            ts_ms=ts_ms,
            frames=max(1, len(payload) // FRAME),
            payload=payload,
        )

    def records(self, run_ms: int = 500) -> list[MediaRecord]:
        """Returns all records of the call."""
        return [self.start(), *self.media(run_ms), self.eos()]

    def stream(self, stream_id: str, after_ms: int) -> "Call":
        """Returns another stream of the same call, which starts later."""
        return replace(self, stream_id=stream_id, at_ms=self.at_ms + after_ms)


def audio(seed: int, ms: int) -> bytes:
    """Returns mu-law bytes of noise without silence, so that missing audio shows."""
    octets = np.random.default_rng(seed).integers(0, 0x70, ms * 8, dtype=np.uint8)
    return octets.tobytes()


def call(call_id: str, ms: int, *, seed: int = 0, **fields: object) -> Call:
    """Returns a call with two tracks."""
    tracks = {"inbound": audio(seed, ms), "outbound": audio(seed + 1, ms)}
    return Call(call_id, tracks, **fields)  # type: ignore[arg-type]  # a test's short cut


def pcm(octets: bytes) -> npt.NDArray[np.int16]:
    """Returns the samples of mu-law bytes."""
    return ULAW_DECODE[np.frombuffer(octets, np.uint8)]


def wav_channels(wav: bytes) -> npt.NDArray[np.int16]:
    """Returns int16[samples, 2] of a WAV with the canonical header."""
    assert wav[:4] == b"RIFF"
    assert wav[36:40] == b"data"
    return np.frombuffer(wav[44:], "<i2").reshape(-1, 2)


def stereo(tracks: Sequence[bytes]) -> npt.NDArray[np.int16]:
    """Returns the expected samples of a WAV of these two tracks."""
    return np.stack([pcm(track) for track in tracks], axis=1)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
