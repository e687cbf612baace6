"""State machine of a call: a pure function of the call's state, a record and the record's offset.

It does not depend on the time. A `close` record on the log itself ends a part (see pipelines.recorder.call_timeout), so
reading the log again gives the same parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pipelines.recorder.streams import Streams
from schemas.media import MediaRecord, RecordType


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part that accepts records.

    Attributes:
        number: Number of the part.
        first_offset: Offset of its first record on call.media.
        last_offset: Offset of its last record so far.
        carrier: Carrier of the record that opened the part.
        streams: Streams of the part.
    """

    number: int
    first_offset: int
    last_offset: int
    carrier: str
    streams: Streams = field(default_factory=Streams)


@dataclass(frozen=True, slots=True)
class CallState:
    """State of a call of one tenant.

    Attributes:
        parts: Number of parts that were ever opened. It is kept while a stream may still arrive: without it, the
            stream would overwrite part 1.
        open: The open part, if there is one.
        unfinished: First offset and close offset of each closed part whose recording is not known to be ready.
        last: Offset of the call's last record of any type.
        at_ms: Time of that record (ms since the epoch).
    """

    parts: int = 0
    open: OpenPart | None = None
    unfinished: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    last: int = -1
    at_ms: int = 0

    @property
    def finished(self) -> bool:
        """True if the call needs no more work, unless further records arrive."""
        return self.open is None and not self.unfinished


@dataclass(frozen=True, slots=True)
class UnrecordedPart:
    """A part whose recording is not known to be ready, and the required content of its journal.

    Attributes:
        number: Number of the part.
        first_offset: Offset of its first record on the log.
        last_offset: Offset of its last record; that of the close record if the part is closed.
        closed: True if the part is closed.
        ended: True if the part is open and all its streams have ended.
        carrier: Carrier of an open part.
    """

    number: int
    first_offset: int
    last_offset: int
    closed: bool
    ended: bool = False
    carrier: str = ""


def unrecorded(state: CallState) -> list[UnrecordedPart]:
    """Returns the parts of a call that need more work."""
    parts = [
        UnrecordedPart(number, first, close, closed=True) for number, (first, close) in sorted(state.unfinished.items())
    ]
    if (part := state.open) is not None:
        parts.append(
            UnrecordedPart(
                part.number, part.first_offset, part.last_offset, False, part.streams.all_ended, part.carrier
            )
        )
    return parts


def is_recorded(state: CallState, part: int) -> bool:
    """True if the part's recording is known to be ready."""
    is_open = state.open is not None and state.open.number == part
    return part <= state.parts and part not in state.unfinished and not is_open


class Action(StrEnum):
    """Action for a record."""

    APPEND = "append"  # the record belongs to the part: write it to the journal
    FINISH = "finish"  # the record closes the part: write it to the journal, then make the recording
    RETRY = "retry"  # the part is closed and not recorded: make the recording, unless that is in progress
    RELEASE = "release"  # the part's recording is ready: delete its journal
    FORGET = "forget"  # the call is finished: its state is deleted
    WATCH = "watch"  # a decision to close arrived too late: the part continues
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Transition:
    """Decision about a record.

    Attributes:
        action: Action for the record.
        part: Number of the part that the action applies to.
        expected_offset: Offset of the part's previous record, which its journal must contain; -1 if this record
            opened the part.
        ended: True if all streams of the part have ended.
        reason: Reason, for the log.
    """

    action: Action
    part: int
    expected_offset: int = -1
    ended: bool = False
    reason: str = ""


# Only these records open a part. Others that arrive after the close add nothing.
_OPENING_TYPES = (RecordType.START, RecordType.MEDIA)


def transition(state: CallState, record: MediaRecord, offset: int) -> tuple[CallState, Transition]:
    """Returns the call's next state and the decision about the record. A state without parts need not be stored."""
    if record.type is RecordType.FORGET:
        return _forget(state, record)
    if record.type is RecordType.CLOSE:
        following, decision = _close(state, record, offset)
    elif record.type is RecordType.RECORDED:
        following, decision = _recorded(state, record)
    elif record.type is RecordType.RETRY:
        following, decision = state, _retry(state, record)
    else:
        following, decision = _append(state, record, offset)
    if offset > state.last:
        following = replace(following, last=offset, at_ms=record.at_ms)
    return following, decision


def _append(state: CallState, record: MediaRecord, offset: int) -> tuple[CallState, Transition]:
    part = state.open
    if part is not None and offset <= part.last_offset:
        return state, Transition(Action.IGNORE, part.number, reason="redelivered")
    if part is None and offset <= state.last:
        return state, Transition(Action.IGNORE, state.parts, reason="redelivered")
    if part is None and record.type not in _OPENING_TYPES:
        return state, Transition(Action.IGNORE, state.parts, reason=f"{record.type} after the part was closed")
    if part is None:
        part = OpenPart(state.parts + 1, offset, -1, record.carrier)
    following = replace(part, last_offset=offset, streams=part.streams.after(record))
    decision = Transition(Action.APPEND, part.number, part.last_offset, following.streams.all_ended)
    return replace(state, parts=max(state.parts, part.number), open=following), decision


def _close(state: CallState, record: MediaRecord, offset: int) -> tuple[CallState, Transition]:
    part = state.open
    if part is not None and record.part == part.number:
        if record.seen < part.last_offset:
            reason = "the call continued after the decision to close"
            return state, Transition(Action.WATCH, part.number, part.last_offset, part.streams.all_ended, reason)
        unfinished = {**state.unfinished, part.number: (part.first_offset, offset)}
        return replace(state, open=None, unfinished=unfinished), Transition(
            Action.FINISH, part.number, part.last_offset
        )
    if record.part in state.unfinished or record.part > state.parts:
        return state, Transition(Action.IGNORE, record.part, reason="not open, and not recorded yet")
    # A recorder that does not know that the recording is ready still has the part's journal.
    return state, Transition(Action.RELEASE, record.part)


def _recorded(state: CallState, record: MediaRecord) -> tuple[CallState, Transition]:
    if state.open is not None and state.open.number == record.part:
        return state, Transition(Action.IGNORE, record.part, reason="a part that is still open is reported as recorded")
    unfinished = {part: offsets for part, offsets in state.unfinished.items() if part != record.part}
    return replace(state, unfinished=unfinished), Transition(Action.RELEASE, record.part)


def _retry(state: CallState, record: MediaRecord) -> Transition:
    if record.part in state.unfinished:
        return Transition(Action.RETRY, record.part)
    return Transition(Action.IGNORE, record.part, reason="no recording of a closed part is missing")


def _forget(state: CallState, record: MediaRecord) -> tuple[CallState, Transition]:
    if state.finished and record.seen == state.last:
        return CallState(), Transition(Action.FORGET, state.parts)
    # The decision did not include the call's latest record, so the state stays and a new stream gets a new part.
    return state, Transition(Action.IGNORE, state.parts, reason="the call continued after the decision to forget")


def forget_record(call: tuple[str, str], state: CallState, at_ms: int) -> MediaRecord:
    """Returns the record that proposes to delete the state of a finished call.

    Args:
        call: Tenant and call id.
        state: The state to delete.
        at_ms: Now (ms since the epoch).
    """
    tenant, call_id = call
    return MediaRecord(
        RecordType.FORGET, call_id, tenant, carrier="", stream_id="", at_ms=at_ms, seen=state.last, part=state.parts
    )


def to_json(state: CallState) -> dict[str, Any]:
    """Returns the state as JSON-serializable data."""
    part = state.open
    gateways = {"gateways": dict(part.streams.gateways)} if part and part.streams.gateways else {}
    return {
        "parts": state.parts,
        "open": part and [part.number, part.first_offset, part.last_offset, dict(part.streams.ended), part.carrier],
        "unfinished": {str(number): list(offsets) for number, offsets in state.unfinished.items()},
        "last": [state.last, state.at_ms],
    } | gateways


def from_json(data: dict[str, Any] | None) -> CallState:
    """Returns the state from the data of `to_json`; None is an unknown call."""
    if data is None:
        return CallState()
    unfinished = {int(number): (first, close) for number, (first, close) in data["unfinished"].items()}
    last, at_ms = data.get("last") or (max((close for _, close in unfinished.values()), default=-1), 0)
    return CallState(
        parts=data["parts"],
        open=_open_part(data),
        unfinished=unfinished,
        last=last,
        at_ms=at_ms,
    )


def _open_part(data: dict[str, Any]) -> OpenPart | None:
    if not data["open"]:
        return None
    number, first, last, ended, carrier = data["open"]
    return OpenPart(number, first, last, carrier, Streams(ended, data.get("gateways", {})))
