"""Finds versions of calls' transcripts and summaries, and makes them current. Pure except for the clock."""

import time
from collections.abc import Sequence

from core.errors import UserError
from schemas.events import AnyEvent, SummaryReady, TranscriptReady, VersionChosen
from schemas.ids import uuid_of
from sinks.clickhouse.call_projection import CallDoc, unique
from sinks.clickhouse.result_versions import Result, VersionDoc, current_summary, current_transcript, version_id


class NoSuchVersionError(UserError):
    """The call has no such version. parameter: the one that names the version."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def version_of(call: CallDoc, version_id: str, parameter: str = "version") -> VersionDoc:
    """Returns the version with that id. Raises NoSuchVersionError."""
    for version in versions_of(call):
        if version.version_id == version_id:
            return version
    raise NoSuchVersionError(f"the call has no version {version_id!r}", parameter)


def versions_of(call: CallDoc) -> list[VersionDoc]:
    """Returns all versions of the call's parts."""
    return [version for part in call.parts for version in part.versions]


def to_compare(call: CallDoc, part: int, before: str | None, after: str | None) -> tuple[VersionDoc, VersionDoc]:
    """Returns two versions of a part's transcript; by default the oldest and the current one.

    Raises NoSuchVersionError.
    """
    made = [one for one in versions_of(call) if one.of == "transcript" and one.part == part]
    if not made:
        raise NoSuchVersionError(f"part {part} has no transcript", "part")
    first = version_of(call, before, "before") if before else made[0]
    second = version_of(call, after, "after") if after else next(one for one in made if one.current)
    for version, parameter in ((first, "before"), (second, "after")):
        if version.of != "transcript":
            raise NoSuchVersionError(f"{version.version_id} is not a version of a transcript", parameter)
    return first, second


def chosen(call: CallDoc, version: VersionDoc) -> VersionChosen:
    """Returns the event that makes the version current."""
    now_ms = time.time_ns() // 1_000_000
    return _choice((call.tenant, call.id, version.part), version.of, version.version_id, now_ms)


def current_ids(events: Sequence[AnyEvent]) -> dict[Result, str]:
    """Returns the ids of a part's current versions by kind of result. events: the part's events."""
    ordered = unique(events)
    transcript = current_transcript(ordered)
    summary = current_summary(ordered, transcript)
    found: dict[Result, str] = {}
    if transcript:
        found["transcript"] = version_id(transcript)
    if summary:
        found["summary"] = version_id(summary)
    return found


def choices(
    events: Sequence[AnyEvent], wanted: dict[Result, str], now_ms: int, replay_id: str = ""
) -> list[VersionChosen]:
    """Returns the events that make these versions of a part current.

    Skips versions that are current already or do not exist. events: the part's events. replay_id: the replay that
    chooses; its choice has one event id, however often this function is invoked.
    """
    found: list[VersionChosen] = []
    first = events[0] if events else None
    existing = {
        ("transcript" if isinstance(event, TranscriptReady) else "summary", version_id(event))
        for event in events
        if isinstance(event, (TranscriptReady, SummaryReady))
    }
    of: Result
    for of in ("transcript", "summary"):  # in this order: a transcript's summary becomes current with it
        version = wanted.get(of)
        if (
            not first
            or not version
            or (of, version) not in existing
            or current_ids([*events, *found]).get(of) == version
        ):
            continue
        found.append(_choice((first.tenant, first.call_id, first.part), of, version, now_ms, replay_id))
    return found


def choices_of(
    replay_id: str, known: Sequence[AnyEvent], made: Sequence[TranscriptReady | SummaryReady], now_ms: int
) -> list[VersionChosen]:
    """Returns the events that make a replay's results current if they are not by themselves: results that existed.

    known: the part's events so far. Skips results that this replay has published before: they were current then, and a
    job that runs again must not undo a later choice.
    """
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
