"""Speech detection of the fake speech services: a word wherever the audio is loud.

So tests check times and channels of the audio that was really sent.
"""

import io
from dataclasses import dataclass

import numpy as np
import soundfile

LOUD = 1500  # of 32768; the demo calls' noise is far below, their vowels far above
_GAP_S = 0.25


class UnreadableError(Exception):
    """The audio has an unknown format."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Length (ms), number of channels, and the times of speech (ms)."""

    duration_ms: int
    channels: int
    sounds: list[tuple[int, int]]


def hear(audio: bytes) -> Heard:
    """Returns the speech in a file. Channels are mixed, as the services do. Raises UnreadableError."""
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(audio), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UnreadableError(str(error)) from error
    mixed = np.abs(samples.astype(np.int32)).max(axis=1)
    loud = np.flatnonzero(mixed > LOUD)
    sounds = []
    if len(loud):
        for run in np.split(loud, np.flatnonzero(np.diff(loud) > _GAP_S * rate_hz) + 1):
            sounds.append((int(run[0]) * 1000 // rate_hz, int(run[-1]) * 1000 // rate_hz + 1))
    return Heard(len(samples) * 1000 // rate_hz, samples.shape[1], sounds)
