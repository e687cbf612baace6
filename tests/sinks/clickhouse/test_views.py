"""Views for analysts against the API's documents, on the same events in a real engine."""

import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from schemas.events import AnyEvent, CallErased, SpeakerSentiment, VersionChosen
from schemas.ids import uuid_of
from sinks.clickhouse.call_projection import CallDoc, PartDoc
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import erased_row
from tests.support.call_events import T0, Call, insert

CALLS = 300


@pytest.fixture(scope="module")
def tenant(database: Database) -> str:
    """Returns a tenant with many calls of random events: any type, order, number, time, version and part."""
    tenant = f"tenant-{uuid.uuid4()}"
    dice = random.Random(7)
    calls = [_events(Call(f"CA{n:03}", tenant, t0=T0 + n * 1_000_000), dice) for n in range(CALLS)]
    events = [event for of_call in calls for event in of_call]
    dice.shuffle(events)
    insert(database, events)
    insert(database, events[: len(events) // 2])
    return tenant


def _events(call: Call, dice: random.Random) -> list[AnyEvent]:
    """Returns up to 20 random events of a call. Many have the same time."""

    def one() -> AnyEvent:
        at, part = dice.randrange(0, 500_000, 50_000), dice.choice((1, 1, 1, 2, 3))
        ids = [uuid_of("version", call.id, n) for n in range(3)]
        stream, number = f"MZ{dice.randrange(3)}", dice.randrange(3)
        version, odd = ids[number], number == 1
        own_id = f"event-{dice.randrange(10**9)}"  # events with different content have different ids
        own = {"event_id": own_id, "keep_current": dice.random() < 0.3}
        caller, called = dice.choice(("", "+491", "+492")), dice.choice(("", "+493"))
        parties = {"event_id": own_id, "from_number": caller, "to_number": called}
        # The content of a version never changes, so it depends on the version only.
        transcript = call.transcript(at, part).model_copy(
            update=own | {"transcript_id": version, "language": ("en", "de", "fr")[number], "words": number}
        )
        summary = call.summary(at, part)
        reference = summary.summary.model_copy(update={"key": f"acme/CA1/summary/{version}.json"})
        summary = summary.model_copy(
            update=own
            | {"transcript_id": ids[number % 2], "summary": reference, "abstract": f"Version {number}."}
            | {"outcome": "resolved" if odd else "", "topics": ["a", "b"] if odd else []}
            | {"sentiment": [SpeakerSentiment(speaker="inbound", sentiment="mixed")] if odd else []}
        )
        chosen = VersionChosen(
            event_id=own_id,
            call_id=call.id,
            tenant=call.tenant,
            part=part,
            occurred_at_ms=call.t0 + at,
            of=dice.choice(("transcript", "summary")),
            version_id=dice.choice((*ids, "unknown")),
        )
        started = call.started(at, stream).model_copy(update=parties | {"carrier": dice.choice(("twilio", "telnyx"))})
        stage = dice.choice(("recorder", "transcribe", "summarize", "embed", "analytics"))
        return dice.choice(
            (
                started,
                started,
                call.ended(at, stream, dice.choice(("carrier-stop", "idle"))).model_copy(update={"event_id": own_id}),
                call.reported(at=at).model_copy(update=parties),
                call.recording(at, part, start=0, end=at + part * 1000).model_copy(update={"event_id": own_id}),
                call.recording(at, part, start=0, end=at + part * 1000),
                transcript,
                transcript,
                summary,
                summary,
                call.embedding(at, part).model_copy(update={"transcript_id": version}),
                chosen,
                chosen,
                call.failed(stage, at, part) if dice.random() < 0.2 else chosen,
                call.usage(part=part).model_copy(
                    update={"key": f"transcription_{version}", "event_id": f"usage-{version}"}
                ),
            )
        )

    return [one() for _ in range(dice.randrange(1, 20))]


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _current(part: PartDoc, of: str) -> str:
    return next((version.version_id for version in part.versions if version.of == of and version.current), "")


def _versions(part: PartDoc, of: str) -> int:
    return len({version.version_id for version in part.versions if version.of == of})


def _part_row(call: CallDoc, part: PartDoc) -> dict[str, object]:
    """Returns the row of `parts` that the document stands for."""
    transcript, summary = part.transcript, part.summary
    return {
        "tenant": call.tenant,
        "call_id": call.id,
        "part": part.part,
        "status": part.status,
        "failed_stage": part.failed_stage or "",
        "failed_reason": part.failed_reason or "",
        "failed_at": _time(part.failed_at_ms),
        "started_at": _time(part.started_at_ms),
        "ended_at": _time(part.ended_at_ms),
        "duration_ms": part.duration_ms,
        "missing_ms": sum(track.missing_ms for track in part.tracks),
        "close_reason": part.close_reason or "",
        "transcript_id": _current(part, "transcript"),
        "transcript_versions": _versions(part, "transcript"),
        "language": transcript.language if transcript else "",
        "provider": transcript.provider if transcript else "",
        "model": transcript.model if transcript else "",
        "words": transcript.words if transcript else 0,
        "summary_id": _current(part, "summary"),
        "summary_versions": _versions(part, "summary"),
        "abstract": summary.abstract if summary else "",
        "topics": summary.topics if summary else [],
        "sentiment": {one.speaker: one.sentiment for one in summary.sentiment} if summary else {},
        "outcome": summary.outcome if summary else "",
    }


def _call_row(call: CallDoc, parts: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Returns the row of `calls` that the document stands for, without `failures`. parts: its rows of `parts`."""
    transcribed = next((row for row in parts if row["transcript_id"]), {"language": "", "provider": "", "model": ""})
    return {
        "tenant": call.tenant,
        "call_id": call.id,
        "status": call.status,
        "failed_stage": call.failed_stage or "",
        "failed_reason": call.failed_reason or "",
        "started_at": _time(call.started_at_ms),
        "ended_at": _time(call.ended_at_ms),
        "end_reason": call.end_reason or "",
        "carrier": call.carrier,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "parts": len(parts),
        "duration_ms": call.duration_ms,
        "missing_ms": sum(int(str(row["missing_ms"])) for row in parts),
        "close_reason": next((row["close_reason"] for row in reversed(parts) if row["close_reason"]), ""),
        **{name: transcribed[name] for name in ("language", "provider", "model")},
        "words": sum(int(str(row["words"])) for row in parts),
        "transcript_versions": max((int(str(row["transcript_versions"])) for row in parts), default=0),
        "summary_versions": max((int(str(row["summary_versions"])) for row in parts), default=0),
        "abstract": next((row["abstract"] for row in parts if row["summary_id"]), ""),
        "topics": {"a", "b"} if any(row["topics"] for row in parts) else set(),
        "sentiment": next((row["sentiment"] for row in reversed(parts) if row["sentiment"]), {}),
        "outcome": next((row["outcome"] for row in reversed(parts) if row["outcome"]), ""),
    }


def test_the_views_agree_with_the_api(database: Database, store: CallStore, tenant: str) -> None:
    """Compares the views `parts` and `calls` with the API's documents, column by column, for random calls.

    A failure means that a report shows another number, status or version than the API and the web page.
    """
    documents = {call.id: call for call in store.find_calls([f"CA{n:03}" for n in range(CALLS)], tenant)}
    assert {call.status for call in documents.values()} == {
        *("live", "recorded", "transcribed", "summarized", "complete", "failed")
    }
    where = "WHERE tenant = {tenant:String} ORDER BY call_id"
    parts = database.query(f"SELECT * FROM parts {where}, part", {"tenant": tenant})
    calls = database.query(f"SELECT * EXCEPT failures FROM calls {where}", {"tenant": tenant})

    expected = [_part_row(call, part) for _, call in sorted(documents.items()) for part in call.parts]
    _compare(parts, expected)
    rows = [
        _call_row(call, [row for row in expected if row["call_id"] == call.id]) for _, call in sorted(documents.items())
    ]
    _compare([row | {"topics": set(map(str, row["topics"]))} for row in calls], rows)  # type: ignore[call-overload]


def _compare(found: Sequence[dict[str, object]], expected: Sequence[dict[str, object]]) -> None:
    """Compares rows one by one, so that a failure names the row and the columns."""
    assert [(row["call_id"], row.get("part")) for row in found] == [
        (row["call_id"], row.get("part")) for row in expected
    ]
    for row, wanted in zip(found, expected, strict=True):
        utc = {name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for name, value in row.items()}
        assert utc == wanted


def test_an_erased_call_is_in_no_view(database: Database, tenant: str) -> None:
    """Requests the erasure of a complete call: from then on no view has it, except for the views of the ledger."""
    call = Call("CA-erased", f"{tenant}-erased")
    insert(database, [*call.complete(), call.failed("transcribe"), call.usage()])
    views = {
        str(row["name"])
        for row in database.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
        )
    }

    def seen() -> set[str]:
        count = "SELECT count() AS n FROM {} WHERE tenant = {{tenant:String}}"
        return {view for view in views if database.query(count.format(view), {"tenant": call.tenant}) != [{"n": 0}]}

    # The call has no segments here, and its transcript has healed the failure.
    assert seen() == views - {"current_segments", "current_failures"}
    erased = CallErased(event_id="e", call_id=call.id, tenant=call.tenant, occurred_at_ms=T0)
    database.insert([erased_row(erased)])
    assert seen() == {"bill", "usage_daily"}
