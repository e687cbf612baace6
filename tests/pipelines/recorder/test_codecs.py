"""Each decoder against an independent implementation: libsndfile, and Sippy's G.722."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from G722 import G722

from pipelines.recorder.codecs import is_decodable, new_decoder
from schemas.codecs import OPUS_CLOCK_HZ, RATES, packets, samples_of, with_length
from schemas.media import Codec
from tests.support.speech_like_audio import opus_packets, speech_like

EVERY_FORMAT = [(codec, rate_hz) for codec, rates in RATES.items() for rate_hz in sorted(rates)]


@pytest.mark.parametrize(("codec", "rate_hz"), EVERY_FORMAT)
def test_every_accepted_format_can_be_decoded(codec: Codec, rate_hz: int) -> None:
    """Decodes noise in each format that the gateway accepts, also bytes that no encoder produced.

    There must be as many samples as the payload was measured to have. A format that is accepted and not decoded is a
    lost call.
    """
    assert is_decodable(codec, rate_hz)
    noise = np.random.default_rng(2).integers(0, 256, 640, dtype=np.uint8).tobytes()
    payload = b"".join(map(with_length, (noise[:50], noise[50:51], b"", noise))) if codec is Codec.OPUS else noise
    decoding = new_decoder(codec, rate_hz)
    samples = decoding.decode(payload)
    assert len(samples) * rate_hz == samples_of(codec, rate_hz)(payload) * decoding.rate_hz
    assert samples.dtype == np.int16


def test_other_formats_have_no_decoder() -> None:
    """Requests decoders for mu-law at 16 kHz and L16 at 44.1 kHz, which no carrier sends. There must be none."""
    assert not is_decodable(Codec.PCMU, 16000)
    assert not is_decodable(Codec.L16, 44100)
    with pytest.raises(KeyError):
        new_decoder(Codec.PCMA, 16000)


@pytest.mark.parametrize(("codec", "subtype"), [(Codec.PCMU, "ULAW"), (Codec.PCMA, "ALAW"), (Codec.L16, "PCM_16")])
def test_bare_samples_are_what_libsndfile_reads(codec: Codec, subtype: str) -> None:
    """Decodes random bytes and lets libsndfile read them as raw files. The samples must be equal."""
    octets = np.random.default_rng(3).integers(0, 256, 64_000, dtype=np.uint8).tobytes()
    expected, _ = soundfile.read(
        io.BytesIO(octets), dtype="int16", format="RAW", subtype=subtype, samplerate=8000, channels=1, endian="LITTLE"
    )
    assert np.array_equal(new_decoder(codec, 8000).decode(octets), expected)


def test_g722_is_what_another_implementation_says() -> None:
    """Decodes speech-like sound and random bytes in payloads of odd sizes.

    The samples must equal those of the package G722 (without FFmpeg) for the complete data. A decoder that loses its
    state between payloads would differ from the second payload on.
    """
    encoded = bytes(G722(16000, 64000).encode(speech_like(3, 16000)))
    noise = np.random.default_rng(4).integers(0, 256, 16_000, dtype=np.uint8).tobytes()
    for octets in (encoded, noise):
        expected = np.asarray(G722(16000, 64000).decode(octets), np.int16)
        decoding = new_decoder(Codec.G722, 16000)
        parts = [decoding.decode(octets[start : start + 777]) for start in range(0, len(octets), 777)]
        assert np.array_equal(np.concatenate(parts), expected)


def test_opus_is_what_libsndfile_reads(tmp_path: Path) -> None:
    """Decodes the packets of an Ogg Opus file that libsndfile wrote.

    The samples must equal those of libsndfile, except for its rounding (it decodes to floating point) and the pre-skip.
    """
    path = tmp_path / "a.ogg"
    soundfile.write(path, speech_like(3, 48000), OPUS_CLOCK_HZ, format="OGG", subtype="OPUS")
    expected, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == OPUS_CLOCK_HZ
    with av.open(str(path)) as container:
        payload = b"".join(with_length(bytes(packet)) for packet in container.demux(audio=0) if packet.size)
        head = container.streams.audio[0].codec_context.extradata
    assert head is not None
    pre_skip = int.from_bytes(head[10:12], "little")
    samples = new_decoder(Codec.OPUS, OPUS_CLOCK_HZ).decode(payload)
    ours = samples[pre_skip : pre_skip + len(expected)] / 32768
    assert len(ours) == len(expected)
    assert np.abs(ours - expected).max() <= 2 / 32768


def test_a_broken_opus_packet_is_silence_of_its_length() -> None:
    """Damages one packet among good ones. The others must keep their positions."""
    good = opus_packets(speech_like(1, 16000), 16000)
    broken = [*good[:10], bytes([good[10][0] | 3]) + b"\x41\xff", *good[11:]]
    payload = b"".join(map(with_length, broken))
    assert len(list(packets(payload))) == len(broken)
    samples = new_decoder(Codec.OPUS, 16000).decode(payload)
    assert len(samples) == samples_of(Codec.OPUS, 48000)(payload)
