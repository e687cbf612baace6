"""Encoders of the carriers' messages. Each carrier has one module, found by its name, as in gateway/carriers.

To add a carrier, add a module here with a constant `DIALECT` that implements the protocol `Dialect`.
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
    """The carrier does not support the request. The message lists what it supports."""


class Shape(Enum):
    """Form in which a carrier sends the two directions of a call."""

    TRACKS = "one message for each frame of each track, on one socket"
    INTERLEAVED = "both directions in each message, on one socket"
    LEGS = "one socket for each direction"
    MONO = "the caller's direction only"


@dataclass(frozen=True, slots=True)
class CallPlan:
    """Content of one socket's messages.

    tracks: the names of the tracks on this socket. from_number, to_number: the parties; "" for the encoder's default.
    """

    call_id: str
    stream_id: str
    tracks: Sequence[str]
    audio: MediaFormat
    custom: Mapping[str, str]
    from_number: str = ""
    to_number: str = ""

    def party_parameters(self) -> dict[str, str]:
        """Returns the stream parameters with which the gateway's answer to a voice request names the parties."""
        named = {FROM_PARAMETER: self.from_number, TO_PARAMETER: self.to_number}
        return {name: number for name, number in named.items() if number}


class CarrierEncoder(Protocol):
    """Encoder of one socket's messages, in order: text as str, binary as bytes."""

    def opening(self) -> Sequence[str | bytes]:
        """Returns the messages before the audio."""

    def media(self, frames: Sequence[Frame]) -> str | bytes:
        """Returns the message with these frames: one for each track if the shape is INTERLEAVED, else one."""

    def dtmf(self, digit: str) -> str | bytes:
        """Returns the message with a digit that the caller pressed."""

    def closing(self) -> Sequence[str | bytes]:
        """Returns the messages before the socket is closed. There are none if the carrier only closes it."""


class Dialect(Protocol):
    """Protocol of one carrier.

    formats: the formats it can send, the usual one first. numbered: frames have a number and a timestamp. frame_ms: the
    audio in one message.
    """

    shape: Shape
    frame_ms: int
    numbered: bool
    formats: Sequence[MediaFormat]
    subprotocols: Sequence[str]

    def ids(self) -> tuple[str, str]:
        """Returns random ids of a call and a stream, in the carrier's format."""

    def headers(self, secret: str, socket_url: str) -> Mapping[str, str]:
        """Returns the headers that authenticate the upgrade request. socket_url: the public one."""

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""


def load_dialects() -> Mapping[str, Dialect]:
    """Returns the dialect of every module in this package, by the carrier's name."""
    return {
        module.name: importlib.import_module(f"{__name__}.{module.name}").DIALECT
        for module in pkgutil.iter_modules(__path__)
    }


def bearer(secret: str) -> Mapping[str, str]:
    """Returns the header with a bearer token."""
    return {"Authorization": f"Bearer {secret}"}


def random_id() -> str:
    """Returns a random UUID."""
    return str(uuid.uuid4())


class BearerHandshake:
    """Handshake of a carrier whose ids are UUIDs and whose upgrade request has a bearer token.

    The real carriers may prove themselves in another way, which is not documented or depends on the user's settings.
    """

    subprotocols: Sequence[str] = ()

    def ids(self) -> tuple[str, str]:
        """Returns UUIDs. A carrier without stream ids does not send the second one."""
        return random_id(), random_id()

    def headers(self, secret: str, _socket_url: str) -> Mapping[str, str]:
        """Returns a bearer token."""
        return bearer(secret)
