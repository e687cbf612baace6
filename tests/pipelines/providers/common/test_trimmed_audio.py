"""The trimmed audio of a recording, and the mapping of its times to those of the call."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.providers.common.trimmed_audio import (
    Recording,
    Region,
    TrimmedAudio,
    encode_flac,
    read_wav,
    trimmed,
    trimmed_by_channel,
)
from pipelines.runtime.errors import PermanentError
from tests.fakes.word_detector import hear
from tests.support.demo_calls import CALLS, demo_call

RATE = 8000


@pytest.mark.parametrize("name", CALLS)
def test_every_word_of_a_real_call_is_kept(name: str, tmp_path: Path) -> None:
    """Trims the demo calls. Each spoken turn must be in a region of its channel.

    Audio that is cut off is not transcribed. The result must not be much longer than the call, although it has both
    channels.
    """
    call = demo_call(name)
    recording = read_wav(call.write_wav(tmp_path / "a.wav"), 2)
    reel = trimmed(recording)

    for turn in call.turns:
        assert any(
            one.channel == turn.channel and one.start <= turn.start * RATE and turn.end * RATE <= one.end
            for one in reel.regions
        ), turn
    assert reel.duration_ms < 1.2 * call.duration_ms


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 80_000), st.integers(800, 40_000)), max_size=6), st.data())
def test_times_map_back_to_the_call(stretches: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Maps each sample of any regions back. It must give its channel and time, to the millisecond."""
    reel = TrimmedAudio(RATE, tuple(Region(*one) for one in stretches))
    recording = Recording(np.arange(2 * 121_000, dtype=np.int16).reshape(-1, 2), RATE)
    audio = reel.samples(recording)
    assert len(audio) == reel.length
    for stretch, at in zip(reel.regions, reel._region_starts(), strict=True):
        offset = data.draw(st.integers(0, stretch.length - 1))
        assert audio[at + offset] == recording.samples[stretch.start + offset, stretch.channel]
        time_ms = (at + offset) * 1000 // RATE
        channel, start_ms, end_ms = reel.to_source_time(time_ms, time_ms)
        assert channel == stretch.channel
        assert start_ms == end_ms
        assert abs(start_ms - (stretch.start + offset) * 1000 // RATE) <= 1


def test_a_word_that_reaches_into_a_pause_ends_there() -> None:
    """Maps inexact times.

    A word that ends in a pause stays in its region, one before the first region is at its start.
    """
    reel = TrimmedAudio(RATE, (Region(0, 8000, 8000), Region(1, 80_000, 8000)))

    assert reel.to_source_time(900, 1300) == (0, 1900, 2000)
    assert reel.to_source_time(1900, 2200) == (1, 10_000, 10_200)
    assert reel.to_source_time(5000, 9000) == (1, 11_000, 11_000)
    assert TrimmedAudio(RATE, ()).to_source_time(0, 10) == (0, 0, 0)


def test_a_long_channel_is_cut_where_it_is_quiet() -> None:
    """Splits two minutes of noise with a quiet moment at 50 s into parts of at most 60 s.

    The cut must be in that moment, no part may be too long, and no sample may be lost.
    """
    noise = np.random.default_rng(1).integers(-9000, 9000, 120 * RATE).astype(np.int16)
    noise[50 * RATE : 50 * RATE + 800] //= 100
    reels_of = trimmed_by_channel(Recording(noise[:, np.newaxis], RATE), 60)

    pieces = [piece for reel in reels_of for piece in reel.regions]
    assert abs(pieces[0].end - (50 * RATE + 400)) <= 400
    assert all(reel.length <= 60 * RATE for reel in reels_of)
    assert [piece.end for piece in pieces][:-1] == [piece.start for piece in pieces][1:]
    assert (pieces[0].start, pieces[-1].end) == (0, len(noise))


def test_channels_are_trimmed_separately() -> None:
    """Trims two audible channels and a silent one: one piece per audible channel, in order."""
    samples = np.zeros((10 * RATE, 3), np.int16)
    samples[RATE : 2 * RATE, 0] = samples[5 * RATE : 6 * RATE, 2] = 9000
    assert [{s.channel for s in reel.regions} for reel in trimmed_by_channel(Recording(samples, RATE), 60)] == [
        {0},
        {2},
    ]


def test_flac_is_lossless() -> None:
    """Encodes and decodes samples, including the extremes. They and their rate must stay the same."""
    audio = np.array([0, 32767, -32768, 5] * 5000, np.int16)
    heard, rate = soundfile.read(io.BytesIO(encode_flac(audio, 16_000)), dtype="int16")
    assert rate == 16_000
    assert (heard == audio).all()
    assert hear(encode_flac(audio, RATE)).duration_ms == 2500


def test_an_invalid_recording_is_not_retried(tmp_path: Path) -> None:
    """Reads noise, an empty file and another number of channels. The error must be permanent."""
    path = tmp_path / "a.wav"
    for content in (b"", b"RIFF of a kind", b"x" * 1000):
        path.write_bytes(content)
        with pytest.raises(PermanentError, match="cannot be read"):
            read_wav(path, 2)
    soundfile.write(path, np.zeros((100, 1), np.int16), RATE)
    with pytest.raises(PermanentError, match="1 channels where 2"):
        read_wav(path, 2)
