"""Realistic telephone calls: long pauses, hold music, noise, two languages, echo, a length of four hours.

Each call is made of a demo call, so its words and their times are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from pipelines.providers.base import TranscriptionJob
from pipelines.providers.whisper.transcriber import Whisper
from schemas.artifacts import Transcript
from tests.pipelines.conftest import SPEAKERS
from tests.support.demo_calls import TrueTurn, demo_call, errors, normalised, word_error_rate
from tests.support.transcription_jobs import RATE, Samples, hold_music

CALL = "broadband_outage"
RUSSIAN = Path("/usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU")  # Debian: asterisk-core-sounds-ru-wav


@dataclass(frozen=True)
class Spread:
    """Demo call with a filling after its turns. turns: text and new time of each."""

    samples: Samples
    turns: tuple[TrueTurn, ...]


def quiet(frames: int, level_db: float = -72) -> Samples:
    """Line noise on both channels, at this level below full scale."""
    seconds = (
        np.random.default_rng(11).normal(0, 32768 * 10 ** (level_db / 20), (10 * RATE, 2)).round().astype(np.int16)
    )
    return np.resize(seconds, (frames, 2))


def spread(filling: Samples) -> Spread:
    """Puts the filling after each turn, unless the other speaker talks at that moment."""
    call = demo_call(CALL)
    ends = sorted(turn.end + 0.05 for turn in call.turns)
    cuts = [end for end in ends if not any(turn.start < end < turn.end for turn in call.turns)]
    parts: list[Samples] = []
    last = 0
    for cut in (round(cut * RATE) for cut in cuts):
        parts += [call.samples[last:cut], filling]
        last = cut
    turns = []
    for turn in call.turns:
        shift = sum(cut <= turn.start for cut in cuts) * len(filling) / RATE
        turns.append(TrueTurn(turn.start + shift, turn.end + shift, turn.channel, turn.text))
    return Spread(np.concatenate([*parts, call.samples[last:]]), tuple(turns))


async def transcribed(whisper: Whisper, folder: Path, samples: Samples) -> Transcript:
    """Transcribes a call with these samples [frames, 2]."""
    path = folder / "audio.wav"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    job = TranscriptionJob("key", "CA1", path, len(samples) * 1000 // RATE, SPEAKERS)
    return (await whisper.transcribe(job)).transcript


def russian_speech() -> npt.NDArray[np.int16]:
    """Five long prompts, one after the other."""
    longest = sorted(RUSSIAN.glob("*.wav"), key=lambda path: (path.stat().st_size, path.name))[-30::6]
    return np.concatenate([soundfile.read(path, dtype="int16")[0] for path in longest])


def text(transcript: Transcript, channel: int) -> str:
    """All words of a channel."""
    return " ".join(segment.text for segment in transcript.segments if segment.channel == channel)


def mistakes(transcript: Transcript) -> int:
    """Counts the words of the demo call that are wrong, missing or added."""
    call = demo_call(CALL)
    return sum(errors(normalised(call.said(at)), normalised(text(transcript, at))) for at in (0, 1))


def check_times(transcript: Transcript, turns: Sequence[TrueTurn]) -> None:
    """Each turn has words, and each word is inside a turn of its channel, give or take 300 ms."""
    words = [(segment.channel, word) for segment in transcript.segments for word in segment.words]
    for turn in turns:
        assert any(
            channel == turn.channel and turn.start - 0.3 <= (word.start_ms + word.end_ms) / 2000 <= turn.end + 0.3
            for channel, word in words
        ), turn
    astray = [
        word
        for channel, word in words
        if not any(
            turn.channel == channel
            and turn.start - 0.3 <= word.start_ms / 1000
            and word.end_ms / 1000 <= turn.end + 0.3
            for turn in turns
        )
    ]
    assert astray == []


@pytest.mark.parametrize(("pause_s", "level_db"), [(1, -72), (20, -50), (300, -72)])
async def test_pauses_change_nothing(
    whisper: Whisper, transcripts: Mapping[str, Transcript], tmp_path: Path, pause_s: int, level_db: float
) -> None:
    """Each turn of a call is followed by a pause with line noise. No turn may be missing, no word may be in a pause,
    and at most 2 % of the words may differ from the call without pauses. A failure means that speech is lost."""
    call = spread(quiet(pause_s * RATE, level_db))
    transcript = await transcribed(whisper, tmp_path, call.samples)
    words = sum(len(normalised(demo_call(CALL).said(channel))) for channel in (0, 1))

    check_times(transcript, call.turns)
    assert mistakes(transcript) <= mistakes(transcripts[CALL]) + 0.02 * words
    assert transcript.omitted == []


async def test_the_sentence_after_hold_music_is_kept(
    whisper: Whisper, transcripts: Mapping[str, Transcript], tmp_path: Path
) -> None:
    """Each turn is followed by 20 s of music on both channels. No turn may be missing, no word invented during the
    music, and at most 2 % of the words may differ from the call without music."""
    music = np.column_stack([hold_music()] * 2)
    call = spread(music)
    transcript = await transcribed(whisper, tmp_path, call.samples)
    words = sum(len(normalised(demo_call(CALL).said(channel))) for channel in (0, 1))

    check_times(transcript, call.turns)
    assert mistakes(transcript) <= mistakes(transcripts[CALL]) + 0.02 * words


async def test_telephone_noise_and_bandwidth(
    whisper: Whisper, transcripts: Mapping[str, Transcript], tmp_path: Path
) -> None:
    """The call with only 300 to 3400 Hz left and noise 20 dB below the speech. At most 5 % more words are wrong than in
    the clean call, and no turn is missing."""
    call = demo_call(CALL)
    spectrum = np.fft.rfft(call.samples.astype(np.float64), axis=0)
    hz = np.fft.rfftfreq(len(call.samples), 1 / RATE)
    spectrum[(hz < 300) | (hz > 3400)] = 0
    narrow = np.fft.irfft(spectrum, len(call.samples), axis=0)
    loud = narrow[np.abs(narrow) > 500]
    noisy = narrow + np.random.default_rng(12).normal(0, 0.1 * np.sqrt((loud**2).mean()), narrow.shape)
    transcript = await transcribed(whisper, tmp_path, np.clip(noisy, -32768, 32767).astype(np.int16))
    words = sum(len(normalised(call.said(channel))) for channel in (0, 1))

    check_times(transcript, call.turns)
    assert mistakes(transcript) <= mistakes(transcripts[CALL]) + 0.05 * words


async def test_a_call_of_four_hours(whisper: Whisper, tmp_path: Path) -> None:
    """A turn of each speaker at the beginning, and the same ones at 3:59:00. The words must be the same, and their
    times 3:59:00 later, give or take 300 ms. The recording is read in parts: a copy of it at 16 kHz needs gigabytes."""
    call = demo_call(CALL)
    begin = call.samples[: round(13.2 * RATE)]
    late = (3 * 60 + 59) * 60
    samples = quiet(4 * 3600 * RATE)
    samples[: len(begin)] = begin
    samples[late * RATE : late * RATE + len(begin)] = begin
    transcript = await transcribed(whisper, tmp_path, samples)
    words = [(one.channel, word) for one in transcript.segments for word in one.words]
    early = [(channel, word) for channel, word in words if word.start_ms < 60_000]
    later = [(channel, word) for channel, word in words if word.start_ms >= 60_000]

    assert [(channel, word.text) for channel, word in early] == [(channel, word.text) for channel, word in later]
    assert {channel for channel, _ in early} == {0, 1}
    for (_, one), (_, two) in zip(early, later, strict=True):
        assert abs(two.start_ms - one.start_ms - late * 1000) <= 300
        assert abs(two.end_ms - one.end_ms - late * 1000) <= 300


async def test_an_echo_is_no_speech(whisper: Whisper, transcripts: Mapping[str, Transcript], tmp_path: Path) -> None:
    """The agent comes back in the caller's channel, 20 dB quieter and 60 ms later. The caller has at most 5 % more
    wrong words than without the echo, the agent as many, and the transcript says what it left out."""
    call = demo_call(CALL)
    mixed = call.samples.astype(np.float64)
    mixed[480:, 0] += call.samples[:-480, 1] * 0.1
    transcript = await transcribed(whisper, tmp_path, np.clip(mixed, -32768, 32767).astype(np.int16))

    for channel, more in ((0, 0.05), (1, 0)):
        before = word_error_rate(call.said(channel), text(transcripts[CALL], channel))
        assert word_error_rate(call.said(channel), text(transcript, channel)) <= before + more
    assert {(one.channel, one.reason) for one in transcript.omitted} == {(0, "echo")}
    assert all(0 <= one.start_ms < one.end_ms <= call.duration_ms for one in transcript.omitted)


@pytest.mark.skipif(not RUSSIAN.is_dir(), reason="needs Debian's asterisk-core-sounds-ru-wav")
async def test_each_channel_has_its_own_language(whisper: Whisper, tmp_path: Path) -> None:
    """The caller speaks English, the agent Russian. Each channel's text must be what it is if the other channel is
    silent, with at most 5 % of the words different; segments name their language."""
    russian = russian_speech()
    english = demo_call(CALL).samples[:, 0]
    both = np.zeros((max(len(russian), len(english)), 2), np.int16)
    both[: len(english), 0] = english
    both[: len(russian), 1] = russian
    together = await transcribed(whisper, tmp_path, both)

    for channel in (0, 1):
        silent = both.copy()
        silent[:, 1 - channel] = 0
        alone = await transcribed(whisper, tmp_path, silent)
        assert word_error_rate(text(alone, channel), text(together, channel)) <= 0.05
    assert {(one.channel, one.language) for one in together.segments} == {(0, "en"), (1, "ru")}
    assert any("а" <= letter <= "я" for letter in text(together, 1))  # noqa: RUF001
