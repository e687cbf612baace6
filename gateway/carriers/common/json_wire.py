"""Helpers for JSON messages: counters as strings or numbers, repairs, and errors of invalid messages."""

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.carriers.base import CarrierError, Ignored, Message, Repaired, StartError
from gateway.carriers.common.text_repair import repair

Counter = Annotated[int, Meta(ge=0, le=2**53)]
Digit = Annotated[str, Meta(min_length=1, max_length=8)]

# Exceptions of msgspec for invalid input: bad JSON or types, bad UTF-8, nesting too deep.
REFUSALS = (msgspec.MsgspecError, UnicodeError, RecursionError)


class _Envelope(msgspec.Struct):
    event: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def decode_as(wire: Any) -> Callable[[bytes], Any]:
    """Returns a decoder of a union of tagged structs.

    The decoder is not strict: some carriers send counters as strings, others as numbers, and a carrier may change that.
    """
    return msgspec.json.Decoder(wire, strict=False).decode


def read_repaired(data: bytes, read: Callable[[bytes], Sequence[Message]]) -> Sequence[Message] | None:
    """Repairs a message that did not decode, and reads it again. Returns None if it needs or allows no repair.

    Raises CarrierError if the repaired message is still invalid.
    """
    repaired = repair(data)
    return None if repaired is None else (Repaired(repaired.kinds), *read(repaired.data))


def read_refused(
    data: bytes, error: Exception, known: Collection[str], read: Callable[[bytes], Sequence[Message]]
) -> Sequence[Message]:
    """Reads a message that did not decode: repaired, or as `explain_decode_error` does. Raises CarrierError."""
    messages = read_repaired(data, read)
    return (explain_decode_error(data, error, known),) if messages is None else messages


def explain_decode_error(data: bytes, error: Exception, known: Collection[str]) -> Ignored:
    """Returns Ignored for an unknown kind of message (not in `known`), which the carrier may have added.

    Raises StartError for an invalid start, and CarrierError for every other invalid message.
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


def text(value: Any) -> str:
    """Returns a field as a string, whatever its type, so that it cannot fail a call: "" for null, else JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def texts(values: Any) -> dict[str, str]:
    """Returns the values of an object, each as `text`. Returns nothing if it is not an object."""
    return {name: text(value) for name, value in values.items()} if isinstance(values, dict) else {}


def text_list(values: Any) -> tuple[str, ...]:
    """Returns the strings in a list. Returns nothing if it is not a list."""
    return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else ()
