"""Tests of the G.711 tables. One wrong entry is audible in every recording."""

import warnings

import numpy as np
import pytest

from core.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    audioop = pytest.importorskip("audioop", reason="removed from the standard library in Python 3.13")

ALL_CODES = bytes(range(256))
ALL_SAMPLES = np.arange(-32768, 32768, dtype=np.int16)


def test_decoding_is_bit_exact_with_audioop() -> None:
    """Decodes all 256 bytes of both laws and compares with audioop's C tables; a difference is a wrong recording."""
    assert decode_ulaw(ALL_CODES).tobytes() == audioop.ulaw2lin(ALL_CODES, 2)
    assert decode_alaw(ALL_CODES).tobytes() == audioop.alaw2lin(ALL_CODES, 2)


def test_encoding_is_bit_exact_with_audioop() -> None:
    """Encodes all 65,536 samples by both laws and compares with audioop; a difference is wrong simulated audio."""
    assert encode_ulaw(ALL_SAMPLES) == audioop.lin2ulaw(ALL_SAMPLES.tobytes(), 2)
    assert encode_alaw(ALL_SAMPLES) == audioop.lin2alaw(ALL_SAMPLES.tobytes(), 2)
