"""Makes other versions of many calls current: those of a replay, or those that were current before a point in time."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from core.errors import UserError
from pipelines.replay.selection import Selection, selected
from pipelines.replay.service import Publish
from pipelines.replay.versions import choices, current_ids
from schemas.events import AnyEvent, VersionChosen
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.result_versions import Result

_PAGE = 200  # calls whose events are queried at once

Call = tuple[str, str]  # tenant, call id
Part = tuple[str, str, int]  # tenant, call id, part
Versions = dict[Result, str]


class NoSuchReplayError(UserError):
    """There is no replay with that id."""


@dataclass(frozen=True, slots=True)
class Target:
    """Versions to make current: those of a replay, or those that were current before a time.

    replay: a replay's id. before: ms since the epoch, or a replay's id, which means the time of its request, for its
    calls only. Exactly one of them is set.
    """

    replay: str | None = None
    before: int | str | None = None


@dataclass(frozen=True, slots=True)
class Switched:
    """Result of a switch. calls, parts: examined; switched_calls, switched_parts: with another current version now."""

    calls: int
    parts: int
    switched_calls: int
    switched_parts: int


class VersionSwitcher:
    """Switches the versions of many calls. Thread-safe. Blocking."""

    def __init__(self, calls: CallStore, replays: ReplayStore, publish: Publish) -> None:
        self._calls = calls
        self._replays = replays
        self._publish = publish

    def switch(self, target: Target, selection: Selection, *, tenant: str | None, dry_run: bool = False) -> Switched:
        """Makes the versions current, for the calls that pass the selection (an empty selection accepts all calls).

        tenant: tenant whose replays may be named; None = every tenant's. dry_run: only counts. Raises
        NoSuchReplayError, NothingToReplayError, StoreUnavailableError, LogUnavailableError.
        """
        calls, wanted = self._wanted(target, tenant)
        calls = [call for call in calls if selection.tenant in (None, call[0])]
        if replace(selection, tenant=None).has_filter:
            passing = selected(self._calls, selection)
            calls = [call for call in calls if call in passing]
        examined: set[Part] = set()
        switched: set[Part] = set()
        now_ms = time.time_ns() // 1_000_000
        for part, events in self._parts(calls):
            examined.add(part)
            chosen = choices(events, wanted(part, events), now_ms)
            if not chosen:
                continue
            switched.add(part)
            if not dry_run:
                self._record(chosen)
        return Switched(
            calls=len({part[:2] for part in examined}),
            parts=len(examined),
            switched_calls=len({part[:2] for part in switched}),
            switched_parts=len(switched),
        )

    def _wanted(
        self, target: Target, tenant: str | None
    ) -> tuple[Collection[Call], Callable[[Part, Sequence[AnyEvent]], Versions]]:
        """Returns the calls of the target, and a function from a part and its events to the versions wanted."""
        if target.replay is not None:
            self._replay(target.replay, tenant)
            done = [part for part in self._replays.finished_parts(target.replay) if part.outcome == "done"]
            of_replay: dict[Part, Versions] = {}
            for one in done:
                found: Versions = {}
                if one.transcript_id:
                    found["transcript"] = one.transcript_id
                if one.summary_id:
                    found["summary"] = one.summary_id
                of_replay[one.tenant, one.call_id, one.part] = found
            return _distinct(of_replay), lambda part, _: of_replay.get(part, {})
        if isinstance(target.before, str):
            requested_ms = self._replay(target.before, tenant)
            parts = {(one.tenant, one.call_id, one.part) for one in self._replays.finished_parts(target.before)}
            return _distinct(parts), lambda part, events: _before(events, requested_ms) if part in parts else {}
        assert target.before is not None
        before_ms = target.before
        return self._calls.changed_since(before_ms), lambda _, events: _before(events, before_ms)

    def _replay(self, replay_id: str, tenant: str | None) -> int:
        """Returns the time of the replay's request. Raises NoSuchReplayError."""
        found = self._replays.get_replay(replay_id, tenant)
        if found is None:
            raise NoSuchReplayError(f"there is no replay {replay_id} (see `audiotext replay list`)")
        return found.requested_at_ms

    def _parts(self, calls: Collection[Call]) -> Iterator[tuple[Part, list[AnyEvent]]]:
        names = sorted(calls)
        for start in range(0, len(names), _PAGE):
            for (tenant, call_id), events in self._calls.events_by_call(names[start : start + _PAGE]).items():
                for number in sorted({event.part for event in events}):
                    yield (tenant, call_id, number), [event for event in events if event.part == number]

    def _record(self, chosen: Sequence[VersionChosen]) -> None:
        self._publish(Topic.CALL_EVENTS, chosen)
        self._calls.put_events(chosen)


def _before(events: Sequence[AnyEvent], before_ms: int) -> Versions:
    """Returns the versions that were current then; empty for a part without a transcript at that time."""
    return current_ids([event for event in events if event.occurred_at_ms < before_ms])


def _distinct(parts: Iterable[Part]) -> set[Call]:
    return {part[:2] for part in parts}
