"""Which calls a replay is about."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from core.counting import number_of
from core.errors import UsageError, UserError
from schemas.artifacts import PlannedPart
from schemas.events import ReplayStage
from sinks.clickhouse.call_projection import CallDoc, PartDoc, Status
from sinks.clickhouse.phone_numbers import matches, search_digits
from sinks.clickhouse.queries import CallStore

TRANSCRIBING: frozenset[ReplayStage] = frozenset({"media", "recording"})
_PAGE = 200


class NothingToReplayError(UserError):
    """No call that was chosen can be processed again from there; the message says why."""


class EmptySelectionError(UsageError):
    """The request does not say which calls it means, or contradicts itself. parameter: the one to correct."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Selection:
    """Which calls: these ids, or all that pass the filters; without any, none, unless `every` is set.

    Times in ms since the epoch, of the call's start; query: part of the call id or of a number."""

    call_ids: tuple[str, ...] = ()
    tenant: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    status: Status | None = None
    query: str | None = None
    every: bool = False

    @property
    def has_filter(self) -> bool:
        """Whether it names calls or has a filter."""
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
    """The selection that these filters make; None and `failed=False` do not filter. An empty list or text is a mistake,
    never a filter that lets everything pass. Raises EmptySelectionError."""
    ids = None if call_ids is None else tuple(dict.fromkeys(call_ids))
    if ids is not None and (not ids or not all(ids)):
        raise EmptySelectionError("an empty list or id selects no call: name calls, or leave `calls` out", "calls")
    for name, text in (("query", query), ("tenant", tenant)):
        if text is not None and not text.strip():
            raise EmptySelectionError(f"an empty text selects no call: leave `{name}` out", name)
    if failed and status not in (None, "failed"):
        raise EmptySelectionError(f"a call cannot be `failed` and in status `{status}`", "failed")
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise EmptySelectionError("lies before `from`", "to")
    return Selection(ids or (), tenant, since_ms, until_ms, "failed" if failed else status, query, every)


def selected(store: CallStore, wanted: Selection) -> set[tuple[str, str]]:
    """The calls (tenant, call id) that the selection is about now. Raises NothingToReplayError for ids without a call,
    StoreUnavailableError."""
    found = {(call.tenant, call.id) for call in _calls(store, wanted)}
    _check_there(store, wanted, {call_id for _, call_id in found})
    return found


@dataclass(frozen=True, slots=True)
class ChosenPart:
    """A part of a call, and what there is of it. transcripts, summaries, embeddings: configurations' hashes, the last
    two of the transcript that counts; summarized: whether it was, of whatever transcript. words: in the transcript."""

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
    """The parts that can be processed again from the stage, and how many cannot."""

    parts: tuple[ChosenPart, ...]
    left_out: int

    @property
    def plan(self) -> list[PlannedPart]:
        return [PlannedPart(tenant=part.tenant, call_id=part.call_id, part=part.part) for part in self.parts]

    @property
    def calls(self) -> int:
        return len({(part.tenant, part.call_id) for part in self.parts})

    @property
    def duration_ms(self) -> int:
        return sum(part.duration_ms for part in self.parts)


def choose(store: CallStore, selection: Selection, stage: ReplayStage) -> SelectionResult:
    """The parts that the selection is about now. Raises EmptySelectionError, NothingToReplayError,
    StoreUnavailableError."""
    if not selection.has_filter and not selection.every:
        raise EmptySelectionError("say which calls, filter them, or say `all`", "calls")
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
        what = "recording" if stage in TRANSCRIBING else "transcript"
        raise NothingToReplayError(f"{number_of(len(ids), 'call')} chosen, none with a {what} to start from")
    return SelectionResult(tuple(found), left_out)


def _check_there(store: CallStore, selection: Selection, ids: Collection[str]) -> None:
    """Raises NothingToReplayError if a call that the selection names is not among the ids found."""
    missing = set(selection.call_ids) - set(ids)
    if not missing:
        return
    left = {call.id for call in store.find_calls(tuple(sorted(missing)), selection.tenant)}
    if nowhere := missing - left:
        raise NothingToReplayError(f"there is no call {_some(nowhere)}")
    raise NothingToReplayError(f"the filters (status, times, text) leave out {_some(left)}: name it without them")


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
        yield from _passing(store.find_calls(selection.call_ids, selection.tenant), selection)
        return
    cursor: str | None = None
    while True:
        page, cursor = store.list_calls(
            tenant=selection.tenant,
            limit=_PAGE,
            cursor=cursor,
            status=selection.status,
            since_ms=selection.since_ms,
            until_ms=selection.until_ms,
            query=selection.query,
        )
        yield from page
        if cursor is None:
            return


def _passing(calls: Iterable[CallDoc], selection: Selection) -> Iterator[CallDoc]:
    """Ids and filters together mean both."""
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
