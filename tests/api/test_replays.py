"""Replays by HTTP: asked for, priced, looked at, stopped and resumed, by whom they belong to."""

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from api.app import make_context
from api.embedding import QueryEmbedder
from core.settings import KafkaSettings, Settings
from schemas.artifacts import ReplayPlan, plan_key
from schemas.replays import outcome
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import replay_row
from tests.api.conftest import ADMIN_KEY, Client, Put, Tenant, WordEmbedder, bearer, client_of

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


async def test_a_replay_is_asked_for_and_watched(desk: Client, put: Put, tenant: Tenant) -> None:
    """A complete call is replayed from its transcript: the answer names the replay, which runs from then on, with a
    plan of the call's parts in the store. It is stopped, resumed, and done once its part is. If it failed, an operator
    would not know what goes on."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)

    response = await desk.post("/v1/replays", json={"stage": "transcript", "calls": [call_id]}, headers=tenant.auth)

    assert response.status == 202, await response.text()
    answer = await response.json()
    replay_id = answer["id"]
    path = f"/v1/replays/{replay_id}"
    assert answer["estimate"]["calls"] == 1
    assert answer["estimate"]["price"] == "0"
    plan = ReplayPlan.model_validate_json(put.objects.get(plan_key(replay_id)))
    assert [(part.tenant, part.call_id, part.part) for part in plan.parts] == [(tenant.name, call_id, 1)]

    async def state(action: str = "") -> tuple[str, int, int]:
        ask = desk.post(path + action, headers=tenant.auth) if action else desk.get(path, headers=tenant.auth)
        body = await (await ask).json()
        return body["state"], body["run"], body["done"]

    assert await state() == ("running", 1, 0)
    assert await state("/stop") == ("stopped", 1, 0)
    assert await state("/stop") == ("stopped", 1, 0)
    assert await state("/resume") == ("running", 2, 0)
    put.database.insert([replay_row(outcome(replay_id, tenant.name, call_id, 1, 1_795_348_800_000, outcome="done"))])
    assert await state() == ("done", 2, 1)
    assert (await desk.post(f"{path}/stop", headers=tenant.auth)).status == 409


async def test_a_dry_run_says_what_it_would_cost(desk: Client, put: Put, tenant: Tenant) -> None:
    """The price of transcribing 30 s again: nothing for the customer by default, the provider's cost in any case; and
    nothing is asked for. If it failed, a replay of a month could be a bill nobody expected."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    body = {"stage": "recording", "calls": [call_id], "dry_run": True}

    answer = await (await desk.post("/v1/replays", json=body, headers=bearer(ADMIN_KEY))).json()

    assert (answer["id"], answer["estimate"]["to_transcribe_ms"]) == (None, 30_000)
    assert (answer["estimate"]["provider_cost"], answer["estimate"]["price"]) == ("0.000025", "0")
    assert (await (await desk.get("/v1/replays", headers=tenant.auth)).json())["replays"] == []


async def test_a_tenant_replays_its_own_calls_alone(desk: Client, put: Put, new_tenant: Callable[[], Tenant]) -> None:
    """Another tenant's call does not exist, nor does another's replay; the admin sees both. If it failed, one customer
    could spend another's money."""
    mine, other = new_tenant(), new_tenant()
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(other.name, call_id)
    body = {"stage": "transcript", "calls": [call_id]}

    assert (await desk.post("/v1/replays", json=body, headers=mine.auth)).status == 404
    theirs = (await (await desk.post("/v1/replays", json=body, headers=other.auth)).json())["id"]

    assert (await desk.get(f"/v1/replays/{theirs}", headers=mine.auth)).status == 404
    assert (await desk.post(f"/v1/replays/{theirs}/stop", headers=mine.auth)).status == 404
    assert (await desk.get(f"/v1/replays/{theirs}", headers=bearer(ADMIN_KEY))).status == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "stage"),
        ({"stage": "audio", "calls": ["x"]}, 400, "stage"),
        ({"stage": "media"}, 400, "name calls, set a filter"),
        ({"stage": "media", "failed": False}, 400, "name calls, set a filter"),
        ({"stage": "media", "all": False}, 400, "name calls, set a filter"),
        ({"stage": "media", "calls": [], "failed": False}, 400, "calls"),
        ({"stage": "media", "calls": [], "status": "failed"}, 400, "calls"),
        ({"stage": "media", "calls": [""]}, 400, "calls"),
        ({"stage": "media", "query": ""}, 400, "query"),
        ({"stage": "media", "query": " "}, 400, "query"),
        ({"stage": "media", "tenant": ""}, 400, "tenant"),
        ({"stage": "media", "query": "x", "all": "yes"}, 400, "all"),
        ({"stage": "media", "calls": ["x"], "dry_run": "yes"}, 400, "dry_run"),
        ({"stage": "media", "calls": ["x"], "dry_run": 0}, 400, "dry_run"),
        ({"stage": "media", "failed": True, "status": "complete"}, 400, "failed"),
        ({"stage": "media", "from": "2026-11-02", "to": "2026-11-01"}, 400, "to"),
        ({"stage": "media", "from": 1.5}, 400, "from"),
        ({"stage": "media", "calls": ["no-such-call"]}, 404, "no-such-call"),
        ({"stage": "media", "call": ["x"]}, 400, "call"),
        ({"stage": "summary", "calls": ["x"], "language": "de"}, 400, "replay from `recording`"),
        ({"stage": "recording", "calls": ["x"], "provider": "abacus"}, 400, "provider"),
        ({"stage": "media", "tenant": "somebody-else"}, 400, "is not the tenant of this key"),
    ],
)
async def test_what_cannot_be_asked_for(desk: Client, tenant: Tenant, body: Json, status: int, words: str) -> None:
    """Every mistake is one sentence that names it. If it failed, a typo would replay everything, or nothing."""
    response = await desk.post("/v1/replays", json=body, headers=tenant.auth)
    assert response.status == status, await response.text()
    assert words in (await response.json())["error"]["message"]


async def test_an_erased_call_is_gone_at_once(desk: Client, put: Put, tenant: Tenant) -> None:
    """Deletes a call: the request is on the log, and from then on the call is a 404 everywhere, for replays, too; its
    line of the bill stays. If it failed, who asked for erasure would still be heard."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)

    response = await desk.delete(f"/v1/calls/{call_id}", headers=tenant.auth)

    assert response.status == 202, await response.text()
    for path in ("", "/recording", "/transcript", "/events"):
        assert (await desk.get(f"/v1/calls/{call_id}{path}", headers=tenant.auth)).status == 404
    assert (await (await desk.get("/v1/calls", headers=tenant.auth)).json())["calls"] == []
    body = {"stage": "transcript", "calls": [call_id]}
    assert (await desk.post("/v1/replays", json=body, headers=tenant.auth)).status == 404
    assert len((await (await desk.get("/v1/usage", headers=tenant.auth)).json())["groups"]) == 1
    assert (await desk.delete(f"/v1/calls/{call_id}", headers=tenant.auth)).status == 404


async def test_everything_is_selected_only_on_request(desk: Client, put: Put, tenant: Tenant) -> None:
    """With `all` a dry run counts every call of the tenant, and a filter beside it still narrows. If it failed, nobody
    could replay everything, or everybody could by mistake."""
    for number in range(2):
        put.call(tenant.name, f"CA{number}-{tenant.name}")

    async def calls(**filters: object) -> int:
        body = {"stage": "transcript", "dry_run": True, "all": True, **filters}
        response = await desk.post("/v1/replays", json=body, headers=tenant.auth)
        assert response.status == 200, await response.text()
        return int((await response.json())["estimate"]["calls"])

    assert await calls() == 2
    assert await calls(query="CA1") == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/calls/{id}/links", {"expires_in_s": "3600"}),
        ("/v1/calls/{id}/links", {"expires_in_s": True}),
        ("/v1/calls/{id}/links", {"expires_in_s": 3600.0}),
        ("/v1/session", {"key": 7}),
        ("/v1/versions/use", {"before": "2026-11-01", "dry_run": 1}),
        ("/v1/versions/use", {"before": True}),
        ("/v1/versions/use", {}),
        ("/v1/versions/use", {"before": "2026-11-01", "replay": "rp-1"}),
        ("/v1/versions/use", {"before": "2026-11-01", "calls": []}),
        ("/v1/versions/use", {"before": "2026-11-01", "query": ""}),
        ("/v1/versions/use", {"before": "yesterday"}),
    ],
)
async def test_types_are_not_converted(desk: Client, put: Put, tenant: Tenant, path: str, body: Json) -> None:
    """A text for a number, a number for a text or a boolean: each request body is refused. If it failed, a mistake of a
    client would be taken for a wish."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    response = await desk.post(path.replace("{id}", call_id), json=body, headers=tenant.auth)
    assert response.status == 400, await response.text()
    assert (await response.json())["error"]["code"] == "bad_parameter"


async def test_only_the_operator_chooses_an_engine(desk: Client, put: Put, tenant: Tenant) -> None:
    """Requests replays with another provider, another model and paths. A tenant's key gets the same 400 for each; the
    admin key may choose a model, but gets one answer for every path. A failure means that a customer can send audio to
    a provider that the operator did not choose, or learn which files exist on the server."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)

    async def answer(auth: dict[str, str], **choice: str) -> tuple[int, str]:
        body = {"stage": "recording", "calls": [call_id], "dry_run": True, **choice}
        response = await desk.post("/v1/replays", json=body, headers=auth)
        return response.status, (await response.json()).get("error", {}).get("message", "")

    choices = ({"provider": "openai"}, {"model": "tiny.en"}, {"model": "/etc"}, {"model": "/nowhere"})
    refused = {await answer(tenant.auth, **choice) for choice in choices}
    only = "provider, model: this key may choose whisper:base; leave both out for the first one"
    assert refused == {(400, only)}
    assert (await answer(tenant.auth, language="en"))[0] == 200
    assert (await answer(bearer(ADMIN_KEY), model="tiny.en"))[0] == 200
    paths = {await answer(bearer(ADMIN_KEY), model=path) for path in ("/etc", "/nowhere")}
    assert paths == {(400, "model: choose one of base, tiny.en; a path can only be set on the command line")}
