"""One tenant asks everything there is to ask about another's call. The OpenAPI document says what there is, so an
operation that is added is asked, too."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest

from api.app import make_context
from api.endpoint import ApiContext
from core.settings import KafkaSettings
from tests.api.conftest import ADMIN_KEY, Client, Put, Tenant, WordEmbedder, bearer, client_of

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request. about: whether it names a call, so that only the call's tenant may have an answer."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object
    about: bool


def requests(document: Json, call_id: str, words: str) -> Iterator[Asked]:
    """Every operation in the document, asked about this call: with its id where there is a place for one, with its
    words where anything is looked for, with every choice there is."""
    for template, item in document["paths"].items():
        for method, operation in item.items():
            if operation.get("security") == []:
                continue  # without a key there is nothing of anybody's
            path = template.replace("{id}", call_id)
            assert "{" not in path or method != "get", f"what is to be asked for in {template}?"
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            body = None if schema is None else _made(document, schema, call_id)
            for query in _queries(operation.get("parameters", []), words, call_id):
                yield Asked(method, path.replace("{", "").replace("}", ""), query, body, call_id in f"{path}{body}")


def _queries(parameters: list[Json], words: str, call_id: str) -> Iterator[dict[str, str]]:
    """Every choice of the parameters that are a choice, and what is looked for; of the others only what is needed."""
    values: dict[str, list[str]] = {}
    for parameter in parameters:
        if parameter["in"] != "query":
            continue
        choices = parameter["schema"].get("enum")
        if choices and parameter["name"] != "status":
            values[parameter["name"]] = list(map(str, choices))
        elif parameter["required"]:
            values[parameter["name"]] = [words]
        elif parameter["name"] == "q":
            values["q"] = ["", call_id]  # an empty one counts as none
    for chosen in product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def _made(document: Json, schema: Json, text: str) -> Any:
    """Something that fits a schema; every text in it that is not a choice is this one."""
    if "$ref" in schema:
        return _made(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], text)
    if "enum" in schema or "const" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if "anyOf" in schema:
        return _made(document, schema["anyOf"][0], text)
    if schema.get("type") == "object":
        return {name: _made(document, one, text) for name, one in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [_made(document, schema.get("items", {}), text)]
    simple = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1), "boolean": False}
    return simple.get(schema.get("type", ""), text)


async def test_no_operation_tells_of_another_tenant_s_call(
    api: Client, put: Put, new_tenant: Callable[[], Tenant], words: WordEmbedder
) -> None:
    """Gives a tenant a call, its words and its bill, and asks for them in every way with the key of another tenant, who
    has a call, too: no answer holds the call's id, its words or the tenant's name, none about it succeeds, and it is
    all there afterwards. The same requests with the right key find it, so that the silence means something."""
    mine, other = new_tenant(), new_tenant()
    secret, call_id = f"walrus{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}"
    put.call(mine.name, f"CA{uuid.uuid4().hex}")
    put.vectors(words, mine.name, "mine", ["nothing in particular"])
    put.call(other.name, call_id)
    put.vectors(words, other.name, call_id, [f"the {secret} sits on the umbrella"])
    document = await (await api.get("/openapi.json")).json()
    found, asked = 0, 0
    for one in requests(document, call_id, secret):
        for tenant in (mine, other):
            if tenant is other and one.method not in ("get", "head"):
                continue  # the owner may change its own call
            answer = await api.request(
                one.method, one.path, params=one.query, json=one.body, headers=tenant.auth, allow_redirects=False
            )
            text = (await answer.read()).decode(errors="replace")
            seen = {mark for mark in (call_id, secret, other.name) if mark in text}
            if tenant is other:
                found += bool(seen)  # requests that need the log fail: this test has no log
                continue
            asked += 1
            # An error may repeat the id that the request contained.
            assert answer.status >= 400 or not one.about, (one, answer.status, text)
            assert seen <= ({call_id} if one.about else set()), (one, seen, text)
    assert asked >= 14
    assert found >= 8
    for part in ("", "/recording", "/transcript", "/summary", "/events"):
        assert (await api.get(f"/v1/calls/{call_id}{part}", headers=other.auth)).status == 200, part


_COSTS = {"provider_cost", "margin"}


def names(content: Any) -> set[str]:
    """All names in a JSON value."""
    if isinstance(content, dict):
        return set(content).union(*(names(value) for value in content.values()))
    return set().union(*(names(value) for value in content)) if isinstance(content, list) else set()


@pytest.fixture
async def logged(services: ApiContext, kafka: KafkaSettings) -> AsyncIterator[Client]:
    """The API with a log, so that replays and erasures can be requested."""
    with_log = make_context(services.settings.model_copy(update={"kafka": kafka}))
    async with client_of(replace(with_log, calls=services.calls, embedder=services.embedder)) as client:
        yield client


async def test_only_operators_see_costs(logged: Client, put: Put, tenant: Tenant, words: WordEmbedder) -> None:
    """Requests everything there is about a call with a line of the bill: with its tenant's key, with a link to it, and
    with the admin key. Only the admin key's answers have costs and margins: the bill, the call, its events and the
    estimate of a replay. The tenant's answers have the price. If it failed, a customer would see the operator's
    margin."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    put.vectors(words, tenant.name, call_id, ["the umbrella"])
    link = await logged.post(f"/v1/calls/{call_id}/links", json={"expires_in_s": 60}, headers=tenant.auth)
    share = (await link.json())["token"]
    document = await (await logged.get("/openapi.json")).json()
    seen: dict[str, set[str]] = {"tenant": set(), "admin": set(), "link": set()}
    shown: set[str] = set()
    dry_run = {"stage": "recording", "calls": [call_id], "dry_run": True}
    every = [one for one in requests(document, call_id, "umbrella") if one.method in ("get", "head")]
    for one in [*every, Asked("post", "/v1/replays", {}, dry_run, True)]:
        for who, headers in (("tenant", tenant.auth), ("admin", bearer(ADMIN_KEY)), ("link", {})):
            query = {**one.query, "share": share} if who == "link" else one.query
            if one.path.endswith("/live"):
                continue  # calls as in the list, without an end
            answer = await logged.request(one.method, one.path, params=query, json=one.body, headers=headers)
            if answer.content_type != "application/json" or one.method == "head":
                continue
            found = names(await answer.json())
            seen[who] |= found
            if who == "admin" and found & _COSTS:
                shown.add(one.path)
    assert not (seen["tenant"] | seen["link"]) & _COSTS
    assert "price" in seen["tenant"]
    assert "usage" in seen["link"]
    assert shown == {"/v1/usage", f"/v1/calls/{call_id}", f"/v1/calls/{call_id}/events", "/v1/replays"}


async def test_a_call_id_of_several_tenants_needs_a_tenant(
    logged: Client, put: Put, new_tenant: Callable[[], Tenant]
) -> None:
    """Gives two tenants a call with the same id and sends every operation for one call in the OpenAPI document with the
    admin key, and the operations that name calls in their body. Without `tenant` each answers 409, which names both
    tenants. With `tenant`, operations that read answer for that tenant. At the end an erasure with `tenant` erases that
    tenant's call only. A failure means that an operator can see, change or erase the call of the wrong tenant."""
    first, second = new_tenant(), new_tenant()
    call_id, admin = f"CA{uuid.uuid4().hex}", bearer(ADMIN_KEY)
    for owner in (first, second):
        put.call(owner.name, call_id)
    document = await (await logged.get("/openapi.json")).json()
    sent = [
        (one, template)
        for template in document["paths"]
        for one in requests({**document, "paths": {template: document["paths"][template]}}, call_id, "1")
        if template.startswith("/v1/calls/{id}")
    ]
    in_body = [
        ("/v1/replays", {"stage": "recording", "calls": [call_id]}),
        ("/v1/versions/use", {"before": 1, "calls": [call_id]}),
    ]
    assert len({(one.method, template) for one, template in sent}) >= 11
    for one, template in [*sent, *((Asked("post", path, {}, body, True), path) for path, body in in_body)]:
        answer = await logged.request(one.method, one.path, params=one.query, json=one.body, headers=admin)
        assert answer.status == 409, (one, await answer.text())
        if one.method != "head":
            error = (await answer.json())["error"]
            assert error["code"] == "ambiguous_call"
            assert first.name in error["message"], error
            assert second.name in error["message"], error
        if one.method in ("get", "head"):
            query = {**one.query, "tenant": second.name}
            named = await logged.request(one.method, one.path, params=query, headers=admin)
            assert named.status in (200, 404), (template, await named.text())  # 404: there is no such version
    found = await (await logged.get(f"/v1/calls/{call_id}", params={"tenant": second.name}, headers=admin)).json()
    assert found["tenant"] == second.name
    for path in found["artefacts"].values():
        assert (await logged.get(path, headers=admin)).status == 200, path
    refused = await logged.get(f"/v1/calls/{call_id}", params={"tenant": second.name}, headers=first.auth)
    assert refused.status == 400

    erased = await logged.delete(f"/v1/calls/{call_id}", params={"tenant": second.name}, headers=admin)
    assert erased.status == 202
    left = await (await logged.get(f"/v1/calls/{call_id}", headers=admin)).json()
    assert left["tenant"] == first.name
