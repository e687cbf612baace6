"""Versions by HTTP: results of other settings lie side by side, one counts, and that can be changed."""

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from api.app import make_context
from api.embedding import QueryEmbedder
from core.settings import KafkaSettings, Settings
from schemas.artifacts import Segment, Summary, Transcript, summary_key, transcript_key
from schemas.events import ActionItem, SpeakerSentiment, SummaryContent, TranscriptReady
from sinks.clickhouse.client import Database
from tests.api.conftest import (
    NOON,
    PART_MS,
    Client,
    Put,
    Tenant,
    WordEmbedder,
    client_of,
    summary_ready,
    transcript_id,
    transcript_ready,
)

Json = dict[str, Any]


@pytest.fixture
async def desk(
    settings: Settings, kafka: KafkaSettings, database: Database, words: WordEmbedder
) -> AsyncIterator[Client]:
    """The API with a log."""
    services = make_context(settings.model_copy(update={"kafka": kafka}), database)
    services = replace(services, embedder=QueryEmbedder(lambda: words, 10))
    async with client_of(services) as client:
        yield client


def another(put: Put, tenant: str, call_id: str, text: str) -> TranscriptReady:
    """A transcript of the same recording by another model, made by a replay an hour later."""
    made = str(uuid.uuid4())
    content = Transcript(
        call_id=call_id,
        language="en",
        duration_ms=PART_MS,
        provider="whisper",
        model="large",
        segments=[Segment(start_ms=3_000, end_ms=4_000, channel=0, speaker="inbound", text=text)],
    )
    ref = put.object(transcript_key(tenant, call_id, made), content.model_dump_json().encode(), "application/json")
    event = transcript_ready(tenant, call_id, ref, 1, NOON).model_copy(
        update={
            "event_id": made,
            "transcript_id": made,
            "model": "large",
            "config_hash": "other",
            "occurred_at_ms": NOON + 3_600_000,
            "replay_id": "rp-1",
        }
    )
    put.events(event)
    return event


async def test_one_version_counts_and_another_can_be_set_back(
    desk: Client, put: Put, words: WordEmbedder, tenant: Tenant
) -> None:
    """A complete call is transcribed again with a better model. From then on the new transcript is what is shown and
    found; the old one can still be read by its id, and set back: then it is shown and found, and the new one is not.
    If it failed, a search would find words that the transcript does not have, or a worse model could not be undone."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    old = transcript_id(tenant.name, call_id, 1)
    put.vectors(words, tenant.name, call_id, ["good morning everybody"], old)
    new = another(put, tenant.name, call_id, "Good evening.").transcript_id
    put.vectors(words, tenant.name, call_id, ["good evening everybody"], new)
    path = f"/v1/calls/{call_id}"

    async def get(path: str) -> Json:
        response = await desk.get(path, headers=tenant.auth)
        assert response.status == 200, await response.text()
        answer: Json = await response.json()
        return answer

    async def seen() -> tuple[str, list[str]]:
        transcript = await get(f"{path}/transcript")
        results = (await get("/v1/search?q=good+everybody"))["results"]
        return transcript["segments"][-1]["text"], [hit["text"] for hit in results]

    assert await seen() == ("Good evening.", ["good evening everybody"])
    assert (await get(f"{path}/transcript?version={old}"))["segments"][-1]["text"] == "Good morning."
    listed = [one for one in (await get(f"{path}/versions"))["versions"] if one["of"] == "transcript"]
    assert [(one["version_id"], one["current"], one["replay_id"]) for one in listed] == [
        (old, False, ""),
        (new, True, "rp-1"),
    ]
    for version, shown in ((old, ("Good morning.", ["good morning everybody"])), (new, ("Good evening.", None))):
        answer = await desk.post(f"{path}/versions/current?version={version}", headers=tenant.auth)
        assert answer.status == 202, await answer.text()
        text, found = await seen()
        assert (text, found) == (shown[0], shown[1] or ["good evening everybody"])


async def test_a_version_of_a_summary_has_its_whole_content(desk: Client, put: Put, tenant: Tenant) -> None:
    """Stores a second summary with topics, action items with owners, sentiment, outcome and fields, and reads it by id.

    The response must have all of them. A failure means that an older version seems to know less than it does.
    """
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    content = SummaryContent(
        abstract="An order.",
        key_points=["two lamps"],
        action_items=["send them"],
        topics=["order"],
        actions=[ActionItem(text="send them", owner="agent")],
        sentiment=[SpeakerSentiment(speaker="inbound", sentiment="positive")],
        outcome="resolved",
        fields={"reason": "order"},
    ).content
    made = str(uuid.uuid4())
    stored = Summary(call_id=call_id, provider="gemini", model="large", **content).model_dump_json().encode()
    ref = put.object(summary_key(tenant.name, call_id, made), stored, "application/json")
    event = summary_ready(tenant.name, call_id, 1, NOON)
    put.events(event.model_copy(update={"event_id": made, "summary": ref, "replay_id": "rp-1", "config_hash": "other"}))
    response = await desk.get(f"/v1/calls/{call_id}/summary?version={made}", headers=tenant.auth)
    assert response.status == 200, await response.text()
    (part,) = (await response.json())["parts"]
    assert part == {"part": 1} | Summary.model_validate_json(stored).model_dump(
        mode="json", exclude={"call_id", "provider", "model"}
    )


async def test_versions_of_many_calls_are_switched(desk: Client, put: Put, new_tenant: Callable[[], Tenant]) -> None:
    """Two calls were transcribed again by a worse model. All are switched back to what counted before with one request;
    a dry run only counts; another tenant's calls and replays do not exist. If it failed, a bad replay could be undone
    only call by call."""
    mine, other = new_tenant(), new_tenant()
    calls = [f"CA{number}-{mine.name}" for number in range(2)]
    for call_id in calls:
        put.call(mine.name, call_id)
        another(put, mine.name, call_id, "Good evening.")
    put.call(other.name, f"CA-{other.name}")
    theirs = another(put, other.name, f"CA-{other.name}", "Good evening.").transcript_id

    async def use(status: int, **body: object) -> Json:
        response = await desk.post("/v1/versions/use", json=body, headers=mine.auth)
        assert response.status == status, await response.text()
        answer: Json = await response.json()
        return answer

    async def models(key: Tenant, call_id: str) -> list[str]:
        response = await desk.get(f"/v1/calls/{call_id}/versions", headers=key.auth)
        found = (await response.json())["versions"]
        return [one["model"] for one in found if one["of"] == "transcript" and one["current"]]

    before = NOON + 1_800_000
    assert (await use(200, before=before, dry_run=True))["switched_calls"] == 2
    assert [await models(mine, call_id) for call_id in calls] == [["large"], ["large"]]
    found = await use(202, before="2026-11-22T12:30:00Z")
    assert found == {"calls": 2, "parts": 2, "switched_calls": 2, "switched_parts": 2}
    assert [await models(mine, call_id) for call_id in calls] == [["base"], ["base"]]
    assert (await use(202, before=before))["switched_calls"] == 0
    assert await models(other, f"CA-{other.name}") == ["large"], theirs
    await use(404, replay="rp-nothing")
    await use(404, before="rp-nothing")
    await use(400, before=before, tenant=other.name)


async def test_versions_are_compared(desk: Client, put: Put, tenant: Tenant) -> None:
    """Two versions of a call: what was said, and "Good evening" instead of "Good morning". If it failed, nobody could
    tell whether another model is worth its money."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    another(put, tenant.name, call_id, "Good evening.")

    response = await desk.get(f"/v1/calls/{call_id}/versions/compare", headers=tenant.auth)

    assert response.status == 200
    found = await response.json()
    assert (found["before"]["model"], found["after"]["model"]) == ("base", "large")
    assert (found["words_before"], found["replaced"], found["deleted"], found["inserted"]) == (6, 1, 4, 0)
    change = {"op": "replace", "channel": 0, "start_ms": 3_000, "before": "morning.", "after": "evening."}
    assert change in found["changes"]


async def test_a_version_that_is_not_there(desk: Client, put: Put, tenant: Tenant) -> None:
    """A mistyped version is a 404 that names the parameter, and chooses nothing."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    for method, path in (("GET", "transcript"), ("GET", "summary"), ("POST", "versions/current")):
        response = await desk.request(method, f"/v1/calls/{call_id}/{path}?version=nonsense", headers=tenant.auth)
        assert (response.status, (await response.json())["error"]["parameter"]) == (404, "version")
    events = (await (await desk.get(f"/v1/calls/{call_id}/events", headers=tenant.auth)).json())["events"]
    assert "version.chosen" not in {event["type"] for event in events}
