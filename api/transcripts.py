"""Joins the transcripts and summaries of a call's parts. Pure."""

from collections.abc import Sequence

from api.models import CallSummary, JoinedTranscript, PartSummary
from schemas.artifacts import Omitted, Segment, Transcript, Word
from sinks.clickhouse.call_projection import PartDoc


def join_transcripts(transcripts: Sequence[tuple[PartDoc, Transcript | None]]) -> JoinedTranscript:
    """Returns one transcript of a call's parts, in order. At least one part must have a transcript.

    The timeline is that of the parts' recordings played one after the other: a part's times are shifted by the
    duration of the parts before it, transcribed or not. The time between parts, which is not recorded, does not count.
    """
    offset_ms = 0
    segments: list[Segment] = []
    omitted: list[Omitted] = []
    for part, transcript in transcripts:
        if transcript is not None:
            segments += [_shifted(segment, offset_ms) for segment in transcript.segments]
            omitted += [_shifted_omission(one, offset_ms) for one in transcript.omitted]
        # The transcript's event may arrive before the recording's event.
        offset_ms += part.duration_ms or (transcript.duration_ms if transcript else 0)
    first = next(transcript for _, transcript in transcripts if transcript is not None)
    return JoinedTranscript(
        call_id=first.call_id,
        language=first.language,
        duration_ms=offset_ms,
        provider=first.provider,
        model=first.model,
        segments=segments,
        omitted=omitted,
    )


def join_summaries(call_id: str, parts: Sequence[PartDoc]) -> CallSummary:
    """Returns one summary of all parts that have a summary."""
    found = [PartSummary(part=part.part, **part.summary.content) for part in parts if part.summary is not None]
    return CallSummary(
        call_id=call_id,
        abstract="\n\n".join(summary.abstract for summary in found),
        key_points=[point for summary in found for point in summary.key_points],
        action_items=[item for summary in found for item in summary.action_items],
        topics=list(dict.fromkeys(topic for summary in found for topic in summary.topics)),
        actions=[action for summary in found for action in summary.actions],
        sentiment=next((summary.sentiment for summary in reversed(found) if summary.sentiment), []),
        outcome=next((summary.outcome for summary in reversed(found) if summary.outcome), ""),
        fields={name: value for summary in found for name, value in summary.fields.items()},
        parts=found,
    )


def _shifted(segment: Segment, by_ms: int) -> Segment:
    if by_ms == 0:
        return segment
    return segment.model_copy(
        update={
            "start_ms": segment.start_ms + by_ms,
            "end_ms": segment.end_ms + by_ms,
            "words": [_shifted_word(word, by_ms) for word in segment.words],
        }
    )


def _shifted_word(word: Word, by_ms: int) -> Word:
    return word.model_copy(update={"start_ms": word.start_ms + by_ms, "end_ms": word.end_ms + by_ms})


def _shifted_omission(omitted: Omitted, by_ms: int) -> Omitted:
    return omitted.model_copy(update={"start_ms": omitted.start_ms + by_ms, "end_ms": omitted.end_ms + by_ms})
