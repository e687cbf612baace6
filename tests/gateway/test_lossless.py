"""The same speech through every carrier: as long as no codec loses anything, the recording is the same to the sample.

From the simulator's messages over decoder, session and merger to the recorder's plan and decoding, without a broker.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from core.audio.g711 import decode_ulaw, encode_ulaw
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import Shape, load_dialects
from gateway.simulator.faults import NO_FAULTS, Faults
from pipelines.recorder.decoding import EncodedAudio, samples_of
from pipelines.recorder.timeline import lay_out
from schemas.media import Codec, MediaRecord
from tests.support.carrier_messages import FORMATS, heard, spoken
from tests.support.speech_like_audio import speech_like

Pcm = npt.NDArray[np.int16]

SECONDS = 3
LOSSLESS = [(name, audio) for name, audio in FORMATS if audio.codec in (Codec.PCMU, Codec.L16)]
NUMBERED = [(name, audio) for name, audio in LOSSLESS if load_dialects()[name].numbered]


def speech(rate_hz: int) -> dict[str, Pcm]:
    """Both directions of a call, of samples that mu-law has, so that it is lossless for them."""
    return {
        track: decode_ulaw(encode_ulaw(speech_like(SECONDS, rate_hz, seed)))
        for seed, track in enumerate(("inbound", "outbound"))
    }


def payloads(samples: Pcm, audio: MediaFormat, frame_ms: int) -> list[bytes]:
    """The samples as a carrier's frames."""
    octets = encode_ulaw(samples) if audio.codec is Codec.PCMU else samples.astype("<i2").tobytes()
    size = audio.rate_hz * frame_ms // 1000 * (1 if audio.codec is Codec.PCMU else 2)
    return [octets[start : start + size] for start in range(0, len(octets), size)]


def recorded(records: Sequence[MediaRecord]) -> tuple[int, dict[str, Pcm]]:
    """The recording's rate and its two channels."""
    layout = lay_out(records)

    def load(number: int) -> EncodedAudio:
        record = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    channels = {}
    for track, segments in zip(("inbound", "outbound"), layout.segments, strict=True):
        samples = channels[track] = np.zeros(layout.length, np.int16)
        for segment, part in zip(segments, samples_of(segments, load, layout.rate_hz), strict=True):
            samples[segment.start : segment.start + segment.length] = part
    return layout.rate_hz, channels


def called(name: str, audio: MediaFormat, faults: Faults = NO_FAULTS) -> tuple[int, dict[str, Pcm]]:
    """The recording of a call over this carrier."""
    dialect = load_dialects()[name]
    frames = {track: payloads(samples, audio, dialect.frame_ms) for track, samples in speech(audio.rate_hz).items()}
    if dialect.shape is Shape.MONO:
        del frames["outbound"]
    records = heard(name, spoken(name, audio, frames, faults=faults)).records
    # Sockets of one call that are opened in the same instant: what the machine's clock adds is not the carrier's.
    return recorded([_at_once(record) for record in records])


def _at_once(record: MediaRecord) -> MediaRecord:
    return MediaRecord(**{name: getattr(record, name) for name in MediaRecord.__slots__} | {"at_ms": 1_790_000_000_000})


@pytest.mark.parametrize(("name", "audio"), LOSSLESS, ids=str)
def test_lossless_formats_give_the_same_recording(name: str, audio: MediaFormat) -> None:
    """Plays speech over the carrier in each lossless format: rate and samples must be those of the speech.

    A wrong byte order, a swapped channel or a misplaced frame would change them.
    """
    rate_hz, channels = called(name, audio)
    expected = speech(audio.rate_hz)
    assert rate_hz == audio.rate_hz
    assert np.array_equal(channels["inbound"], expected["inbound"])
    if load_dialects()[name].shape is Shape.MONO:
        assert not channels["outbound"].any()
    else:
        assert np.array_equal(channels["outbound"], expected["outbound"])


@pytest.mark.parametrize(("name", "audio"), NUMBERED, ids=str)
def test_reordered_and_repeated_frames_give_the_same_recording(name: str, audio: MediaFormat) -> None:
    """Plays frames that are up to 200 ms out of order and repeated: the samples must be the same."""
    _, channels = called(name, audio, Faults(shuffle_ms=200, duplicate=0.2, seed=5))
    assert np.array_equal(channels["inbound"], speech(audio.rate_hz)["inbound"])


@pytest.mark.parametrize(("name", "audio"), NUMBERED, ids=str)
@pytest.mark.parametrize(
    "faults", [Faults(late_stamps_ms=30, seed=5), Faults(clock_reset_ms=1000)], ids=["late", "reset"]
)
def test_odd_timestamps_change_nothing(name: str, audio: MediaFormat, faults: Faults) -> None:
    """The same with timestamps that are late by up to 30 ms, or begin at 0 again after a second: the numbers say that
    nothing is missing, and the samples are the same. The tracks' first stamps differ by some ms, and so may their
    places."""
    rate_hz, channels = called(name, audio, faults)
    expected = speech(audio.rate_hz)["inbound"]
    places = range(len(channels["inbound"]) - len(expected) + 1)
    assert len(places) <= rate_hz // 50
    assert any(np.array_equal(channels["inbound"][place : place + len(expected)], expected) for place in places)
