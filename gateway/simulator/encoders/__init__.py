"""What each carrier says, word by word: one file each, found by its name, as in gateway/carriers.

To add a dialect, add a module here with a constant `DIALECT` that follows the protocol `Dialect`.
"""

import importlib
import pkgutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from core.errors import UserError
from gateway.carriers.base import FROM_PARAMETER, TO_PARAMETER, Frame
from gateway.carriers.common.media_format import MediaFormat


class UnsupportedPlayError(UserError):
    """The carrier does not do what is asked of it; the message says what it does."""


class Shape(Enum):
    """How a carrier sends the two directions of a call."""

    TRACKS = "a message for each frame of each track, on one socket"
    INTERLEAVED = "both in each message, on one socket"
    LEGS = "a socket for each"
    MONO = "the caller's only"


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What a socket's messages are about. tracks: the names of those that this socket carries. from_number, to_number:
    the parties; "" for what the dialect says by itself."""

    call_id: str
    stream_id: str
    tracks: Sequence[str]
    audio: MediaFormat
    custom: Mapping[str, str]
    from_number: str = ""
    to_number: str = ""

    def party_parameters(self) -> dict[str, str]:
        """The stream parameters by which our own answer to a voice request names the parties."""
        named = {FROM_PARAMETER: self.from_number, TO_PARAMETER: self.to_number}
        return {name: number for name, number in named.items() if number}


class CarrierEncoder(Protocol):
    """One socket's messages, in order: text as str, binary as bytes."""

    def opening(self) -> Sequence[str | bytes]:
        """What comes before audio."""

    def media(self, frames: Sequence[Frame]) -> str | bytes:
        """The frames of one moment, one for each track if the dialect's shape is INTERLEAVED, else one."""

    def dtmf(self, digit: str) -> str | bytes:
        """A key, pressed by the caller."""

    def closing(self) -> Sequence[str | bytes]:
        """What comes before the socket is closed; nothing from carriers that only close it."""


class Dialect(Protocol):
    """One carrier. formats: what it can send, the usual one first. numbered: whether frames carry number and time.

    frame_ms: audio in a message.
    """

    shape: Shape
    frame_ms: int
    numbered: bool
    formats: Sequence[MediaFormat]
    subprotocols: Sequence[str]

    def ids(self) -> tuple[str, str]:
        """Made-up ids of a call and a stream, in the carrier's fashion."""

    def headers(self, secret: str, socket_url: str) -> Mapping[str, str]:
        """What the upgrade request proves itself with. socket_url: the public one."""

    def speaker(self, call: CallPlan) -> CarrierEncoder:
        """Speaks on one new socket."""


def load_dialects() -> Mapping[str, Dialect]:
    """Every dialect there is a module of, by the carrier's name."""
    return {
        module.name: importlib.import_module(f"{__name__}.{module.name}").DIALECT
        for module in pkgutil.iter_modules(__path__)
    }


def bearer(secret: str) -> Mapping[str, str]:
    """The header of a bearer token."""
    return {"Authorization": f"Bearer {secret}"}


def made_up_id() -> str:
    """A random UUID."""
    return str(uuid.uuid4())
