"""Makes other versions of many calls count at once: those of a replay, or those that counted before a point in time."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from core.errors import UserError
from pipelines.replay.selection import Selection, selected
from pipelines.replay.service import Publish
from pipelines.replay.versions import choices, current_ids
from schemas.events import AnyEvent, VersionChosen
from schemas.topics import Topic
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.result_versions import Result

_PAGE = 200  # calls whose events are read at once

Call = tuple[str, str]  # tenant, call id
Part = tuple[str, str, int]  # tenant, call id, part
Versions = dict[Result, str]


class NoSuchReplayError(UserError):
    """There is no replay with that id."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which versions are to count: those of a replay, or those that counted before a time.

    replay: a replay's id. before: ms since the epoch, or a replay's id, which means the time of its request, for its
    calls alone. Exactly one of them is given.
    """

    replay: str | None = None
    before: int | str | None = None


@dataclass(frozen=True, slots=True)
class Switched:
    """calls, parts: looked at. switched_calls, switched_parts: of which another version counts now."""

    calls: int
    parts: int
    switched_calls: int
    switched_parts: int


class VersionSwitcher:
    """Switches the versions of many calls. Thread-safe; its method blocks."""

    def __init__(self, calls: CallStore, replays: ReplayStore, tell: Publish) -> None:
        self._calls = calls
        self._replays = replays
        self._tell = tell

    def switch(self, target: Target, selection: Selection, *, tenant: str | None, dry_run: bool = False) -> Switched:
        """Makes the versions count, for the calls that pass the selection (an empty one lets all pass).

        tenant: whose replays may be named; None = every tenant's. dry_run: only counts. Raises NoSuchReplayError,
        NothingToReplayError, StoreUnavailableError, LogUnavailableError."""
        calls, wanted = self._wanted(target, tenant)
        calls = [call for call in calls if selection.tenant in (None, call[0])]
        if replace(selection, tenant=None).has_filter:
            passing = selected(self._calls, selection)
            calls = [call for call in calls if call in passing]
        looked: set[Part] = set()
        switched: set[Part] = set()
        now_ms = time.time_ns() // 1_000_000
        for part, told in self._parts(calls):
            looked.add(part)
            chosen = choices(told, wanted(part, told), now_ms)
            if not chosen:
                continue
            switched.add(part)
            if not dry_run:
                self._keep(chosen)
        return Switched(
            calls=len({part[:2] for part in looked}),
            parts=len(looked),
            switched_calls=len({part[:2] for part in switched}),
            switched_parts=len(switched),
        )

    def _wanted(
        self, target: Target, tenant: str | None
    ) -> tuple[Collection[Call], Callable[[Part, Sequence[AnyEvent]], Versions]]:
        """The calls in question, and what is wanted of each of their parts."""
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
            return _distinct(parts), lambda part, told: _before(told, requested_ms) if part in parts else {}
        assert target.before is not None
        before_ms = target.before
        return self._calls.changed_since(before_ms), lambda _, told: _before(told, before_ms)

    def _replay(self, replay_id: str, tenant: str | None) -> int:
        """When the replay was requested. Raises NoSuchReplayError."""
        found = self._replays.get_replay(replay_id, tenant)
        if found is None:
            raise NoSuchReplayError(f"there is no replay {replay_id} (see `audiotext replay list`)")
        return found.requested_at_ms

    def _parts(self, calls: Collection[Call]) -> Iterator[tuple[Part, list[AnyEvent]]]:
        names = sorted(calls)
        for start in range(0, len(names), _PAGE):
            for (tenant, call_id), told in self._calls.events_by_call(names[start : start + _PAGE]).items():
                for number in sorted({event.part for event in told}):
                    yield (tenant, call_id, number), [event for event in told if event.part == number]

    def _keep(self, chosen: Sequence[VersionChosen]) -> None:
        self._tell(Topic.CALL_EVENTS, chosen)
        self._calls.put_events(chosen)


def _before(told: Sequence[AnyEvent], before_ms: int) -> Versions:
    """The versions that counted then; none of a part that had no transcript yet."""
    return current_ids([event for event in told if event.occurred_at_ms < before_ms])


def _distinct(parts: Iterable[Part]) -> set[Call]:
    return {part[:2] for part in parts}
