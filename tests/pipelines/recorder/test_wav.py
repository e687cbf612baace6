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
from tests.pipelines.recorder.calls import Call, audio, call, pcm, stereo, wav_channels


def written(records: list[MediaRecord], path: Path) -> wav.Rendered:
    def load(number: int) -> EncodedAudio:
        record = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    return wav.write_wav(lay_out(records), load, path)


def test_it_is_the_audio_in_a_canonical_wav(tmp_path: Path) -> None:
    """Longer than a slice and not a multiple of anything, with runs across slice borders: every sample is there,
    any reader understands the header, and the digest is the file's."""
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
    """25 pairs a second and channel, each the extremes of its samples in 8 bits; the silent channel is flat."""
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
    """A waveform is looked at: more than 20,000 pairs would only make the page slow."""
    length = int(hours * 3600 * 8000)
    per_peak = wav.samples_per_peak(length, 8000)
    assert per_peak >= 320
    assert -(-length // per_peak) <= wav.MAX_PEAKS


def test_an_empty_recording_is_a_header(tmp_path: Path) -> None:
    """A call without a single frame still has a file that opens."""
    source = call("CA", 0)
    rendered = written(source.records(), tmp_path / "a.wav")
    assert rendered.size == 44
    assert rendered.peaks.channels == [[], []]


@pytest.mark.parametrize(("hours", "form"), [(36, "WAV"), (38, "RF64")])
def test_a_call_of_days_is_one_file(tmp_path: Path, hours: int, form: str) -> None:
    """A file of more than 4 GB, all silence (and no disk), by whose header libsndfile finds every sample. With sizes of
    32 bits the header would lie; refused, such a call would stay in the recorder's spool for ever."""
    samples = hours * 3600 * 8000
    path = tmp_path / "long.wav"
    path.write_bytes(wav.wav_header(samples, 8000))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + samples * 4)
    found = soundfile.info(path)
    assert (found.format, found.subtype, found.channels, found.samplerate) == (form, "PCM_16", 2, 8000)
    assert found.frames == samples
