"""Events of the stages with results: transcripts, summaries, embeddings, and the choice among their versions."""

from typing import Any, Literal

from pydantic import Field

from schemas.events.base import Event, Frozen, ObjectRef


class TranscriptReady(Event):
    """A transcript is in S3 (JSON of schemas.artifacts.Transcript).

    transcript_id: the job key. engine_ms: time of the engine; words, segments: numbers of them.
    keep_current: True if a replay made it without making it the current version.
    """

    type: Literal["transcript.ready"] = "transcript.ready"
    transcript_id: str
    transcript: ObjectRef
    recording_sha256: str
    language: str
    duration_ms: int
    provider: str
    model: str
    segments: int
    words: int
    engine_ms: int
    call_started_at_ms: int
    keep_current: bool = False


class ActionItem(Frozen):
    """Task after the call. owner: a speaker or a name; "" if no owner was named."""

    text: str
    owner: str = ""


class SpeakerSentiment(Frozen):
    """Sentiment of a speaker, by the text: "positive", "neutral", "negative" or "mixed"."""

    speaker: str
    sentiment: str


class SummaryContent(Frozen):
    """Content of a summary. Only a language model gives `topics`, `sentiment`, `outcome` and `fields`.

    actions: the action items again, with their owners as separate fields. outcome: result of the call ("resolved",
    "follow_up", …), "" if it was not requested. fields: the tenant's own fields by name, without those that the call
    does not mention.
    """

    abstract: str
    key_points: list[str]
    action_items: list[str]
    topics: list[str] = Field(default_factory=list)
    actions: list[ActionItem] = Field(default_factory=list)
    sentiment: list[SpeakerSentiment] = Field(default_factory=list)
    outcome: str = ""
    fields: dict[str, str] = Field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """The fields above by name, for another model with the same content."""
        return {name: getattr(self, name) for name in SummaryContent.model_fields}


class SummaryReady(SummaryContent, Event):
    """A summary is ready. The event contains it; a copy is in S3.

    keep_current: see TranscriptReady.
    """

    type: Literal["summary.ready"] = "summary.ready"
    transcript_id: str
    summary: ObjectRef
    provider: str
    model: str
    engine_ms: int
    call_started_at_ms: int
    keep_current: bool = False


class EmbeddingReady(Event):
    """The call's speaker turns are searchable: the collection has `points` vectors of `dimension`."""

    type: Literal["embedding.ready"] = "embedding.ready"
    transcript_id: str
    provider: str
    model: str
    collection: str
    dimension: int
    points: int
    engine_ms: int
    call_started_at_ms: int


class VersionChosen(Event):
    """A version of the part's transcript or summary was made current."""

    type: Literal["version.chosen"] = "version.chosen"
    of: Literal["transcript", "summary"]
    version_id: str
