"""Selects the calls and parts of a replay."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from core.counting import number_of
from core.errors import UsageError, UserError
from schemas.artifacts import PlannedPart
from schemas.events import ReplayStage
from sinks.clickhouse.ambiguity import require_one_tenant_each
from sinks.clickhouse.call_list_query import CallFilter
from sinks.clickhouse.call_projection import CallDoc, PartDoc, Status
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.phone_numbers import matches, search_digits

TRANSCRIBING: frozenset[ReplayStage] = frozenset({"media", "recording"})
_PAGE = 200


class NothingToReplayError(UserError):
    """No selected call can be processed again from the stage; the message says why."""


class EmptySelectionError(UsageError):
    """The request selects no calls or contradicts itself. parameter: the one to correct."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Selection:
    """Selection of calls: these ids, or all calls that pass the filters; without both, no call unless `every` is set.

    Times in ms since the epoch, of the call's start. query: part of the call id or of a number.
    """

    call_ids: tuple[str, ...] = ()
    tenant: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    status: Status | None = None
    query: str | None = None
    every: bool = False

    @property
    def has_filter(self) -> bool:
        """True if the selection names calls or has a filter."""
        return self != Selection(every=self.every)


def selection(
    *,
    call_ids: Iterable[str] | None = None,
    tenant: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    status: Status | None = None,
    failed: bool = False,
    query: str | None = None,
    every: bool = False,
) -> Selection:
    """Returns the selection for these filters; None and `failed=False` do not filter.

    An empty list or text is an error, never a filter that accepts everything. Raises EmptySelectionError.
    """
    ids = None if call_ids is None else tuple(dict.fromkeys(call_ids))
    if ids is not None and (not ids or not all(ids)):
        raise EmptySelectionError("an empty list or id selects no call: name calls, or leave `calls` out", "calls")
    for name, text in (("query", query), ("tenant", tenant)):
        if text is not None and not text.strip():
            raise EmptySelectionError(f"an empty text selects no call: leave `{name}` out", name)
    if failed and status not in (None, "failed"):
        raise EmptySelectionError(f"a call cannot be `failed` and in status `{status}`", "failed")
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise EmptySelectionError("must be after `from`", "to")
    return Selection(ids or (), tenant, since_ms, until_ms, "failed" if failed else status, query, every)


def selected(store: CallStore, wanted: Selection) -> set[tuple[str, str]]:
    """Returns the calls (tenant, call id) that match the selection now.

    Raises NothingToReplayError for ids without a call, AmbiguousCallError for an id that several tenants have,
    StoreUnavailableError.
    """
    found = {(call.tenant, call.id) for call in _calls(store, wanted)}
    _check_there(store, wanted, {call_id for _, call_id in found})
    return found


@dataclass(frozen=True, slots=True)
class ChosenPart:
    """Part of a call and its existing results.

    transcripts, summaries, embeddings: hashes of the configurations that made them; the last two for the current
    transcript only. summarized: True if any transcript has a summary. words: number of words in the transcript.
    """

    tenant: str
    call_id: str
    part: int
    duration_ms: int
    words: int
    transcripts: frozenset[str]
    summaries: frozenset[str]
    embeddings: frozenset[str]
    summarized: bool


@dataclass(frozen=True, slots=True)
class SelectionResult:
    """Parts that can be processed again from the stage, and the number of parts that cannot."""

    parts: tuple[ChosenPart, ...]
    left_out: int

    @property
    def plan(self) -> list[PlannedPart]:
        """Parts for the replay's plan."""
        return [PlannedPart(tenant=part.tenant, call_id=part.call_id, part=part.part) for part in self.parts]

    @property
    def calls(self) -> int:
        """Number of calls."""
        return len({(part.tenant, part.call_id) for part in self.parts})

    @property
    def duration_ms(self) -> int:
        """Audio of all parts."""
        return sum(part.duration_ms for part in self.parts)


def choose(store: CallStore, selection: Selection, stage: ReplayStage) -> SelectionResult:
    """Returns the parts that match the selection now.

    Raises EmptySelectionError, NothingToReplayError, AmbiguousCallError, StoreUnavailableError.
    """
    if not selection.has_filter and not selection.every:
        raise EmptySelectionError("name calls, set a filter, or set `all`", "calls")
    ids: set[str] = set()
    found: list[ChosenPart] = []
    left_out = 0
    for call in _calls(store, selection):
        ids.add(call.id)
        usable = [part for part in call.parts if _has_input(part, stage)]
        left_out += len(call.parts) - len(usable)
        found += [_part(call, part) for part in usable]
    _check_there(store, selection, ids)
    if not ids:
        raise NothingToReplayError("no call passes the filters" if selection.has_filter else "there are no calls")
    if not found:
        kind = "recording" if stage in TRANSCRIBING else "transcript"
        raise NothingToReplayError(f"{number_of(len(ids), 'call')} selected, none with a {kind} to start from")
    return SelectionResult(tuple(found), left_out)


def _check_there(store: CallStore, selection: Selection, ids: Collection[str]) -> None:
    """Raises NothingToReplayError if a call that the selection names is not among the ids found."""
    missing = set(selection.call_ids) - set(ids)
    if not missing:
        return
    left = {call.id for call in store.find_calls(tuple(sorted(missing)), selection.tenant)}
    if unknown := missing - left:
        raise NothingToReplayError(f"there is no call {_some(unknown)}")
    raise NothingToReplayError(
        f"the filters (status, times, text) exclude {_some(left)}: remove the filters, or do not name the call"
    )


def _some(ids: Collection[str]) -> str:
    return ", ".join(sorted(ids)[:5]) + (" …" if len(ids) > 5 else "")


def _part(call: CallDoc, part: PartDoc) -> ChosenPart:
    current = part.transcript.transcript_id if part.transcript else ""
    summaries = [version for version in part.versions if version.of == "summary"]
    return ChosenPart(
        tenant=call.tenant,
        call_id=call.id,
        part=part.part,
        duration_ms=part.duration_ms,
        words=part.transcript.words if part.transcript else 0,
        transcripts=frozenset(version.config_hash for version in part.versions if version.of == "transcript"),
        summaries=frozenset(version.config_hash for version in summaries if version.transcript_id == current),
        embeddings=frozenset(part.embedded_by),
        summarized=bool(summaries),
    )


def _calls(store: CallStore, selection: Selection) -> Iterator[CallDoc]:
    if selection.call_ids:
        found = store.find_calls(selection.call_ids, selection.tenant)
        require_one_tenant_each(found)
        yield from _passing(found, selection)
        return
    cursor: str | None = None
    while True:
        wanted = CallFilter(
            tenant=selection.tenant,
            status=selection.status,
            since_ms=selection.since_ms,
            until_ms=selection.until_ms,
            query=selection.query,
        )
        page, cursor = store.list_calls(wanted, limit=_PAGE, cursor=cursor)
        yield from page
        if cursor is None:
            return


def _passing(calls: Iterable[CallDoc], selection: Selection) -> Iterator[CallDoc]:
    """Yields the calls that pass the filters; ids and filters together must both match."""
    query = selection.query or ""
    digits = search_digits(query)
    for call in calls:
        since, until = selection.since_ms, selection.until_ms
        numbers = (call.from_number, call.to_number)
        if (
            (
                any(query.lower() in text.lower() for text in (call.id, *numbers))
                or any(matches(number, digits) for number in numbers)
            )
            and selection.status in (None, call.status)
            and (since is None or call.started_at_ms >= since)
            and (until is None or call.started_at_ms < until)
        ):
            yield call


def _has_input(part: PartDoc, stage: ReplayStage) -> bool:
    return (part.recording if stage in TRANSCRIBING else part.transcript) is not None
