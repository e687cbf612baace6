"""Tests of the streams of a part. The state machine and the recording both follow this class."""

from dataclasses import replace

from pipelines.recorder.streams import Streams
from schemas.media import MediaRecord, RecordType

START = MediaRecord(RecordType.START, "CA1", "acme", "twilio", "MZ1", 1, gateway="one")
MEDIA = replace(START, type=RecordType.MEDIA, gateway="")
EOS = replace(START, type=RecordType.EOS)


def after(*records: MediaRecord) -> Streams:
    streams = Streams()
    for record in records:
        streams = streams.after(record)
    return streams


def test_a_stream_ends_with_the_eos_of_the_gateway_that_started_it_last() -> None:
    """Moves a stream to a second gateway before the first one reports the end of its socket.

    The late end must not end the stream. A failure means that the rest of the call is recorded as another part.
    """
    moved = replace(START, gateway="two")
    assert after(START, moved, EOS).ended == {"MZ1": False}
    assert after(START, moved, EOS, replace(EOS, gateway="two")).ended == {"MZ1": True}


def test_an_eos_of_the_call_ends_all_streams() -> None:
    """Ends a call with two streams by one record without a stream."""
    second = replace(START, stream_id="MZ2")
    assert after(START, second, replace(EOS, stream_id="")) == Streams({"MZ1": True, "MZ2": True})
    assert not after(START, second, EOS).all_ended


def test_late_audio_does_not_open_an_ended_stream() -> None:
    """Sends audio after the end of its stream, and audio of a stream without a start record: only that is open."""
    assert after(START, EOS, MEDIA).ended == {"MZ1": True}
    assert after(MEDIA).ended == {"MZ1": False}


def test_a_start_opens_an_ended_stream_again() -> None:
    """Starts a stream again after its end, as a hold does."""
    assert after(START, EOS, START) == Streams({"MZ1": False}, {"MZ1": "one"})


def test_few_ended_streams_are_kept() -> None:
    """Ends 60 streams: the oldest are forgotten, and the open one stays."""
    pairs = [
        replace(record, stream_id=f"MZ{number}") for number in range(2, 62) for record in (replace(START), replace(EOS))
    ]
    streams = after(START, *pairs)
    assert len(streams.ended) == 51
    assert streams.ended["MZ1"] is False
    assert "MZ2" not in streams.ended
