"""Tests of the reader of audio files: every sample format gives its samples; broken files are errors."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotext.cli import main
from gateway.simulator.audio_files import AudioFileError, read_samples

RATE = 8000
_SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW", "MS_ADPCM")
# How far a sample may be off, of 32768.
_COARSE = {"PCM_U8": 257, "ALAW": 600, "ULAW": 600, "MS_ADPCM": 2500}


def tone() -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Two channels of a second: 440 Hz at half of full scale, and 660 Hz at a quarter."""
    time = np.arange(RATE) / RATE
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.25 * np.sin(2 * np.pi * 660 * time)], axis=1)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        (container, subtype)
        for container in ("WAV", "WAVEX", "RF64")
        for subtype in _SUBTYPES
        if soundfile.check_format(container, subtype)
    ],
)
def test_every_sample_format_is_heard(tmp_path: Path, container: str, subtype: str) -> None:
    """Writes a tone in a sample format and reads it: the same tone on both channels. Floats that are read as integers
    are silence."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE, subtype, format=container)
    samples, rate_hz = read_samples(path)
    assert rate_hz == RATE
    expected = tone() * 32768
    assert samples.dtype == np.int16
    assert np.abs(samples[: len(expected)] - expected).max() <= _COARSE.get(subtype, 1)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_other_files_are_heard(tmp_path: Path, suffix: str) -> None:
    """Reads files that are not WAV: about as long and as loud as they were written."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), RATE)
    samples, rate_hz = read_samples(path)
    assert rate_hz == RATE
    assert abs(len(samples) - RATE) < RATE // 4
    assert 15_000 < np.abs(samples[:, 0]).max() < 18_000


def test_16_bit_samples_are_read_exactly(tmp_path: Path) -> None:
    """Reads every 16-bit sample there is: each as it was written."""
    samples = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE, "PCM_16")
    assert np.array_equal(read_samples(tmp_path / "a.wav")[0][:, 0], samples)


def test_floats_that_are_out_of_range_are_clipped(tmp_path: Path) -> None:
    """Reads floats beyond full scale and values that are not numbers: clipped, and silence."""
    values = np.array([2.0, -2.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf], np.float32)
    soundfile.write(tmp_path / "a.wav", values, RATE, "FLOAT")
    assert read_samples(tmp_path / "a.wav")[0][:, 0].tolist() == [
        32767, -32768, 32767, -32768, 16384, 0, 32767, -32768,
    ]  # fmt: skip


def wav(audio: bytes = b"\x01\x00" * 800, *, channels: int = 1, rate: int = RATE, size: int | None = None) -> bytes:
    """Returns a 16-bit WAV file. size: the size in its header, if it differs from the audio."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    said = len(audio) if size is None else size
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", said) + audio
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


_BROKEN = {
    "empty": (b"", "FFmpeg cannot read the file"),
    "text": (b"this is not a sound\n" * 100, "FFmpeg cannot read the file"),
    "no data": (wav()[:36], "no audio"),
    "size 0": (wav(size=0), "header has an audio size of 0, though audio follows"),
    "no samples": (wav(b""), "header has an audio size of 0"),
    "half a sample": (wav(b"\x01"), "no audio"),
    "truncated": (wav()[:-400], "truncated: it has 1200 of 1600 bytes"),
    "truncated header": (wav()[:30], "too short"),
    "never finished": (wav(size=0xFFFFFFFF), "lacks the audio's size"),
    "three channels": (wav(channels=3), "3 channels: use one, or two"),
    "no channel": (wav(channels=0), "0 channels"),
    "no rate": (wav(rate=0), "sample rate of 0 Hz"),
    "riff only": (b"RIFF\x04\x00\x00\x00WAVE", "truncated or unfinished"),
}


@pytest.mark.parametrize("name", _BROKEN)
def test_a_broken_file_is_an_error(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calls with an empty or broken file: the error names the file and the reason, and the exit code is 2.

    If this fails, a call of 0 s succeeds and hides the error from the user.
    """
    monkeypatch.setenv("AUDIOTEXT_TWILIO__AUTH_TOKEN", "not-a-real-token")
    monkeypatch.chdir(tmp_path)
    content, words = _BROKEN[name]
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(AudioFileError):
        read_samples(path)
    assert main.main(["call", str(path)]) == 2
    complaint = capsys.readouterr().err
    assert "broken.wav: " in complaint
    assert words in complaint
    assert len(complaint.strip().splitlines()) == 1


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calls with a file that does not exist, and with a folder: the same exit code as for a broken file."""
    for path in (tmp_path / "missing.wav", tmp_path):
        assert main.main(["call", str(path)]) == 2
        assert str(path) in capsys.readouterr().err
