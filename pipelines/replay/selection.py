"""Which calls a replay is about, and what it would cost. Pure, but for asking the store."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from audiotext.errors import UserError
from audiotext.settings import PricingSettings
from pipelines.pricing import replay_charge, transcription_charge
from schemas.artifacts import PlannedPart
from schemas.events import Frozen, ReplayStage
from sinks.clickhouse.calls import CallDoc, PartDoc, Status
from sinks.clickhouse.queries import CallStore

TRANSCRIBING: frozenset[ReplayStage] = frozenset({"media", "recording"})
_PAGE = 200


class NothingToReplayError(UserError):
    """No call that was chosen can be processed again from there; the message says why."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which calls: these ids, or all that pass the filters. Times in ms since the epoch, of the call's start; query:
    part of the call id or of a number."""

    call_ids: tuple[str, ...] = ()
    tenant: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    status: Status | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The parts that can be processed again from the stage, and how many cannot."""

    parts: tuple[tuple[CallDoc, PartDoc], ...]
    left_out: int

    @property
    def plan(self) -> list[PlannedPart]:
        return [PlannedPart(tenant=call.tenant, call_id=call.id, part=part.part) for call, part in self.parts]

    @property
    def duration_ms(self) -> int:
        return sum(part.duration_ms for _, part in self.parts)


@dataclass(frozen=True, slots=True)
class Engine:
    """Speech to text as it would be asked: its name in prices, and the hash of its configuration."""

    provider: str
    config_hash: str


class Estimate(Frozen):
    """What a replay would do. calls, parts, duration_ms: that it is about; left_out: parts that were chosen and cannot
    be processed from that stage. to_transcribe_ms: audio that an engine would be given; the rest has its result.
    provider_cost, price: of transcribing, as exact decimal strings."""

    calls: int
    parts: int
    left_out: int
    duration_ms: int
    to_transcribe_ms: int
    provider_cost: str
    price: str
    currency: str


def choose(store: CallStore, selection: Selection, stage: ReplayStage) -> Chosen:
    """The parts that the selection is about now. Raises NothingToReplayError, StoreUnavailableError."""
    calls = list(_calls(store, selection))
    if missing := sorted(set(selection.call_ids) - {call.id for call in calls}):
        raise NothingToReplayError(f"there is no call {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}")
    parts = [(call, part) for call in calls for part in call.parts]
    usable = tuple((call, part) for call, part in parts if _has_input(part, stage))
    if not usable:
        what = "recording" if stage in TRANSCRIBING else "transcript"
        raise NothingToReplayError(
            f"none of the {len(calls)} calls chosen has a {what} to start from" if calls else "no call was chosen"
        )
    return Chosen(usable, len(parts) - len(usable))


def estimate(chosen: Chosen, stage: ReplayStage, engine: Engine | None, pricing: PricingSettings) -> Estimate:
    """What it would cost. engine: that would transcribe, if anything would be transcribed."""
    cost, price, duration_ms = Decimal(0), Decimal(0), 0
    if stage in TRANSCRIBING and engine is not None:
        for call, part in chosen.parts:
            transcripts = [version for version in part.versions if version.of == "transcript"]
            if any(version.config_hash == engine.config_hash for version in transcripts):
                continue
            charge = transcription_charge(part.duration_ms, engine.provider, pricing)
            if transcripts:
                charge = replay_charge(charge, call.tenant, pricing)
            cost, price, duration_ms = cost + charge.provider_cost, price + charge.price, duration_ms + part.duration_ms
    return Estimate(
        calls=len({(call.tenant, call.id) for call, _ in chosen.parts}),
        parts=len(chosen.parts),
        left_out=chosen.left_out,
        duration_ms=chosen.duration_ms,
        to_transcribe_ms=duration_ms,
        provider_cost=f"{cost:f}",
        price=f"{price:f}",
        currency=pricing.currency,
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
    for call in calls:
        since, until = selection.since_ms, selection.until_ms
        if (
            selection.status in (None, call.status)
            and (since is None or call.started_at_ms >= since)
            and (until is None or call.started_at_ms < until)
        ):
            yield call


def _has_input(part: PartDoc, stage: ReplayStage) -> bool:
    return (part.recording if stage in TRANSCRIBING else part.transcript) is not None
