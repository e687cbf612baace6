"""What a record means for its call: a pure function of the call's state, the record and its place on the log.

Nothing here knows the time. Whether a call is over is decided by a `close` record that lies on the log itself
(see pipelines.recorder.call_timeout), so reading the log again decides the same, part by part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from schemas.media import MediaRecord, RecordType, ended_stream


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part that still takes records. Offsets are those of call.media; `streams` says of each stream whether it
    has ended; carrier: of the record that opened it; gateways: by stream, who was the last to start it."""

    number: int
    first_offset: int
    last_offset: int
    streams: Mapping[str, bool]
    carrier: str
    gateways: Mapping[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether every stream heard of has ended."""
        return bool(self.streams) and all(self.streams.values())


@dataclass(frozen=True, slots=True)
class CallState:
    """All that has to be known of a call (of one tenant).

    parts: how many were ever opened; while a stream may still come it is not forgotten, or that would overwrite part 1.
    unfinished: first and close offset of each part that is closed, but whose recording is not known to be ready.
    last, at_ms: offset of the call's last record, of whatever type, and its time (ms since the epoch).
    """

    parts: int = 0
    open: OpenPart | None = None
    unfinished: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    last: int = -1
    at_ms: int = 0

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do for the call, unless more of it comes."""
        return self.open is None and not self.unfinished


@dataclass(frozen=True, slots=True)
class UnrecordedPart:
    """A part whose recording is not known to be ready, and what its journal must hold.

    first_offset, last_offset: of its records on the log; last_offset is the close record's if the part is closed.
    ended: it is open, and all its streams have ended.
    """

    number: int
    first_offset: int
    last_offset: int
    closed: bool
    ended: bool = False
    carrier: str = ""


def unrecorded(state: CallState) -> list[UnrecordedPart]:
    """The parts there is still something to do about."""
    parts = [
        UnrecordedPart(number, first, close, closed=True) for number, (first, close) in sorted(state.unfinished.items())
    ]
    if (part := state.open) is not None:
        parts.append(UnrecordedPart(part.number, part.first_offset, part.last_offset, False, part.ended, part.carrier))
    return parts


def is_recorded(state: CallState, part: int) -> bool:
    """Whether the part's recording is known to be ready."""
    is_open = state.open is not None and state.open.number == part
    return part <= state.parts and part not in state.unfinished and not is_open


class Action(StrEnum):
    """What has to be done about a record."""

    APPEND = "append"  # it belongs to the part: journal it
    FINISH = "finish"  # it closes the part: journal it, then make the recording
    RELEASE = "release"  # the part's recording is ready: its spool may go
    FORGET = "forget"  # the call is done for good: its state goes
    WATCH = "watch"  # a decision to close came too late: the part goes on
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Transition:
    """The action and the part it is about.

    expected_offset: the part's last record before this one, which its journal must already hold; -1 if there is none,
    for this record opened the part. ended: all its streams have ended. why: for the log.
    """

    action: Action
    part: int
    expected_offset: int = -1
    ended: bool = False
    why: str = ""


# A part is opened by what there is to record. Anything else that comes after the close says nothing new.
_OPENING = (RecordType.START, RecordType.MEDIA)

# Streams that have ended are known so that audio which overtook its end does not seem to go on. It comes within
# moments; a call of thousands of streams would have a state that the changelog does not take, and stop its partition.
_ENDED_KEPT = 50


def transition(state: CallState, record: MediaRecord, offset: int) -> tuple[CallState, Transition]:
    """The call's next state, and what to do about this record of it. A state without parts need not be kept."""
    if record.type is RecordType.FORGET:
        return _forget(state, record)
    if record.type is RecordType.CLOSE:
        following, decision = _close(state, record, offset)
    elif record.type is RecordType.RECORDED:
        following, decision = _recorded(state, record)
    else:
        following, decision = _take(state, record, offset)
    if offset > state.last:
        following = replace(following, last=offset, at_ms=record.at_ms)
    return following, decision


def _take(state: CallState, record: MediaRecord, offset: int) -> tuple[CallState, Transition]:
    part = state.open
    if part is not None and offset <= part.last_offset:
        return state, Transition(Action.IGNORE, part.number, why="redelivered")
    if part is None and offset <= state.last:
        return state, Transition(Action.IGNORE, state.parts, why="redelivered")
    if part is None and record.type not in _OPENING:
        return state, Transition(Action.IGNORE, state.parts, why=f"{record.type} after the part was closed")
    if part is None:
        part = OpenPart(state.parts + 1, offset, -1, {}, record.carrier)
    streams, gateways = _streams(part, record)
    following = replace(part, last_offset=offset, streams=streams, gateways=gateways)
    decision = Transition(Action.APPEND, part.number, part.last_offset, following.ended)
    return replace(state, parts=max(state.parts, part.number), open=following), decision


def _streams(part: OpenPart, record: MediaRecord) -> tuple[Mapping[str, bool], Mapping[str, str]]:
    """The part's streams after the record, and the gateways of those that go on."""
    streams, gateways, stream = part.streams, part.gateways, record.stream_id
    if record.type is RecordType.START:
        others = {name: gateway for name, gateway in gateways.items() if name != stream}
        return {**streams, stream: False}, {**others, stream: record.gateway} if record.gateway else others
    if record.type is RecordType.EOS:
        if not stream:
            return _latest(dict.fromkeys(streams, True)), {}
        if stream in streams and not ended_stream(record, gateways.get(stream, "")):
            return streams, gateways
        return _latest({**streams, stream: True}), {name: by for name, by in gateways.items() if name != stream}
    # Audio of a stream whose start lies in an earlier part; audio that overtook its end changes nothing.
    return streams if stream in streams else {**streams, stream: False}, gateways


def _latest(streams: Mapping[str, bool]) -> Mapping[str, bool]:
    """Without the first ones of many that have ended."""
    old = set([name for name, ended in streams.items() if ended][:-_ENDED_KEPT])
    return {name: ended for name, ended in streams.items() if name not in old}


def _close(state: CallState, record: MediaRecord, offset: int) -> tuple[CallState, Transition]:
    part = state.open
    if part is not None and record.part == part.number:
        if record.seen < part.last_offset:
            why = "the call went on after the decision to close"
            return state, Transition(Action.WATCH, part.number, part.last_offset, part.ended, why)
        unfinished = {**state.unfinished, part.number: (part.first_offset, offset)}
        return replace(state, open=None, unfinished=unfinished), Transition(
            Action.FINISH, part.number, part.last_offset
        )
    if record.part in state.unfinished or record.part > state.parts:
        return state, Transition(Action.IGNORE, record.part, why="not open, and not recorded yet")
    # Somebody who does not know that the recording is ready still holds the part.
    return state, Transition(Action.RELEASE, record.part)


def _recorded(state: CallState, record: MediaRecord) -> tuple[CallState, Transition]:
    if state.open is not None and state.open.number == record.part:
        return state, Transition(Action.IGNORE, record.part, why="recorded, it says, but the part is open")
    unfinished = {part: offsets for part, offsets in state.unfinished.items() if part != record.part}
    return replace(state, unfinished=unfinished), Transition(Action.RELEASE, record.part)


def _forget(state: CallState, record: MediaRecord) -> tuple[CallState, Transition]:
    if state.finished and record.seen == state.last:
        return CallState(), Transition(Action.FORGET, state.parts)
    # A stream that comes now is one more part, as long as whoever decided to forget did not know of it.
    return state, Transition(Action.IGNORE, state.parts, why="the call went on after the decision to forget")


def forget_record(call: tuple[str, str], state: CallState, at_ms: int) -> MediaRecord:
    """The proposal to forget a finished call (tenant, call id) in this state. at_ms: now, ms since the epoch."""
    tenant, call_id = call
    return MediaRecord(
        RecordType.FORGET, call_id, tenant, carrier="", stream_id="", at_ms=at_ms, seen=state.last, part=state.parts
    )


def to_json(state: CallState) -> dict[str, Any]:
    """The state as JSON-able data."""
    part = state.open
    # By itself: a recorder of before, that takes over, reads the rest as it always did.
    gateways = {"gateways": dict(part.gateways)} if part and part.gateways else {}
    return {
        "parts": state.parts,
        "open": part and [part.number, part.first_offset, part.last_offset, dict(part.streams), part.carrier],
        "unfinished": {str(number): list(offsets) for number, offsets in state.unfinished.items()},
        "last": [state.last, state.at_ms],
    } | gateways


def from_json(data: dict[str, Any] | None) -> CallState:
    """The state in what `to_json` made; None is a call never heard of."""
    if data is None:
        return CallState()
    unfinished = {int(number): (first, close) for number, (first, close) in data["unfinished"].items()}
    last, at_ms = data.get("last") or (max((close for _, close in unfinished.values()), default=-1), 0)
    return CallState(
        parts=data["parts"],
        open=replace(OpenPart(*data["open"]), gateways=data.get("gateways", {})) if data["open"] else None,
        unfinished=unfinished,
        last=last,
        at_ms=at_ms,
    )
