"""The second opinion about recordings, on examples small enough to be seen through."""

import io
import wave

import numpy as np

from core.audio.g711 import ALAW_DECODE, ULAW_DECODE
from schemas.media import Codec, MediaRecord, RecordType
from tests.chaos.truth import Part, Samples, frames_of, parts_of, wav_of


def record(kind: RecordType, *, stream: str = "MZ1", at_ms: int = 0, **more: object) -> MediaRecord:
    """A record of one call."""
    return MediaRecord(kind, "CA1", "t", "twilio", stream, at_ms, **more)  # type: ignore[arg-type]


def audio(octet: int, ts_ms: int, *, stream: str = "MZ1", track: str = "inbound", at_ms: int = 0) -> MediaRecord:
    """20 ms of one octet."""
    return record(
        RecordType.MEDIA, stream=stream, track=track, ts_ms=ts_ms, at_ms=at_ms, frames=1, payload=bytes([octet]) * 160
    )


def close(seen: int, part: int = 1) -> MediaRecord:
    """A decision to close a part."""
    return record(RecordType.CLOSE, stream="", seen=seen, part=part)


START, END = record(RecordType.START), record(RecordType.EOS)


def samples_of(*records: MediaRecord) -> Samples:
    """The recording's samples, [samples, 2]."""
    with wave.open(io.BytesIO(wav_of(Part(1, list(records))))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def test_a_close_counts_only_if_nothing_came_after_what_it_knew() -> None:
    """A decision that a record overtook closes nothing; the next one does, and what starts later is a new part."""
    records = list(enumerate([START, END, START, close(seen=1), END, close(seen=4), START, END, close(6, part=1)]))
    parts = parts_of(records)
    assert [(part.number, part.closed, len(part.records)) for part in parts] == [(1, True, 4), (2, False, 2)]


def test_what_ends_after_the_close_opens_nothing() -> None:
    """A stream's end that comes after its part was closed belongs nowhere."""
    assert len(parts_of(enumerate([START, close(seen=0), END]))) == 1


def test_tracks_and_holes_are_where_their_times_say() -> None:
    """Inbound left, outbound right, silence between; the earliest audio is the beginning."""
    samples = samples_of(START, audio(0x10, 100), audio(0x20, 140), audio(0x30, 120, track="outbound"), END)
    assert len(samples) == 60 * 8
    assert set(samples[:160, 0]) == {ULAW_DECODE[0x10]}
    assert not samples[160:320, 0].any()
    assert set(samples[160:320, 1]) == {ULAW_DECODE[0x30]}


def test_a_second_stream_lies_where_its_start_was() -> None:
    """A stream that starts 300 ms later has its zero there."""
    later = record(RecordType.START, stream="MZ2", at_ms=1300)
    samples = samples_of(record(RecordType.START, at_ms=1000), audio(0x10, 0), END, later, audio(0x20, 0, stream="MZ2"))
    assert len(samples) == 320 * 8
    assert samples[300 * 8, 0] == ULAW_DECODE[0x20]


def test_the_first_audio_at_a_place_stays() -> None:
    """Of two frames of one time the one that is first on the log is heard."""
    samples = samples_of(START, audio(0x20, 20), audio(0x10, 20), audio(0x30, 0))
    assert set(samples[:160, 0]) == {ULAW_DECODE[0x30]}
    assert set(samples[160:, 0]) == {ULAW_DECODE[0x20]}


def test_a_law_is_not_mu_law() -> None:
    """The record's codec decides."""
    samples = samples_of(record(RecordType.MEDIA, track="inbound", codec=Codec.PCMA, frames=1, payload=b"\x10" * 160))
    assert set(samples[:, 0]) == {ALAW_DECODE[0x10]}


def test_no_audio_is_an_empty_recording() -> None:
    """44 bytes of header."""
    assert len(wav_of(Part(1, [START, END]))) == 44


def test_frames_are_taken_out_of_their_runs() -> None:
    """A run of two frames is the two that were sent."""
    run = record(RecordType.MEDIA, track="inbound", ts_ms=40, frames=2, payload=b"\x01" * 160 + b"\x02" * 160)
    assert frames_of([run], "MZ1") == {("inbound", 40, b"\x01" * 160), ("inbound", 60, b"\x02" * 160)}
