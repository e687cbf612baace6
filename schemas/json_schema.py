"""JSON Schemas (draft 2020-12) of the models, for programs that read the log without our code. Pure.

`audiotext schemas DIR` writes them; the repository has them in `schemas/json/`, and a test keeps them up to date.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from schemas.artifacts import Manifest, Peaks, ReplayPlan, Summary, Transcript
from schemas.events import AnyEvent, Event, OrderNotice
from schemas.media import Codec, RecordType, header_fields
from schemas.topics import Topic

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ARTIFACTS: Mapping[str, type[BaseModel]] = {
    "transcript": Transcript,
    "summary": Summary,
    "peaks": Peaks,
    "manifest": Manifest,
    "replay-plan": ReplayPlan,
}
MEDIA_HEADERS = "call.media.headers"

# Types of events on each topic; call.media has none.
EVENTS: Mapping[Topic, Sequence[str]] = {
    Topic.CALL_EVENTS: (
        "stream.started",
        "stream.ended",
        "dtmf.received",
        "call.status",
        "version.chosen",
        "call.erased",
    ),
    Topic.RECORDING_READY: ("recording.ready",),
    Topic.TRANSCRIPT_READY: ("transcript.ready",),
    Topic.SUMMARY_READY: ("summary.ready",),
    Topic.EMBEDDING_READY: ("embedding.ready",),
    Topic.USAGE_RECORDED: ("usage.recorded",),
    Topic.DEAD_LETTERS: ("stage.failed", "letter.replayed"),
    Topic.TRANSCRIBE_RETRY: ("retry.scheduled",),
    Topic.SUMMARIZE_RETRY: ("retry.scheduled",),
    Topic.EMBED_RETRY: ("retry.scheduled",),
    Topic.PROVIDER_NOTICES: ("order.notice",),
    Topic.REPLAY_COMMANDS: ("replay.command",),
    Topic.REPLAY_JOBS: ("replay.job",),
    Topic.REPLAY_PROGRESS: ("replay.part",),
    Topic.REPLAY_RETRY: ("retry.scheduled",),
    Topic.REPLAY_COMMANDS_RETRY: ("retry.scheduled",),
    Topic.ERASURE_REQUESTS: ("erasure.requested",),
    Topic.ERASURE_RETRY: ("retry.scheduled",),
}


def models() -> Mapping[str, type[BaseModel]]:
    """Returns every model by the name of its schema: events by their type, objects in S3 by their kind."""
    union, *_ = get_args(AnyEvent)
    events: Sequence[type[Event]] = [*get_args(union), OrderNotice]
    return {**{event.model_fields["type"].default: event for event in events}, **_ARTIFACTS}


def schemas() -> Mapping[str, Mapping[str, Any]]:
    """Returns every schema by its name: `models`, and the headers of a call.media record as an object of strings."""
    found = {name: model.model_json_schema(mode="serialization") for name, model in models().items()}
    found[MEDIA_HEADERS] = _media_headers()
    return {name: {"$schema": _DRAFT} | schema for name, schema in sorted(found.items())}


def files() -> Mapping[str, str]:
    """Returns the contents of the schema files by file name."""
    return {f"{name}.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas().items()}


def _media_headers() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "type": {"enum": [str(one) for one in RecordType], "type": "string"},
        "codec": {"enum": [str(one) for one in Codec], "type": "string"},
    }
    required = ["type", "codec"]
    for header, is_number, is_required in header_fields():
        properties[header] = {"type": "string"} | ({"pattern": "^-?[0-9]+$"} if is_number else {})
        if is_required:
            required.append(header)
    return {
        "title": "Headers of a call.media record",
        "description": "Each header's value as UTF-8 text; the meaning of each is in docs/topics.md.",
        "type": "object",
        "properties": properties,
        "required": required,
    }
