"""JSON events on the log, one pydantic model each; one module per kind.

Rules of evolution: fields are only added, with a default, and never renamed, retyped or removed. Readers ignore unknown
fields. `version` is raised when an addition matters to readers.
"""

from typing import Annotated

from pydantic import Field, TypeAdapter

from schemas.events.base import Event, Frozen, Money, ObjectRef
from schemas.events.erasure import CallErased, ErasureRequested
from schemas.events.recording import Gap, RecordingReady, TrackOutline, TrackReport
from schemas.events.replay import ReplayCommand, ReplayedPart, ReplayInput, ReplayJob, ReplayOverrides, ReplayStage
from schemas.events.results import (
    ActionItem,
    EmbeddingReady,
    SpeakerSentiment,
    SummaryContent,
    SummaryReady,
    TranscriptReady,
    VersionChosen,
)
from schemas.events.retry import CUT, LetterReplayed, OrderNotice, RetryScheduled, StageFailed, payload_of
from schemas.events.stream import CallStatusReported, DtmfReceived, StreamEnded, StreamStarted
from schemas.events.usage import NO_TOKENS, Tokens, UsageRecorded

# Other modules import every event from here.
__all__ = [
    "CUT",
    "NO_TOKENS",
    "ActionItem",
    "AnyEvent",
    "CallErased",
    "CallStatusReported",
    "DtmfReceived",
    "EmbeddingReady",
    "ErasureRequested",
    "Event",
    "Frozen",
    "Gap",
    "LetterReplayed",
    "Money",
    "ObjectRef",
    "OrderNotice",
    "RecordingReady",
    "ReplayCommand",
    "ReplayInput",
    "ReplayJob",
    "ReplayOverrides",
    "ReplayStage",
    "ReplayedPart",
    "RetryScheduled",
    "SpeakerSentiment",
    "StageFailed",
    "StreamEnded",
    "StreamStarted",
    "SummaryContent",
    "SummaryReady",
    "Tokens",
    "TrackOutline",
    "TrackReport",
    "TranscriptReady",
    "UsageRecorded",
    "VersionChosen",
    "parse_event",
    "payload_of",
]

AnyEvent = Annotated[
    StreamStarted
    | StreamEnded
    | DtmfReceived
    | CallStatusReported
    | RecordingReady
    | TranscriptReady
    | SummaryReady
    | EmbeddingReady
    | UsageRecorded
    | StageFailed
    | LetterReplayed
    | RetryScheduled
    | ReplayCommand
    | ReplayJob
    | ReplayedPart
    | VersionChosen
    | ErasureRequested
    | CallErased,
    Field(discriminator="type"),
]

_ANY: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


def parse_event(value: bytes | str) -> AnyEvent:
    """Returns the event in a record's value. Raises pydantic.ValidationError if the value is not an event."""
    return _ANY.validate_json(value)
