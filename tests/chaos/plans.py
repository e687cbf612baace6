"""Plans of the calls, which depend only on their seed. No I/O except for the audio files."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import soundfile

from gateway.simulator import NO_FAULTS, Faults
from schemas.media import Codec
from tests.support.demo_calls import CALLS, demo_call

RATE_HZ = 8000
_QUIET = 60  # of 32768: noise that no voice detector takes for speech, so that it costs no transcription


class Kind(StrEnum):
    """Special property of a call."""

    PLAIN = "plain"
    SPEECH = "speech"  # somebody really speaks
    UNRULY = "shuffled, repeated, holed"
    LATE = "late audio"  # frames come up to two windows after their time
    DROPPED = "dropped socket"
    RESUMED = "hold and resume"  # a second stream within the grace time
    RETURNED = "back after the close"  # a second stream long after it
    ONE_TRACK = "one track"
    NO_AUDIO = "no audio"
    ALAW = "A-law"
    KEYS = "keypad"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class Leg:
    """One media stream. after_s: pause before it. dtmf: digits by stream time in ms."""

    seconds: float
    after_s: float = 0.0
    channels: int = 2
    codec: Codec = Codec.PCMU
    faults: Faults = NO_FAULTS
    dtmf: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A planned call. at_s: its start. redials: a new stream follows a stream that the gateway loses."""

    number: int
    call_id: str
    kind: Kind
    at_s: float
    legs: Sequence[Leg]
    redials: bool


def plans(seed: int, calls: int, seconds: float) -> list[CallPlan]:
    """Returns that many calls over the time, with all kinds equally often, in the order of their start."""
    chance = random.Random(f"calls {seed}")
    kinds = [kind for _ in range(-(-calls // len(Kind))) for kind in chance.sample(list(Kind), len(Kind))]
    times = sorted(chance.uniform(0, seconds) for _ in range(calls))
    return [
        CallPlan(number, f"CA{seed:08x}{number:04d}", kind, at_s, _legs(kind, chance), chance.random() < 0.5)
        for number, (kind, at_s) in enumerate(zip(kinds, times, strict=False))
    ]


def _legs(kind: Kind, chance: random.Random) -> Sequence[Leg]:
    seconds = chance.uniform(2.0, 6.0)
    seed = chance.randrange(1 << 30)
    hole = chance.randrange(20, 60) * 20
    pause_s = chance.uniform(0.05, 0.3) if kind is Kind.RESUMED else chance.uniform(2.0, 5.0)
    keys = [(300 + 250 * number, digit) for number, digit in enumerate("147#")]
    unruly = Faults(shuffle_ms=200, duplicate=0.3, holes=((hole, hole + 300),), seed=seed)
    two = [Leg(seconds / 2), Leg(seconds / 2, after_s=pause_s)]
    special: dict[Kind, Sequence[Leg]] = {
        Kind.UNRULY: [Leg(seconds, faults=unruly)],
        Kind.LATE: [Leg(seconds, faults=Faults(shuffle_ms=1200, seed=seed))],
        Kind.DROPPED: [Leg(seconds, faults=Faults(drop_at_ms=int(seconds * 600)))],
        Kind.RESUMED: two,
        Kind.RETURNED: two,
        Kind.ONE_TRACK: [Leg(seconds, channels=1)],
        # The carrier loses the only frame: the simulator does not play an empty file.
        Kind.NO_AUDIO: [Leg(0.02, faults=Faults(holes=((0, 20),)))],
        Kind.ALAW: [Leg(seconds, codec=Codec.PCMA)],
        Kind.KEYS: [Leg(seconds, dtmf=keys)],
        Kind.LONG: [Leg(4 * seconds)],
    }
    return special.get(kind, [Leg(seconds)])


def write_audio(plan: CallPlan, number: int, folder: Path) -> Path:
    """Writes the audio of a leg as a WAV file. Every frame of every call is different, so that none can be confused."""
    leg = plan.legs[number]
    chance = np.random.default_rng((plan.number, number))
    length = int(leg.seconds * RATE_HZ)
    samples = chance.integers(-_QUIET, _QUIET, (length, leg.channels), dtype=np.int16)
    if plan.kind is Kind.SPEECH:
        said = demo_call(CALLS[plan.number % len(CALLS)]).samples
        start = int(chance.integers(0, len(said) - length))
        samples += said[start : start + length, : leg.channels]
    path = folder / f"{plan.number}-{number}.wav"
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return path
