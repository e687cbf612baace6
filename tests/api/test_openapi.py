"""The OpenAPI document is true: it has every route of the server, and real answers are as it says."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from api.openapi import path_template
from tests.api.conftest import Client, Put, Tenant, WordEmbedder, stage_failed

Json = dict[str, Any]

_BESIDE = {"/healthz", "/readyz", "/metrics", "/openapi.json"}


@pytest.fixture
async def document(api: Client) -> Json:
    """The document as the server gives it."""
    response = await api.get("/openapi.json")
    assert response.status == 200
    found: Json = await response.json()
    return found


async def test_every_route_is_documented(api: Client, document: Json) -> None:
    """Walks the running server's routes and the document's paths. If it failed, there would be paths that nobody can
    know of, or documented ones that do not exist."""
    app = api.app
    assert app is not None
    served = {
        (path_template(route.resource.canonical), route.method.lower())
        for route in app.router.routes()
        if route.resource is not None
    }
    # The web page's own documents are no API.
    served = {(path, method) for path, method in served if path.startswith("/v1/") or path in _BESIDE}
    documented = {(path, method) for path, item in document["paths"].items() for method in item}
    assert documented <= served
    # HEAD is GET without a body; it is documented apart only where ranges make it useful.
    assert {(path, method) for path, method in served if method != "head"} <= documented
    assert {path for path, method in documented if method == "head"} == {"/v1/calls/{id}/recording"}


def test_the_document_is_well_formed(document: Json) -> None:
    """Checks names, references and that only health and the like are public. If it failed, generated clients would not
    compile, or would not send the key."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    public = {
        (path, method)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation.get("security") == []
    }
    assert public == {(path, "get") for path in _BESIDE} | {("/v1/session", "post")}
    for schema in document["components"]["schemas"].values():
        validator_for(schema, Draft202012Validator).check_schema(schema)
    for reference in _references(document):
        prefix, _, name = reference.rpartition("/")
        assert prefix == "#/components/schemas"
        assert name in document["components"]["schemas"]
    listing = document["paths"]["/v1/calls"]["get"]
    limit = next(parameter for parameter in listing["parameters"] if parameter["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}


async def test_real_answers_are_as_documented(
    api: Client, put: Put, document: Json, new_tenant: Callable[[], Tenant], words: WordEmbedder
) -> None:
    """Asks every path for calls at every stage, well and badly, and checks status, content type and body of each
    answer against the document. If it failed, clients made from the document would break on real answers."""
    tenant = new_tenant()
    ids = {status: f"{status}-{uuid.uuid4().hex}" for status in ("live", "complete", "failed")}
    for status, call_id in ids.items():
        put.call(tenant.name, call_id, "recorded" if status == "failed" else status)
    put.events(stage_failed(tenant.name, ids["failed"], "transcribe"))
    put.vectors(words, tenant.name, ids["complete"], ["hello"])
    validate = _Checker(document)
    for path in (path for path, item in document["paths"].items() if "get" in item):
        queries = [
            "",
            "?format=vtt",
            "?format=srt",
            "?format=txt",
            "?part=1",
            "?part=0",
            "?part=7",
            "?q=hello",
            "?limit=x",
        ]
        for call_id in ids.values() if "{id}" in path else ["-"]:
            for query in queries:
                response = await api.get(path.replace("{id}", call_id) + query, headers=tenant.auth)
                await validate(path, response)
        await validate(path, await api.get(path.replace("{id}", "x"), headers=tenant.auth))
        await validate(path, await api.get(path.replace("{id}", "x")))
        method = "delete" if "delete" in document["paths"][path] else "get"
        await validate(path, await api.delete(path.replace("{id}", "x"), headers=tenant.auth), method)
    recording = "/v1/calls/{id}/recording"
    for headers in ({"Range": "bytes=0-1"}, {"Range": "bytes=999999-"}, {"If-None-Match": "*"}):
        filled = recording.replace("{id}", ids["complete"])
        await validate(recording, await api.get(filled, headers=tenant.auth | headers))
    assert {(recording, status) for status in (200, 206, 304, 400, 401, 404, 405, 416)} <= validate.seen
    assert {("/v1/search", status) for status in (200, 400, 401)} <= validate.seen


async def test_a_dry_run_answers_as_documented(api: Client, put: Put, document: Json, tenant: Tenant) -> None:
    """Estimates a replay and checks the response, with status 200, against the document.

    A failure means that a generated client reads the estimate as an error and raises an exception.
    """
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant.name, call_id)
    request = {"stage": "recording", "calls": [call_id], "dry_run": True}
    response = await api.post("/v1/replays", json=request, headers=tenant.auth)
    assert response.status == 200
    await _Checker(document)("/v1/replays", response, "post")


class _Checker:
    """Checks answers against the document and remembers which were seen."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self.seen: set[tuple[str, int]] = set()

    async def __call__(self, path: str, response: Any, method: str = "get") -> None:
        responses = self._document["paths"][path][method]["responses"]
        self.seen.add((path, response.status))
        said = responses.get(str(response.status))
        if said is None:
            # What "default" stands for must not hide a forgotten status.
            assert response.status in (web.HTTPMethodNotAllowed.status_code,), (path, response.status)
            said = responses["default"]
        if not said.get("content"):
            assert await response.read() == b""
            return
        assert response.content_type in said["content"], (path, response.status, response.content_type)
        schema = said["content"][response.content_type]["schema"]
        if response.content_type == "application/json":
            whole = {"components": self._document["components"], **schema}
            Draft202012Validator(whole).validate(await response.json())


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("1795341600000", True),
        ("2026-11-22", True),
        ("2026-11-22T10:00:00Z", True),
        ("2026-11-22T10:00:00.5+01:00", True),
        ("2026-11-22 10:00", True),
        ("2026-11-22T10:00:00 01:00", True),
        ("yesterday", False),
        ("22.11.2026", False),
        ("2026-11", False),
        ("-5", False),
    ],
)
async def test_the_pattern_of_times_is_the_servers(
    api: Client, document: Json, new_tenant: Callable[[], Tenant], text: str, valid: bool
) -> None:
    """Sends times in every form: the server accepts exactly those that match the pattern in the document.

    A failure means that a generated client refuses a valid time, or sends one that the server refuses.
    """
    (schema,) = (
        parameter["schema"]
        for parameter in document["paths"]["/v1/calls"]["get"]["parameters"]
        if parameter["name"] == "since"
    )
    assert Draft202012Validator(schema).is_valid(text) is valid
    response = await api.get("/v1/calls", params={"since": text}, headers=new_tenant().auth)
    assert response.status == (200 if valid else 400)


def test_audio_and_text_are_described(document: Json) -> None:
    """Audio is binary, text is text, and JSON comes first where there are several: generators use the first type."""
    responses = document["paths"]["/v1/calls/{id}/recording"]["get"]["responses"]
    binary = {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}
    assert responses["200"]["content"] == responses["206"]["content"] == binary
    transcript = document["paths"]["/v1/calls/{id}/transcript"]["get"]["responses"]["200"]["content"]
    assert list(transcript) == ["application/json", "text/plain", "application/x-subrip", "text/vtt"]
    assert transcript["text/vtt"] == {"schema": {"type": "string"}}


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    return []
