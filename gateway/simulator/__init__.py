"""Carriers, simulated: an audio file is played into a gateway exactly as a carrier would play it.

Behind `audiotext call FILE`, the demo and the tests. It can also misbehave the way networks and carriers do
(`Faults`), always in the same way for the same seed, and it returns what it sent, so that a recording can be
compared with it sample by sample. Whose words are used is one file each in `dialects`.
"""

from gateway.simulator.encoders import UnsupportedPlayError
from gateway.simulator.faults import NO_FAULTS, Faults
from gateway.simulator.player import Played, Progress, play
from gateway.simulator.transport import CallRefusedError

__all__ = ["NO_FAULTS", "CallRefusedError", "Faults", "Played", "Progress", "UnsupportedPlayError", "play"]
