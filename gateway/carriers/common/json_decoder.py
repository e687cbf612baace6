"""Decoder shared by the carriers whose JSON messages are `start`, `media`, `dtmf`, `mark` and `stop`, as Twilio's are.

A carrier declares its messages as msgspec structs and subclasses `JsonDecoder`. The structs use the attribute names
that the decoder reads; `msgspec.field(name=…)` gives the carrier's own spelling.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, get_args

import msgspec

from gateway.carriers.base import TRACKS, CarrierError, Dtmf, Frame, Ignored, Mark, Message, Stop, StreamStart
from gateway.carriers.common.json_wire import REFUSALS, Counter, Digit, decode_as, read_refused

_TRACK_NAMES = {"inbound_track": "inbound", "outbound_track": "outbound"}


class Connected(msgspec.Struct, tag_field="event", tag="connected"):
    """Greeting before the start."""


class DtmfBody(msgspec.Struct):
    """Keypad digit of a carrier that does not name the track: the caller pressed it."""

    digit: Digit
    track: ClassVar[str] = "inbound"


class DtmfMessage(msgspec.Struct, tag_field="event", tag="dtmf"):
    """Message with a keypad digit."""

    dtmf: DtmfBody
    sequence_number: Counter = 0


class TrackDtmfBody(msgspec.Struct):
    """Keypad digit of a carrier that names the track."""

    digit: Digit
    track: str = "inbound"


class TrackDtmfMessage(msgspec.Struct, tag_field="event", tag="dtmf"):
    """Message with a keypad digit and its track, in camel case."""

    dtmf: TrackDtmfBody
    sequence_number: Counter = msgspec.field(name="sequenceNumber", default=0)


class MarkBody(msgspec.Struct):
    """Name of a point in the stream."""

    name: str


class MarkMessage(msgspec.Struct, tag_field="event", tag="mark"):
    """Message that marks a point in the stream."""

    mark: MarkBody
    sequence_number: Counter = 0


class CamelMarkMessage(msgspec.Struct, tag_field="event", tag="mark"):
    """Message that marks a point in the stream, in camel case."""

    mark: MarkBody
    sequence_number: Counter = msgspec.field(name="sequenceNumber", default=0)


class StopMessage(msgspec.Struct, tag_field="event", tag="stop"):
    """End of the stream."""


class JsonDecoder(ABC):
    """Decodes one socket. The socket carries one stream, and its media must carry the stream's id.

    wire: the union of the carrier's message structs. Its struct with the tag "media" has `stream_id`,
    `sequence_number`, and `media` with `track`, `timestamp` (ms) and `payload`. frame: builds the frame of a carrier
    whose number or timestamp has another meaning.
    """

    _wire: ClassVar[tuple[Callable[[bytes], Any], dict[str, Any]]]

    def __init_subclass__(cls, *, wire: Any) -> None:
        cls._wire = decode_as(wire), {kind.__struct_config__.tag: kind for kind in get_args(wire)}

    def __init__(self, frame: Callable[[Any], Frame] | None = None) -> None:
        # Attributes of the instance: `text` reads them for every message, and Python reads those of the class slower.
        self._decode, self._kinds = self._wire
        self._media = self._kinds["media"]
        self._stream_id = ""
        self._frame = frame

    def text(self, data: bytes) -> Sequence[Message]:
        """Decodes one message. Raises CarrierError."""
        try:
            decode = self._decode  # a method call of an instance attribute is slower
            wire = decode(data)
        except REFUSALS as error:
            return read_refused(data, error, self._kinds, self.text)
        if type(wire) is self._media:  # checked first: nearly all messages of a call are media
            if wire.stream_id != self._stream_id and self._stream_id:
                raise CarrierError("media of another stream")
            media = wire.media
            if not media.payload:
                raise CarrierError("media without audio")
            frame = self._frame
            if frame is not None:
                return (frame(wire),)
            return (Frame(media.track, wire.sequence_number, media.timestamp, media.payload),)
        return self._other_message(wire)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Raises CarrierError: these carriers send no binary messages."""
        raise CarrierError("unexpected binary message")

    @abstractmethod
    def _read_start(self, wire: Any) -> tuple[Message, ...]:
        """Returns the messages in the carrier's start: a StreamStart comes last. Raises StartError."""

    def _other_message(self, wire: Any) -> Sequence[Message]:
        match wire:
            case DtmfMessage(dtmf=dtmf) | TrackDtmfMessage(dtmf=dtmf):
                track = _TRACK_NAMES.get(dtmf.track, dtmf.track)
                if track not in TRACKS:
                    raise CarrierError(f"dtmf on unknown track {dtmf.track[:40]!r}")
                return (Dtmf(track, dtmf.digit, wire.sequence_number),)
            case MarkMessage(mark=mark) | CamelMarkMessage(mark=mark):
                return (Mark(mark.name, wire.sequence_number),)
            case StopMessage():
                return (Stop(),)
            case Connected():
                return (Ignored("connected"),)
        messages = self._read_start(wire)
        start = messages[-1]
        assert isinstance(start, StreamStart)
        self._stream_id = self._stream_id or start.stream_id
        return messages
