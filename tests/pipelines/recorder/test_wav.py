"""The WAV file and its waveform."""

import hashlib
import io
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipelines.recorder import wav
from pipelines.recorder.decoding import EncodedAudio
from pipelines.recorder.timeline import lay_out
from schemas.media import MediaRecord
from tests.support.media_records import Call, audio, call, pcm, stereo, wav_channels


def written(records: list[MediaRecord], path: Path) -> wav.Rendered:
    def load(number: int) -> EncodedAudio:
        record = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    return wav.write_wav(lay_out(records), load, path)


def test_the_wav_file_has_every_sample(tmp_path: Path) -> None:
    """Writes audio longer than a slice, with runs across slice borders.

    Every sample must be there, any reader must understand the header, and the digest must be that of the file.
    """
    source = call("CA", 65_020)
    rendered = written(source.records(run_ms=740), tmp_path / "a.wav")
    content = (tmp_path / "a.wav").read_bytes()
    assert np.array_equal(wav_channels(content), stereo(list(source.tracks.values())))
    with wave.open(io.BytesIO(content)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (2, 2, 8000)
        assert reader.getnframes() == 65_020 * 8
    assert rendered.sha256 == hashlib.sha256(content).hexdigest()
    assert rendered.size == len(content)


def test_peaks_are_the_extremes(tmp_path: Path) -> None:
    """Reads the waveform: 25 pairs per second and channel, each the extremes of its samples in 8 bits."""
    source = Call("CA", {"inbound": audio(1, 1010)})
    peaks = written(source.records(), tmp_path / "a.wav").peaks
    assert peaks.samples_per_peak == 320
    samples = pcm(source.tracks["inbound"])
    expected = []
    for start in range(0, len(samples), 320):
        expected += [int(samples[start : start + 320].min()) >> 8, int(samples[start : start + 320].max()) >> 8]
    assert peaks.channels == [expected, [0] * len(expected)]
    assert all(-128 <= peak <= 127 for peak in expected)


@pytest.mark.parametrize("hours", [0.0, 0.1, 4.0, 24.0])
def test_long_calls_get_coarser_peaks(hours: float) -> None:
    """Writes a long call. More than 20,000 pairs would only make the page slow."""
    length = int(hours * 3600 * 8000)
    per_peak = wav.samples_per_peak(length, 8000)
    assert per_peak >= 320
    assert -(-length // per_peak) <= wav.MAX_PEAKS


def test_an_empty_recording_is_a_header(tmp_path: Path) -> None:
    """Writes a call without a frame. The file must still open."""
    source = call("CA", 0)
    rendered = written(source.records(), tmp_path / "a.wav")
    assert rendered.size == 44
    assert rendered.peaks.channels == [[], []]


@pytest.mark.parametrize(("hours", "form"), [(36, "WAV"), (38, "RF64")])
def test_a_call_of_days_is_one_file(tmp_path: Path, hours: int, form: str) -> None:
    """Writes a file above 4 GB, of silence that needs no disk. libsndfile must find every sample by its header.

    With 32-bit sizes the header would be wrong, and a rejected call would stay in the spool.
    """
    samples = hours * 3600 * 8000
    path = tmp_path / "long.wav"
    path.write_bytes(wav.wav_header(samples, 8000))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + samples * 4)
    found = soundfile.info(path)
    assert (found.format, found.subtype, found.channels, found.samplerate) == (form, "PCM_16", 2, 8000)
    assert found.frames == samples
