"""Finds versions of calls' transcripts and summaries, and makes them count. Pure but for the clock."""

import time
from collections.abc import Sequence

from core.errors import UserError
from schemas.events import AnyEvent, SummaryReady, TranscriptReady, VersionChosen
from schemas.ids import uuid_of
from sinks.clickhouse.call_projection import CallDoc, unique
from sinks.clickhouse.result_versions import Result, VersionDoc, current_summary, current_transcript, version_id


class NoSuchVersionError(UserError):
    """The call has no such version. parameter: what named it."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def version_of(call: CallDoc, version_id: str, parameter: str = "version") -> VersionDoc:
    """The version with that id. Raises NoSuchVersionError."""
    for version in versions_of(call):
        if version.version_id == version_id:
            return version
    raise NoSuchVersionError(f"the call has no version {version_id!r}", parameter)


def versions_of(call: CallDoc) -> list[VersionDoc]:
    """All versions of the call's parts."""
    return [version for part in call.parts for version in part.versions]


def to_compare(call: CallDoc, part: int, before: str | None, after: str | None) -> tuple[VersionDoc, VersionDoc]:
    """Two versions of a part's transcript; by default the oldest and the one that counts. Raises NoSuchVersionError."""
    made = [one for one in versions_of(call) if one.of == "transcript" and one.part == part]
    if not made:
        raise NoSuchVersionError(f"part {part} has no transcript", "part")
    first = version_of(call, before, "before") if before else made[0]
    second = version_of(call, after, "after") if after else next(one for one in made if one.current)
    for version, parameter in ((first, "before"), (second, "after")):
        if version.of != "transcript":
            raise NoSuchVersionError(f"{version.version_id} is not a transcript's", parameter)
    return first, second


def chosen(call: CallDoc, version: VersionDoc) -> VersionChosen:
    """The event that makes the version the one that counts from now on."""
    now_ms = time.time_ns() // 1_000_000
    return _choice((call.tenant, call.id, version.part), version.of, version.version_id, now_ms)


def current_ids(told: Sequence[AnyEvent]) -> dict[Result, str]:
    """The versions of a part that count, by what they are of. told: the part's events."""
    events = unique(told)
    transcript = current_transcript(events)
    summary = current_summary(events, transcript)
    found: dict[Result, str] = {}
    if transcript:
        found["transcript"] = version_id(transcript)
    if summary:
        found["summary"] = version_id(summary)
    return found


def choices(
    told: Sequence[AnyEvent], wanted: dict[Result, str], now_ms: int, replay_id: str = ""
) -> list[VersionChosen]:
    """The events that make these versions of a part count; none for those that count already or do not exist.

    told: the part's events. replay_id: the replay that chooses; it chooses once, however often this is called."""
    found: list[VersionChosen] = []
    first = told[0] if told else None
    there = {
        ("transcript" if isinstance(event, TranscriptReady) else "summary", version_id(event))
        for event in told
        if isinstance(event, (TranscriptReady, SummaryReady))
    }
    of: Result
    for of in ("transcript", "summary"):  # in this order: a transcript brings its summary
        version = wanted.get(of)
        if not first or not version or (of, version) not in there or current_ids([*told, *found]).get(of) == version:
            continue
        found.append(_choice((first.tenant, first.call_id, first.part), of, version, now_ms, replay_id))
    return found


def choices_of(
    replay_id: str, known: Sequence[AnyEvent], made: Sequence[TranscriptReady | SummaryReady], now_ms: int
) -> list[VersionChosen]:
    """The events that make a replay's results count where they do not by themselves: results that were there before.

    known: the part's events so far. A result that this replay has told of before counted then, and is left alone: a
    job that runs again must not undo what somebody has chosen since."""
    ours = {event.event_id for event in known if event.replay_id == replay_id}
    wanted: dict[Result, str] = {
        "transcript" if isinstance(event, TranscriptReady) else "summary": version_id(event)
        for event in made
        if event.event_id not in ours
    }
    return choices([*known, *made], wanted, now_ms, replay_id)


def _choice(of_part: tuple[str, str, int], of: Result, version: str, now_ms: int, replay_id: str = "") -> VersionChosen:
    tenant, call_id, part = of_part
    return VersionChosen(
        event_id=uuid_of("version.chosen", tenant, call_id, part, version, replay_id or now_ms),
        call_id=call_id,
        tenant=tenant,
        part=part,
        occurred_at_ms=now_ms,
        of=of,
        version_id=version,
        replay_id=replay_id,
    )
