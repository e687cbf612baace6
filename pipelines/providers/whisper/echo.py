"""Finds the echo of one channel in the other: words that return over the line, quieter and a little later.

The functions are pure. A speaker who talks at the same time is louder than the echo. The two channels then differ, and
the speech is not treated as an echo.
"""

import numpy as np
import numpy.typing as npt

from pipelines.providers.whisper.voice import FRAME, RATE_HZ, Channel, Region

_BLOCK = 16  # frames that are judged together: half a second
_AROUND = 8 * FRAME  # audio before and after a block that is compared with it: a quarter of a second
_LATEST = RATE_HZ * 6 // 10  # an echo comes back within so many samples
_ALIKE = 0.6  # least correlation of an echo with its source
_ALIKE_BESIDE = 0.4  # the same next to an echo: where the source begins or ends, it is hidden in noise
_QUIETER = 10 ** (-12 / 10)  # an echo has at most so much of the source's energy
_ACTIVE = 0.15  # least probability of speech

Samples = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]


def likeness(own: Samples, other: Samples) -> float:
    """Returns the similarity of `own` to the most similar part of `other`, from 0 to 1.

    It is 0 if `own` is not much quieter than that part. `other` begins earlier, so it is longer.
    """
    own_energy = float(np.dot(own, own))
    energies = np.concatenate([[0.0], np.cumsum(other.astype(np.float64) ** 2)])
    energy = energies[len(own) :] - energies[: len(energies) - len(own)]
    if not own_energy or energy.max() <= 0:
        return 0.0
    size = 1 << (len(other) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(other, size) * np.conj(np.fft.rfft(own, size)), size)[: len(energy)]
    alike = np.abs(products) / np.sqrt(own_energy * np.maximum(energy, energy.max() * 1e-6))
    best = int(np.argmax(alike))
    return float(alike[best]) if own_energy <= _QUIETER * energy[best] else 0.0


def without_echo(own: Channel, found: Probabilities, other: Channel, others: Probabilities) -> Probabilities:
    """Returns the probabilities of speech in a channel, 0 where it is an echo of the other channel."""
    alike = np.zeros(-(-len(found) // _BLOCK))
    for place in range(len(alike)):
        first = place * _BLOCK
        start, end = first * FRAME - _AROUND, (first + _BLOCK) * FRAME + _AROUND
        source = slice(max(0, (start - _LATEST) // FRAME), first + _BLOCK)
        if found[first : first + _BLOCK].max() >= _ACTIVE and others[source].max(initial=0) >= _ACTIVE:
            alike[place] = likeness(own.read(start, end), other.read(start - _LATEST, end))
    strong = np.pad(alike >= _ALIKE, 1)
    echo = strong[1:-1] | ((alike >= _ALIKE_BESIDE) & (strong[:-2] | strong[2:]))
    return np.where(np.repeat(echo, _BLOCK)[: len(found)], np.float32(0), found)


def echoes_of(before: Probabilities, after: Probabilities) -> list[Region]:
    """Returns the parts of a channel that are echo. before, after: probabilities with the echo and without."""
    edges = np.flatnonzero(np.diff(np.pad(after < before, 1).astype(np.int8)))
    return [Region(int(start) * FRAME, int(end) * FRAME) for start, end in edges.reshape(-1, 2)]
