"""What the carriers that speak JSON have in common: counters as strings or numbers, and honest refusals."""

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.carriers.base import CarrierError, Ignored, StartError

# A call lasts a day at most; what is beyond a week is a broken clock and not a place in a recording.
MAX_STREAM_MS = 7 * 24 * 3_600_000

Milliseconds = Annotated[int, Meta(ge=0, le=MAX_STREAM_MS)]
"""Since the stream's start."""

Counter = Annotated[int, Meta(ge=0, le=2**53)]
Digit = Annotated[str, Meta(min_length=1, max_length=8)]

# What msgspec is known to raise on hostile input: bad JSON or types, bad UTF-8, nesting too deep.
REFUSALS = (msgspec.MsgspecError, UnicodeError, RecursionError)


class _Envelope(msgspec.Struct):
    event: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def decode_as(wire: Any) -> Callable[[bytes], Any]:
    """A decoder of a union of tagged structs. Not strict: counters come as strings from one carrier and as numbers
    from the next, and a carrier that changes its mind is still understood."""
    return msgspec.json.Decoder(wire, strict=False).decode


def explain_decode_error(data: bytes, error: Exception, known: Collection[str]) -> Ignored:
    """Why a message did not decode: of a kind the carrier may add one day (anything but `known`), or broken.

    Raises StartError for a broken start and CarrierError for whatever else is broken.
    """
    try:
        event = _decode_envelope(data).event
    except REFUSALS:
        event = ""
    if event and event not in known:
        return Ignored(event[:40])
    if event == "start":
        raise StartError(f"malformed start: {error}") from None
    raise CarrierError(f"malformed {event or 'message'}: {error}") from None


def texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    """What a customer attached to a stream: a value that is no string is kept as JSON instead of costing the call."""
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in (values or {}).items()
    }
