"""Tests of the simulator's audio: it equals the file, byte by byte if the file has the carrier's codec."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.g711 import decode_ulaw, encode_alaw, encode_ulaw
from gateway.simulator.audio_files import AudioFileError
from gateway.simulator.telephone_audio import frames_of, read
from schemas.media import Codec
from tests.support.wav_files import ulaw_wav

ALL_CODES = np.arange(256, dtype=np.uint8)


def test_a_telephone_wav_is_passed_on_untouched(tmp_path: Path) -> None:
    """Reads a two-channel mu-law WAV with every octet there is: the channels' own octets, also the two zeros (0x7F
    and 0xFF) that decoding and encoding again would merge."""
    left, right = ALL_CODES.tobytes(), ALL_CODES[::-1].tobytes()
    interleaved = bytes(octet for pair in zip(left, right, strict=True) for octet in pair)
    path = ulaw_wav(tmp_path / "a.wav", 2, interleaved)
    assert read(path, Codec.PCMU) == [left, right]


def test_another_law_is_converted(tmp_path: Path) -> None:
    """Reads the mu-law WAV as A-law: decoded and encoded, sample by sample."""
    path = ulaw_wav(tmp_path / "a.wav", 1, ALL_CODES.tobytes())
    assert read(path, Codec.PCMA) == [encode_alaw(decode_ulaw(ALL_CODES.tobytes()))]


def test_pcm_at_8_khz_is_only_encoded(tmp_path: Path) -> None:
    """Reads 16-bit PCM at 8 kHz: its mu-law, without any resampling in between."""
    samples = np.random.default_rng(1).integers(-32768, 32767, (4000, 2), dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="PCM_16")
    assert read(tmp_path / "a.wav", Codec.PCMU) == [encode_ulaw(samples[:, 0]), encode_ulaw(samples[:, 1])]


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    """Reads a 440 Hz tone at 44.1 kHz: a second stays a second, and the tone a tone of 440 Hz."""
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100) * 10000
    soundfile.write(tmp_path / "a.flac", tone.astype(np.int16), 44100)
    (octets,) = read(tmp_path / "a.flac", Codec.PCMU)
    assert abs(len(octets) - 8000) <= 1
    spectrum = np.abs(np.fft.rfft(decode_ulaw(octets)))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_the_last_frame_is_filled_up_with_silence() -> None:
    """Cuts 200 octets into frames of 160: the last is filled up with the codec's silence, not with its loudest
    sample, which is what zero octets would be."""
    frames = frames_of(b"\x01" * 200, Codec.PCMU, 160)
    assert frames == [b"\x01" * 160, b"\x01" * 40 + b"\xff" * 120]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Reads a missing file and a file that is no audio: one clear error each, with the file's name."""
    (tmp_path / "a.wav").write_bytes(b"RIFFnonsense")
    for name in ("missing.wav", "a.wav"):
        with pytest.raises(AudioFileError, match=name):
            read(tmp_path / name, Codec.PCMU)
