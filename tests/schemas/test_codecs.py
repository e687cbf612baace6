"""Payloads measured without decoding: whoever is wrong here moves audio to where it was not spoken."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs import OPUS_CLOCK_HZ, RATES, PayloadError, opus_samples, packets, samples_of, with_length
from schemas.media import Codec


@given(st.lists(st.binary(max_size=300)))
def test_packets_come_out_as_they_went_in(sent: list[bytes]) -> None:
    """Frames packets, joins them as the gateway joins frames to runs, and takes them apart: the same packets. Glued
    without their lengths they would be one packet of noise."""
    assert list(packets(b"".join(map(with_length, sent)))) == sent


@given(st.binary(max_size=200))
def test_any_octets_are_read_to_their_end(payload: bytes) -> None:
    """Reads random octets as packets and measures them: never an exception, never more than there is. Journals hold
    what carriers sent."""
    assert sum(len(packet) + 2 for packet in packets(payload)) <= len(payload)
    assert 0 <= samples_of(Codec.OPUS, 48000)(payload) <= 5760 * len(payload)


def test_a_packet_too_long_for_its_length_is_refused() -> None:
    """64 KiB do not fit 16 bits."""
    with_length(bytes(0xFFFF))
    with pytest.raises(PayloadError):
        with_length(bytes(0x10000))


@pytest.mark.parametrize("milliseconds", [2.5, 5, 10, 20, 40, 60])
@pytest.mark.parametrize("application", ["voip", "audio", "lowdelay"])
def test_an_opus_packet_says_how_long_it_is(milliseconds: float, application: str) -> None:
    """Encodes noise with libopus in each of its modes and frame lengths: the first octet is read as the length it was
    encoded with."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = OPUS_CLOCK_HZ, "s16", "mono"
    encoder.options = {"application": application, "frame_duration": f"{milliseconds:g}"}
    length = int(OPUS_CLOCK_HZ * milliseconds / 1000)
    noise = np.random.default_rng(1).integers(-9000, 9000, (1, length), dtype=np.int16)
    for number in range(3):
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.sample_rate, frame.pts = OPUS_CLOCK_HZ, number * length
        for packet in encoder.encode(frame):
            assert opus_samples(bytes(packet)) == length


@pytest.mark.parametrize("packet", [b"", b"\xff", b"\xff\x00", b"\x1b\x3f" + bytes(9)])
def test_what_is_no_opus_packet_lasts_nothing(packet: bytes) -> None:
    """No octets, a frame count that is missing, zero, or more than the 120 ms a packet may be."""
    assert opus_samples(packet) == 0


def test_every_other_codec_is_measured_by_its_length() -> None:
    """A second of each is a second."""
    second = {Codec.PCMU: 8000, Codec.PCMA: 8000, Codec.G722: 8000}
    for codec, octets in second.items():
        (rate_hz,) = RATES[codec]
        assert samples_of(codec, rate_hz)(bytes(octets)) == rate_hz
    for rate_hz in RATES[Codec.L16]:
        assert samples_of(Codec.L16, rate_hz)(bytes(2 * rate_hz)) == rate_hz
    with pytest.raises(KeyError):
        samples_of(Codec.PCMU, 16000)
