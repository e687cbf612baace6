"""Carriers' names for audio, and octets on their wire."""

import numpy as np
import pytest

from gateway.carriers.base import UnsupportedCodecError
from gateway.carriers.common.media_format import MediaFormat, media_format, normaliser
from schemas.codecs import PayloadError, with_length
from schemas.media import Codec


@pytest.mark.parametrize(
    ("encoding", "rate_hz", "expected"),
    [
        ("audio/x-mulaw", 8000, MediaFormat(Codec.PCMU, 8000)),
        ("PCMU", 8000, MediaFormat(Codec.PCMU, 8000)),
        ("audio/PCMA", 8000, MediaFormat(Codec.PCMA, 8000)),
        ("audio/x-alaw", 8000, MediaFormat(Codec.PCMA, 8000)),
        ("audio/x-mulaw;rate=8000", 0, MediaFormat(Codec.PCMU, 8000)),
        ("audio/l16; rate=16000", 0, MediaFormat(Codec.L16, 16000)),
        ("L16@24000h", 8000, MediaFormat(Codec.L16, 24000)),
        ("audio/x-raw", 8000, MediaFormat(Codec.L16, 8000)),
        ("g722", 8000, MediaFormat(Codec.G722, 16000)),
        ("OPUS", 48000, MediaFormat(Codec.OPUS, 48000)),
    ],
)
def test_every_spelling_is_understood(encoding: str, rate_hz: int, expected: MediaFormat) -> None:
    """Reads the spellings of carriers' documents."""
    assert media_format(encoding, rate_hz) == expected


@pytest.mark.parametrize("encoding", ["", "AMR-WB", "audio/", "audio/x-mulaw;rate=9999999", "pcmu\n", "µ", "x" * 500])
def test_others_are_refused_in_words_that_fit_a_close_frame(encoding: str) -> None:
    """Reads what is no codec anybody here decodes: refused, and the text fits the 123 bytes of a close frame but for
    what the carrier itself wrote into it."""
    with pytest.raises(UnsupportedCodecError) as refused:
        media_format(encoding, 8000)
    assert len(str(refused.value)) <= 123


def test_the_refusal_names_the_rates_of_a_codec_that_is_known() -> None:
    """L16 at 11,025 Hz: what would have been right."""
    with pytest.raises(UnsupportedCodecError, match="8000, 12000, 16000"):
        media_format("L16", 11025)


def test_octets_become_those_of_the_log() -> None:
    """L16 in either order becomes little-endian, Opus packets get their length, the rest stays what it is."""
    samples = np.array([1, -2, 32767], np.int16)
    for order, octets in (("big", samples.astype(">i2").tobytes()), ("little", samples.astype("<i2").tobytes())):
        normalise = normaliser(Codec.L16, "big" if order == "big" else "little")
        assert normalise is not None
        assert normalise(octets) == samples.astype("<i2").tobytes()
        with pytest.raises(PayloadError):
            normalise(octets[:-1])
    packet = b"\x08abc"
    opus = normaliser(Codec.OPUS, "big")
    assert opus is not None
    assert opus(packet) == with_length(packet)
    with pytest.raises(PayloadError):
        opus(b"\xff")
    assert normaliser(Codec.PCMU, "big") is None
    assert normaliser(Codec.G722, "little") is None
