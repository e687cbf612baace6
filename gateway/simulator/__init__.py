"""Simulator of carriers: plays an audio file into a gateway exactly as a carrier does.

`audiotext call FILE`, the demo and the tests use it. It can also cause the faults of networks and carriers (`Faults`),
always the same ones for the same seed. It returns the frames it sent, so that a recording can be compared with them
sample by sample. The package `encoders` has one module for each carrier.
"""

from gateway.simulator.encoders import UnsupportedPlayError
from gateway.simulator.faults import NO_FAULTS, Faults
from gateway.simulator.player import Played, Progress, play
from gateway.simulator.transport import CallRefusedError

__all__ = ["NO_FAULTS", "CallRefusedError", "Faults", "Played", "Progress", "UnsupportedPlayError", "play"]
