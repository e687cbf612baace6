"""The independent calculation of recordings, on small examples."""

import io
import wave

import numpy as np

from core.audio.g711 import ALAW_DECODE, ULAW_DECODE
from schemas.media import Codec, MediaRecord, RecordType
from tests.chaos.truth import Part, Samples, frames_of, parts_of, wav_of


def record(kind: RecordType, *, stream: str = "MZ1", at_ms: int = 0, **more: object) -> MediaRecord:
    """Returns a record of one call."""
    return MediaRecord(kind, "CA1", "t", "twilio", stream, at_ms, **more)  # type: ignore[arg-type]


def audio(octet: int, ts_ms: int, *, stream: str = "MZ1", track: str = "inbound", at_ms: int = 0) -> MediaRecord:
    """Returns 20 ms of one byte value."""
    return record(
        RecordType.MEDIA, stream=stream, track=track, ts_ms=ts_ms, at_ms=at_ms, frames=1, payload=bytes([octet]) * 160
    )


def close(seen: int, part: int = 1) -> MediaRecord:
    """Returns a decision to close a part."""
    return record(RecordType.CLOSE, stream="", seen=seen, part=part)


START, END = record(RecordType.START), record(RecordType.EOS)


def samples_of(*records: MediaRecord) -> Samples:
    """Returns the samples of the recording, [samples, 2]."""
    with wave.open(io.BytesIO(wav_of(Part(1, list(records))))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def test_a_close_counts_only_for_the_latest_record() -> None:
    """Puts a record between a decision and the state that it knew.

    The decision closes nothing; the next one does, and a later stream begins a new part.
    """
    records = list(enumerate([START, END, START, close(seen=1), END, close(seen=4), START, END, close(6, part=1)]))
    parts = parts_of(records)
    assert [(part.number, part.closed, len(part.records)) for part in parts] == [(1, True, 4), (2, False, 2)]


def test_an_end_after_the_close_opens_no_part() -> None:
    """Ends a stream after its part was closed: no new part begins."""
    assert len(parts_of(enumerate([START, close(seen=0), END]))) == 1


def test_tracks_and_holes_have_their_times() -> None:
    """Checks inbound left, outbound right, silence between, and the earliest audio as the beginning."""
    samples = samples_of(START, audio(0x10, 100), audio(0x20, 140), audio(0x30, 120, track="outbound"), END)
    assert len(samples) == 60 * 8
    assert set(samples[:160, 0]) == {ULAW_DECODE[0x10]}
    assert not samples[160:320, 0].any()
    assert set(samples[160:320, 1]) == {ULAW_DECODE[0x30]}


def test_a_second_stream_begins_at_its_start() -> None:
    """Starts a stream 300 ms later: its audio begins there."""
    later = record(RecordType.START, stream="MZ2", at_ms=1300)
    samples = samples_of(record(RecordType.START, at_ms=1000), audio(0x10, 0), END, later, audio(0x20, 0, stream="MZ2"))
    assert len(samples) == 320 * 8
    assert samples[300 * 8, 0] == ULAW_DECODE[0x20]


def test_the_first_audio_at_a_place_stays() -> None:
    """Writes two frames with the same time: the first one on the log is used."""
    samples = samples_of(START, audio(0x20, 20), audio(0x10, 20), audio(0x30, 0))
    assert set(samples[:160, 0]) == {ULAW_DECODE[0x30]}
    assert set(samples[160:, 0]) == {ULAW_DECODE[0x20]}


def test_a_law_is_not_mu_law() -> None:
    """Decodes the same bytes in both codecs: the codec of the record decides."""
    samples = samples_of(record(RecordType.MEDIA, track="inbound", codec=Codec.PCMA, frames=1, payload=b"\x10" * 160))
    assert set(samples[:, 0]) == {ALAW_DECODE[0x10]}


def test_no_audio_is_an_empty_recording() -> None:
    """Calculates a recording without audio: a header of 44 bytes."""
    assert len(wav_of(Part(1, [START, END]))) == 44


def test_frames_are_split_from_chunks() -> None:
    """Splits a chunk of two frames into the frames that were sent."""
    run = record(RecordType.MEDIA, track="inbound", ts_ms=40, frames=2, payload=b"\x01" * 160 + b"\x02" * 160)
    assert frames_of([run], "MZ1") == {("inbound", 40, b"\x01" * 160), ("inbound", 60, b"\x02" * 160)}
