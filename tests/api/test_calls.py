"""Calls over HTTP: status by stage, parts, lists with filters and pages."""

import uuid
from collections.abc import Callable

import pytest
from yarl import URL

from api.models import call_path
from tests.api.conftest import (
    ADMIN_KEY,
    NOON,
    PART_MS,
    Client,
    Put,
    Tenant,
    WordEmbedder,
    bearer,
    stage_failed,
    stream_started,
)


def _id() -> str:
    return f"CA{uuid.uuid4().hex}"


@pytest.mark.parametrize("status", ["live", "recorded", "transcribed", "summarized", "complete"])
async def test_a_call_at_every_stage(api: Client, put: Put, tenant: Tenant, status: str) -> None:
    """Asks for a call that got so far. If it failed, a user would be told a wrong status, or sent to artefacts that
    are not there."""
    call_id = _id()
    put.call(tenant.name, call_id, status)
    response = await api.get(f"/v1/calls/{call_id}", headers=tenant.auth)
    assert response.status == 200
    call = await response.json()
    stage = ["live", "recorded", "transcribed", "summarized", "complete"].index(status)
    assert call["id"] == call_id
    assert call["status"] == status
    assert call["started_at_ms"] == NOON
    assert call["duration_ms"] == (PART_MS if stage >= 1 else 0)
    assert call["artefacts"] == {
        "recording": f"/v1/calls/{call_id}/recording" if stage >= 1 else None,
        "waveform": f"/v1/calls/{call_id}/waveform" if stage >= 1 else None,
        "transcript": f"/v1/calls/{call_id}/transcript" if stage >= 2 else None,
        "summary": f"/v1/calls/{call_id}/summary" if stage >= 3 else None,
    }
    for name, path in call["artefacts"].items():
        found = await api.get(path or f"/v1/calls/{call_id}/{name}", headers=tenant.auth)
        assert found.status == (200 if path else 404)
        if not path:
            assert (await found.json())["error"]["code"] == "not_ready"
    if stage >= 1:
        inbound = call["tracks"][0]
        assert inbound["gaps"] == [{"start_ms": 400, "end_ms": 800, "reason": "lost"}]
        assert call["gap_ms"] == 400
    if stage >= 2:
        (line,) = call["usage"]
        assert (line["kind"], line["units"], line["price"]) == ("transcription", 25, "0.005")
        operators = await (await api.get(f"/v1/calls/{call_id}", headers=bearer(ADMIN_KEY))).json()
        assert operators["usage"] == [line | {"provider_cost": "0.0000145833"}]
        assert line["key"].startswith("transcription_")
    assert (call["summary"] or {}).get("key_points") == (["Point 1"] if stage >= 3 else None)


async def test_events_told_twice_change_nothing(api: Client, put: Put, tenant: Tenant) -> None:
    """Inserts every event of a call twice, the second time backwards. If it failed, a redelivery would show twice."""
    call_id = _id()
    put.call(tenant.name, call_id)
    first = await (await api.get(f"/v1/calls/{call_id}", headers=tenant.auth)).json()
    for stage in ("complete", "summarized", "transcribed", "recorded", "live"):
        put.stage(tenant.name, call_id, stage)
    assert await (await api.get(f"/v1/calls/{call_id}", headers=tenant.auth)).json() == first
    events = (await (await api.get(f"/v1/calls/{call_id}/events", headers=tenant.auth)).json())["events"]
    assert [event["type"] for event in events] == [
        "stream.started",
        "stream.ended",
        "recording.ready",
        *sorted(["transcript.ready", "usage.recorded"], key=[event["type"] for event in events].index),
        "summary.ready",
        "embedding.ready",
    ]


async def test_what_failed_is_not_waited_for(api: Client, put: Put, tenant: Tenant) -> None:
    """A call whose transcription is in the dead letters. If it failed, a client would poll for its transcript for
    ever, or would not learn why."""
    call_id = _id()
    put.call(tenant.name, call_id, "recorded")
    put.events(stage_failed(tenant.name, call_id, "transcribe"))
    call = await (await api.get(f"/v1/calls/{call_id}", headers=tenant.auth)).json()
    assert (call["status"], call["failed_stage"], call["failed_reason"]) == (
        "failed",
        "transcribe",
        "the audio is broken",
    )
    response = await api.get(f"/v1/calls/{call_id}/transcript", headers=tenant.auth)
    assert response.status == 404
    assert (await response.json())["error"]["code"] == "failed"
    assert (await api.get(f"/v1/calls/{call_id}/recording", headers=tenant.auth)).status == 200


async def test_a_call_of_two_parts(api: Client, put: Put, tenant: Tenant) -> None:
    """The carrier reconnected after the call had been closed. The joined transcript runs on the two recordings played
    one after the other; each part by itself on its own recording. If it failed, the second part's words would point
    into the first part's audio."""
    call_id = _id()
    for part in (1, 2):
        for stage in ("live", "recorded", "transcribed", "summarized"):
            put.stage(tenant.name, call_id, stage, part, audio=b"RIFF" + bytes([part]) * 100)
    base = f"/v1/calls/{call_id}"
    call = await (await api.get(base, headers=tenant.auth)).json()
    assert call["duration_ms"] == 2 * PART_MS
    assert [part["artefacts"]["recording"] for part in call["parts"]] == [
        f"{base}/recording?part=1",
        f"{base}/recording?part=2",
    ]
    joined = await (await api.get(f"{base}/transcript", headers=tenant.auth)).json()
    assert joined["duration_ms"] == 2 * PART_MS
    assert [segment["start_ms"] for segment in joined["segments"]] == [1_000, 3_000, 31_000, 33_000]
    assert joined["segments"][2]["words"][0]["start_ms"] == 31_000
    second = await (await api.get(f"{base}/transcript?part=2", headers=tenant.auth)).json()
    assert [segment["start_ms"] for segment in second["segments"]] == [1_000, 3_000]
    assert second["segments"][0]["text"] == "Hello from part 2."
    summary = await (await api.get(f"{base}/summary", headers=tenant.auth)).json()
    assert summary["key_points"] == ["Point 1", "Point 2"]
    assert (await (await api.get(f"{base}/summary?part=2", headers=tenant.auth)).json())["abstract"] == "Abstract 2."
    audio = await (await api.get(f"{base}/recording?part=2", headers=tenant.auth)).read()
    assert audio == b"RIFF" + b"\x02" * 100
    for name in ("recording", "transcript", "summary"):
        missing = await api.get(f"{base}/{name}?part=3", headers=tenant.auth)
        assert missing.status == 404
        assert (await missing.json())["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "odd", ["a/b", "a%2Fb", "../../x", "..", "ü ö", "a?b#c", "{x}", 'it\'s "q"', "back\\slash", "tab\tnl\n", "%41", "+"]
)
async def test_call_ids_may_hold_anything(api: Client, put: Put, tenant: Tenant, odd: str) -> None:
    """Asks for calls whose ids hold what paths, SQL and headers are made of. If it failed, such a call could not be
    seen, or another one would be."""
    call_id = odd if odd == ".." else f"{odd}{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    base = call_path(call_id)
    call = await (await api.get(URL(base, encoded=True), headers=tenant.auth)).json()
    assert call["id"] == call_id
    for path in (*call["artefacts"].values(), f"{base}/events"):
        response = await api.get(URL(path, encoded=True), headers=tenant.auth)
        assert response.status == 200, path
        if path.endswith("recording"):
            assert "\n" not in response.headers["Content-Disposition"]


async def test_pages_and_filters(api: Client, put: Put, tenant: Tenant) -> None:
    """Pages through five calls two at a time, then filters. If it failed, a list would lose or repeat calls, or a
    filter would show others than it names."""
    ids = [f"{_id()}-{index}" for index in range(5)]
    for index, call_id in enumerate(ids):
        put.events(stream_started(tenant.name, call_id, NOON + index * 3_600_000))
    put.stage(tenant.name, ids[0], "recorded")

    async def page(**query: str) -> tuple[list[str], str | None]:
        response = await api.get("/v1/calls", params=query, headers=tenant.auth)
        assert response.status == 200, await response.text()
        body = await response.json()
        return [call["id"] for call in body["calls"]], body["next_cursor"]

    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        found, cursor = await page(**query)
        seen += found
        if cursor is None:
            break
        query = {"limit": "2", "cursor": cursor}
    assert seen == ids[::-1]
    assert await page(status="recorded") == ([ids[0]], None)
    assert await page(q=ids[3][-20:]) == ([ids[3]], None)
    assert (await page(q="+4912345"))[0] == ids[::-1]
    assert await page(since="2026-11-22T13:00:00Z", until="2026-11-22T15:00:00Z") == ([ids[2], ids[1]], None)
    assert (await page(since="2026-11-22", until="2026-11-22"))[0] == ids[::-1]
    assert await page(since=str(NOON + 4 * 3_600_000)) == ([ids[4]], None)


async def test_filters_of_calls_search_and_usage(
    api: Client, put: Put, new_tenant: Callable[[], Tenant], words: WordEmbedder
) -> None:
    """Filters calls, search and usage by tenant, carrier, number and duration, as a tenant and as the operator.

    The operator finds one tenant's calls by its name; a tenant cannot name another one. Search finds a call that a
    filter leaves even if many better hits are in other calls. If this fails, a list, a search or a bill shows other
    calls than its filters name.
    """
    mine, other = new_tenant(), new_tenant()
    for tenant in (mine, other):
        put.call(tenant.name, "call-1")
        put.vectors(words, tenant.name, "call-1", ["the router blinks red today"])
    put.events(stream_started(mine.name, "call-2", NOON).model_copy(update={"carrier": "jambonz"}))
    put.vectors(words, mine.name, "call-2", ["the router blinks red"] * 60)

    async def found(path: str, query: str, auth: dict[str, str] = mine.auth) -> list[tuple[str, str]]:
        response = await api.get(f"{path}{'&' if '?' in path else '?'}{query}", headers=auth)
        assert response.status == 200, await response.text()
        body = await response.json()
        rows = body.get("calls") or body.get("results") or body.get("groups") or []
        return sorted({(row["tenant"], row.get("id") or row.get("call_id") or row["group"]) for row in rows})

    first, second, theirs = (mine.name, "call-1"), (mine.name, "call-2"), (other.name, "call-1")
    search, bill = "/v1/search?q=the+router+blinks+red&limit=1", "/v1/usage?group_by=call"
    for path, unfiltered in (("/v1/calls", [first, second]), (search, [second]), (bill, [first])):
        assert await found(path, "") == unfiltered
        assert await found(path, "carrier=twilio") == [first]
        assert await found(path, "min_duration_s=30&max_duration_s=30") == [first]
        assert await found(path, "min_duration_s=31") == []
        assert await found(path, "number=%2B49+123-45&carrier=twilio") == [first]
        assert await found(path, "number=99999") == []
        assert await found(path, f"tenant={other.name}", bearer(ADMIN_KEY)) == [theirs]
        assert await found(path, f"tenant={mine.name}&carrier=twilio") == [first]
        response = await api.get(f"{path}{'&' if '?' in path else '?'}tenant={other.name}", headers=mine.auth)
        assert (response.status, (await response.json())["error"]["parameter"]) == (400, "tenant")
    for path in ("/v1/calls", bill):
        assert await found(path, "text=abstract+1") == [first]
        assert await found(path, "text=abstract+zebra") == []
    assert await found(search, "since=2026-11-23") == []
    assert await found(search, "until=2026-11-22&carrier=twilio") == [first]


async def test_bad_parameters_are_named(api: Client, tenant: Tenant) -> None:
    """Sends a wrong value to each path that takes parameters. If it failed, a typo would end in a 500 or be ignored."""
    for path, name in [
        ("/v1/calls?limit=201", "limit"),
        ("/v1/calls?cursor=nonsense", "cursor"),
        ("/v1/calls?status=gone", "status"),
        ("/v1/calls?since=yesterday", "since"),
        ("/v1/calls/x?format=json", "format"),
        ("/v1/calls/x/recording?part=one", "part"),
        ("/v1/calls/x/transcript?format=doc", "format"),
        ("/v1/search", "q"),
        ("/v1/search?q=a&limit=0", "limit"),
        ("/v1/usage?from=then", "from"),
        ("/v1/usage?from=2026-11-22&to=2026-11-20", "to"),
        ("/v1/usage?group_by=moon", "group_by"),
        *(
            (f"{path}{query}", name)
            for path in ("/v1/calls?", "/v1/search?q=a&", "/v1/usage?")
            for query, name in [
                ("carrier=acme", "carrier"),
                ("min_duration_s=-1", "min_duration_s"),
                ("max_duration_s=1.5", "max_duration_s"),
                ("min_duration_s=9&max_duration_s=8", "max_duration_s"),
                ("number=12", "number"),
                ("number=alice", "number"),
            ]
        ),
        ("/v1/calls?text=...", "text"),
        ("/v1/usage?text=" + "+".join(str(number) for number in range(21)), "text"),
        ("/v1/search?q=a&text=b", "text"),
    ]:
        response = await api.get(path, headers=tenant.auth)
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["parameter"]) == (400, "bad_parameter", name), path
        assert name in error["message"]


async def test_other_refusals_have_the_same_shape(api: Client, tenant: Tenant) -> None:
    """An unknown call, an unknown path, a wrong method. If it failed, a client would have to parse HTML."""
    for method, path, status, code in [
        ("GET", "/v1/calls/none", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/calls", 405, "method_not_allowed"),
        ("PUT", "/v1/calls/none", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ]:
        response = await api.request(method, path, headers=tenant.auth)
        assert response.status == status, path
        assert (await response.json())["error"]["code"] == code
        assert ("Allow" in response.headers) == (status == 405)
