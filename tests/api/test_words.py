"""Transcripts in their formats, search and the bill over HTTP."""

import asyncio
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from api.embedding import QueryEmbedder
from api.endpoint import ApiContext
from tests.api.conftest import ADMIN_KEY, NOON, Client, Put, Tenant, WordEmbedder, bearer, client_of, transcript, usage

_DAY_MS = 86_400_000


async def test_transcript_formats(api: Client, put: Put, tenant: Tenant) -> None:
    """Fetches one transcript in every format. If it failed, JSON would not be what design.md fixes, or a player would
    not take the subtitles."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id, "transcribed")
    path = f"/v1/calls/{call_id}/transcript"

    async def fetch(form: str) -> tuple[str, str]:
        response = await api.get(path, params={"format": form}, headers=tenant.auth)
        assert response.status == 200
        return response.content_type, await response.text()

    response = await api.get(path, headers=tenant.auth)
    assert await response.json() == transcript(call_id).model_dump()
    assert await fetch("txt") == (
        "text/plain",
        "[00:01.0] outbound: Hello from part 1.\n[00:03.0] inbound: Good morning.\n",
    )
    kind, srt = await fetch("srt")
    assert kind == "application/x-subrip"
    assert srt.startswith("1\n00:00:01,000 --> 00:00:02,500\noutbound: Hello from part 1.\n\n2\n")
    kind, vtt = await fetch("vtt")
    assert kind == "text/vtt"
    assert vtt.startswith("WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n<v outbound>Hello from part 1.\n")


async def test_search_is_best_first_and_ones_own(
    api: Client, put: Put, new_tenant: Callable[[], Tenant], words: WordEmbedder
) -> None:
    """Searches two tenants' turns with each one's key and the admin's. If it failed, the best hit would not be first,
    or one customer would read another's calls."""
    mine, other = new_tenant(), new_tenant()
    put.vectors(words, mine.name, "call-1", ["the router blinks red", "please restart it", "thank you goodbye"])
    put.vectors(words, other.name, "call-2", ["the router blinks red tonight"])

    async def search(auth: dict[str, str], **query: str) -> list[dict[str, object]]:
        response = await api.get("/v1/search", params=query, headers=auth)
        assert response.status == 200
        results: list[dict[str, object]] = (await response.json())["results"]
        return results

    found = await search(mine.auth, q="the router blinks red")
    assert {hit["call_id"] for hit in found} == {"call-1"}
    assert [found[0][name] for name in ("text", "start_ms", "end_ms", "speaker", "part")] == [
        "the router blinks red",
        0,
        5_000,
        "inbound",
        1,
    ]
    scores = [float(str(hit["score"])) for hit in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.99
    assert len(await search(mine.auth, q="router", limit="2")) == 2
    assert {hit["call_id"] for hit in await search(bearer(ADMIN_KEY), q="router")} == {"call-1", "call-2"}


async def test_hits_of_a_call_can_be_together(api: Client, put: Put, tenant: Tenant, words: WordEmbedder) -> None:
    """Searches two calls whose turns are equally good by turns.

    With `group_by=call` the hits of one call follow each other, the call with the best hit first, and no hit is lost.
    Without, the best are first. If this fails, the page lists a call twice.
    """
    put.vectors(words, tenant.name, "call-1", ["the router blinks red today", "the router is off"])
    put.vectors(words, tenant.name, "call-2", ["the router blinks red", "the router blinks"])

    async def calls(**query: str) -> list[str]:
        response = await api.get("/v1/search", params={"q": "the router blinks red"} | query, headers=tenant.auth)
        assert response.status == 200
        return [hit["call_id"] for hit in (await response.json())["results"]]

    assert await calls() == ["call-2", "call-1", "call-2", "call-1"]
    assert await calls(group_by="call") == ["call-2", "call-2", "call-1", "call-1"]
    response = await api.get("/v1/search?q=x&group_by=tenant", headers=tenant.auth)
    assert response.status == 400


async def test_what_nobody_said_is_not_found(
    services: ApiContext, put: Put, tenant: Tenant, words: WordEmbedder
) -> None:
    """Searches with a lowest score set: what shares no word with a turn finds nothing, and a turn found has its cosine.
    If this fails, a search for nonsense finds the whole archive."""
    put.vectors(words, tenant.name, "call-1", ["the router blinks red", "thank you goodbye"])
    embedding = services.settings.embedding.model_copy(update={"min_score": 0.3})
    strict = services.settings.model_copy(update={"embedding": embedding})
    async with client_of(replace(services, settings=strict)) as api:
        for query, found in (("zebra quantum xyz", []), ("thank you goodbye", [("thank you goodbye", 1.0)])):
            response = await api.get("/v1/search", params={"q": query}, headers=tenant.auth)
            results = (await response.json())["results"]
            assert [(hit["text"], round(hit["score"], 3)) for hit in results] == found


async def test_search_before_anything_was_said(api: Client, tenant: Tenant) -> None:
    """Searches when nothing has been embedded yet. If it failed, a fresh installation would answer with an error."""
    response = await api.get("/v1/search?q=anything", headers=tenant.auth)
    assert await response.json() == {"results": []}


async def test_the_model_loads_beside_the_requests(services: ApiContext, tenant: Tenant) -> None:
    """While the model loads, other paths answer and a search waits; a load that fails is a 503 and is tried again with
    the next search. If it failed, the API would start late, or stay without search until restarted."""
    may_load, attempts = threading.Event(), []

    def load() -> WordEmbedder:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("no such file: model")
        may_load.wait(10)
        return WordEmbedder("late")

    async with client_of(replace(services, embedder=QueryEmbedder(load, 10))) as api:
        response = await api.get("/v1/search?q=x", headers=tenant.auth)
        assert response.status == 503
        assert response.headers["Retry-After"]
        assert "embedding" in (await response.json())["error"]["message"]
        waiting = asyncio.create_task(api.session.get(api.make_url("/v1/search?q=x"), headers=tenant.auth))
        assert (await api.get("/v1/calls", headers=tenant.auth)).status == 200
        assert not waiting.done()
        may_load.set()
        assert (await waiting).status == 200


async def test_usage_sums(api: Client, put: Put, new_tenant: Callable[[], Tenant]) -> None:
    """Three charges on two days, one told three times, with prices that floats get wrong. If it failed, the bill would
    be wrong."""
    mine, other = new_tenant(), new_tenant()
    first = usage(mine.name, "call-1", price="0.1", cost="0.000000000001")
    put.events(first, first)
    put.events(first, usage(mine.name, "call-2", price="0.2", cost="0"))
    put.events(usage(mine.name, "call-3", started=NOON + _DAY_MS, provider="soniox", price="0.7", cost="0.5"))
    put.events(usage(other.name, "call-4", price="9"))

    async def bill(**query: str) -> dict[str, Any]:
        response = await api.get("/v1/usage", params=query, headers=mine.auth)
        assert response.status == 200
        body: dict[str, Any] = await response.json()
        return body

    everything = await bill()
    assert [(row["group"], row["lines"], row["units"], row["price"]) for row in everything["groups"]] == [
        ("2026-11-22", 2, 50, "0.3"),
        ("2026-11-23", 1, 25, "0.7"),
    ]
    (total,) = everything["total"]
    assert (total["price"], total["units"], total["currency"]) == ("1", 75, "USD")
    by_tenant = await (await api.get("/v1/usage?group_by=tenant", headers=bearer(ADMIN_KEY))).json()
    (seen_by_operator,) = [row for row in by_tenant["groups"] if row["group"] == mine.name]
    costs = {"group": mine.name, "provider_cost": "0.500000000001", "margin": "0.499999999999"}
    assert seen_by_operator == total | costs
    for group_by, groups in [
        ("call", ["call-1", "call-2", "call-3"]),
        ("provider", ["soniox", "whisper"]),
        ("kind", ["transcription"]),
        ("tenant", [mine.name]),
    ]:
        assert [row["group"] for row in (await bill(group_by=group_by))["groups"]] == groups
    day = {"from": "2026-11-23", "to": "2026-11-23"}
    assert [row["units"] for row in (await bill(**day))["total"]] == [25]
    nothing = await bill(**{"from": "2027-01-01"})
    assert (nothing["group_by"], nothing["groups"], nothing["total"]) == ("day", [], [])
    assert [service["amount"] for service in nothing["bundled"]] == ["0.000000"]
