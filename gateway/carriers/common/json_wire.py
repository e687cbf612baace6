"""What the carriers that speak JSON have in common: counters as strings or numbers, and honest refusals."""

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.carriers.base import CarrierError, Ignored, Message, Repaired, StartError
from gateway.carriers.common.text_repair import repair

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


def read_repaired(data: bytes, read: Callable[[bytes], Sequence[Message]]) -> Sequence[Message] | None:
    """Reads a message that did not decode once more, after a repair; None if there is nothing to repair in it.

    Raises CarrierError for a message that is wrong even then.
    """
    repaired = repair(data)
    return None if repaired is None else (Repaired(repaired.kinds), *read(repaired.data))


def read_refused(
    data: bytes, error: Exception, known: Collection[str], read: Callable[[bytes], Sequence[Message]]
) -> Sequence[Message]:
    """Reads a message that did not decode: repaired, or as `understand_refusal` does. Raises CarrierError."""
    messages = read_repaired(data, read)
    return (explain_decode_error(data, error, known),) if messages is None else messages


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


def text(value: Any) -> str:
    """A field that must not cost the call, whatever its type: "" for null, JSON for what is not a string."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def texts(values: Any) -> dict[str, str]:
    """What a customer attached to a stream, each value as `text`; nothing if it is not an object."""
    return {name: text(value) for name, value in values.items()} if isinstance(values, dict) else {}


def text_list(values: Any) -> tuple[str, ...]:
    """The strings in a list; nothing if it is not a list."""
    return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else ()
