"""Events of the gateway: streams, keypad digits and the status of calls."""

from typing import Literal

from pydantic import Field

from schemas.events.base import Event


class StreamStarted(Event):
    """A carrier's media stream began.

    repairs: kinds of damage in the text of its start message; see gateway.carriers.common.text_repair.
    """

    type: Literal["stream.started"] = "stream.started"
    carrier: str
    stream_id: str
    tracks: list[str]
    codec: str
    rate_hz: int
    from_number: str = ""
    to_number: str = ""
    custom: dict[str, str] = Field(default_factory=dict)
    repairs: list[str] = Field(default_factory=list)


class StreamEnded(Event):
    """A media stream ended. dropped_ms: audio that the gateway dropped because the log was unavailable for too long.

    repaired: number of its messages whose damaged text was repaired.
    """

    type: Literal["stream.ended"] = "stream.ended"
    stream_id: str
    reason: str
    frames: int = 0
    dropped_ms: int = 0
    repaired: int = 0


class DtmfReceived(Event):
    """A keypad digit was pressed.

    seq: the carrier's sequence number, 0 if it sends none. number: 1 for the first digit of the stream, and so on.
    Several digits may have the same millisecond.
    """

    type: Literal["dtmf.received"] = "dtmf.received"
    stream_id: str
    track: str
    digit: str
    seq: int = 0
    number: int = 0


class CallStatusReported(Event):
    """The carrier reported the status of the call or of one of its streams by a webhook, in the carrier's own words.

    stream_id: "" if the status is about the call. over: True if the status means that the call has ended.
    from_number, to_number: the parties according to this webhook, "" if it does not name them.
    """

    type: Literal["call.status"] = "call.status"
    carrier: str
    status: str
    stream_id: str = ""
    over: bool = False
    reason: str = ""
    from_number: str = ""
    to_number: str = ""
