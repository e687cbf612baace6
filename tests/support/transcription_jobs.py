"""Recordings with tones at known times, for engines that detect a word in each tone."""

import uuid
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from pipelines.providers.base import TranscriptionJob

RATE = 8000
SPEAKERS = ("inbound", "outbound")


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
