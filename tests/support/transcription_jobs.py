"""Sounds without speech, and recordings with known sounds, for engines that detect a word in each sound."""

import uuid
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from pipelines.providers.base import TranscriptionJob

RATE = 8000
SECONDS = np.arange(20 * RATE) / RATE
SPEAKERS = ("inbound", "outbound")

Samples = npt.NDArray[np.int16]


def tone(seconds: float) -> npt.NDArray[np.int16]:
    """Returns a tone as loud as a voice."""
    times = np.arange(round(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)


def job_of(path: Path, *channels: list[tuple[float, float]], seconds: float = 20) -> TranscriptionJob:
    """Returns a job whose recording has tones on each channel in the given seconds."""
    samples = np.zeros((round(seconds * RATE), len(channels)), np.int16)
    for number, sounds in enumerate(channels):
        for start, end in sounds:
            samples[round(start * RATE) : round(end * RATE), number] = tone(end - start)
    soundfile.write(path, samples, RATE, format="WAV", subtype="PCM_16")
    return TranscriptionJob(uuid.uuid4().hex, "CA1", path, round(seconds * 1000), SPEAKERS[: len(channels)])


def silence() -> Samples:
    """20 s of nothing."""
    return np.zeros(len(SECONDS), np.int16)


def noise() -> Samples:
    """20 s of line noise at about -40 dB."""
    return (np.random.default_rng(7).normal(0, 300, len(SECONDS))).astype(np.int16)


def ring_back() -> Samples:
    """20 s of the North American ring-back tone: 440 and 480 Hz, 2 s on, 4 s off."""
    tone = np.sin(2 * np.pi * 440 * SECONDS) + np.sin(2 * np.pi * 480 * SECONDS)
    return (6000 * tone * (SECONDS % 6 < 2)).astype(np.int16)


def hold_music() -> Samples:
    """20 s of a tune: chords with overtones that change four times a second and die away, as on hold."""
    out = np.zeros(len(SECONDS))
    for index, root in enumerate(np.random.default_rng(3).choice([262, 294, 330, 349, 392, 440], 80)):
        span = slice(index * RATE // 4, (index + 1) * RATE // 4)
        local = SECONDS[: RATE // 4]
        for ratio in (1, 1.25, 1.5, 2, 3):
            out[span] += np.sin(2 * np.pi * root * ratio * local) * np.exp(-4 * local) / ratio
    return (5000 * out).astype(np.int16)
