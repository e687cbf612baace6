"""Builds the OpenAPI 3.1 document from the table of endpoints and their models, so it always matches the server."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api.endpoint import TENANT_PARAMETER, Endpoint
from api.errors import ErrorResponse
from core import package

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"{(\w+)(:[^}]*)?}")
_SUBJECTS = {"link": "The link's id."}
_TENANT = {
    "name": TENANT_PARAMETER,
    "in": "query",
    "required": False,
    "description": "Tenant of the call. Keys that see every tenant must name it if several tenants have this call id.",
    "schema": {"type": "string"},
}


def document(endpoints: Iterable[Endpoint[Any]], base_url: str) -> Json:
    """Returns the document. base_url: public address of the API."""
    listed = list(endpoints)
    schemas, components = _schemas(listed)
    paths: Json = {}
    for endpoint in listed:
        operation = _operation(endpoint, schemas)
        item: Json = paths.setdefault(path_template(endpoint.path), {})
        item[endpoint.method.lower()] = operation
        if endpoint.ranges:
            item["head"] = operation | {"operationId": f"{endpoint.name}Head", "responses": _head(operation)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AudioText",
            "version": package.VERSION,
            "description": "Recordings, transcripts, summaries and costs of phone calls.",
        },
        "servers": [{"url": base_url}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
        },
    }


def path_template(path: str) -> str:
    """Returns a path as OpenAPI writes it: parameters without their patterns."""
    return _PATH_PARAMETER.sub(r"{\1}", path)


def _schemas(endpoints: Iterable[Endpoint[Any]]) -> tuple[dict[type[BaseModel], Json], Json]:
    """Returns a reference to the schema of every body, and the schemas by name."""
    bodies: set[type[BaseModel]] = {ErrorResponse}
    for endpoint in endpoints:
        bodies.update(endpoint.own_statuses.values())
        if endpoint.body:
            bodies.add(endpoint.body)
    sent = {endpoint.request for endpoint in endpoints if endpoint.request}
    mode: JsonSchemaMode = "serialization"
    ordered = sorted(bodies, key=lambda body: body.__name__)
    listed: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((body, mode) for body in ordered),
        *((body, "validation") for body in sorted(sent, key=lambda body: body.__name__)),
    ]
    references, definitions = models_json_schema(listed, ref_template=_REF)
    return {body: references[body, which] for body, which in listed}, definitions["$defs"]


def _operation(endpoint: Endpoint[Any], schemas: dict[type[BaseModel], Json]) -> Json:
    error = {"application/json": {"schema": schemas[ErrorResponse]}}
    # JSON first: clients that know one type per response take the first.
    content: Json = {"application/json": {"schema": schemas[endpoint.body]}} if endpoint.body else {}
    content |= {kind: {"schema": _media_schema(kind)} for kind in endpoint.media}
    usual = str(endpoint.status)
    responses: Json = {usual: {"description": _description(endpoint.body) or endpoint.summary, "content": content}}
    if endpoint.ranges:
        responses["206"] = {"description": "The requested range", "content": content}
        responses["304"] = {"description": "Not modified: If-None-Match names the current version"}
    responses |= {str(status): {"description": text, "content": error} for status, text in _errors(endpoint)}
    for status, body in endpoint.own_statuses.items():
        content = {"application/json": {"schema": schemas[body]}}
        responses[str(status)] = {"description": _description(body), "content": content}
    operation: Json = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": _parameters(endpoint),
        "responses": responses,
    }
    if endpoint.request:
        sent = {"application/json": {"schema": schemas[endpoint.request]}}
        operation["requestBody"] = {"required": True, "content": sent}
    return operation | {"security": []} if endpoint.public else operation


def _errors(endpoint: Endpoint[Any]) -> Iterable[tuple[str, str]]:
    if endpoint.query or endpoint.request:
        yield "400", "A parameter is invalid; the error names it"
    if endpoint.for_call:
        yield "409", "Several tenants have a call with this id (`ambiguous_call`): name one with `tenant`"
    elif endpoint.method != "GET":
        yield "409", "Not possible in the current state; the message states the reason"
    if not endpoint.public:
        yield "401", "The API key is missing or unknown"
        yield "403", "Not allowed for this key or link, or from this page"
    if _PATH_PARAMETER.search(endpoint.path):
        yield "404", "Not found for this key (`not_found`), not available yet (`not_ready`), or failed (`failed`)"
    if endpoint.ranges:
        yield "416", "The range is outside the recording"
    if not endpoint.public:
        yield "503", "A store is unavailable; the error names it, and Retry-After says when to try again"
    yield "default", "Any other error"


def _parameters(endpoint: Endpoint[Any]) -> list[Json]:
    found: list[Json] = [
        {
            "name": match[1],
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": _SUBJECTS.get(match[1], endpoint.subject),
        }
        for match in _PATH_PARAMETER.finditer(endpoint.path)
    ]
    if endpoint.for_call:
        found.append(_TENANT)
    if endpoint.query:
        schema = endpoint.query.model_json_schema(by_alias=True)
        required = schema.get("required", [])
        for name, given in schema.get("properties", {}).items():
            value = {key: item for key, item in _without_null(given).items() if key not in ("title", "description")}
            found.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in required,
                    "description": given["description"],
                    "schema": value,
                }
            )
    if endpoint.ranges:
        for name in ("Range", "If-Range", "If-None-Match"):
            found.append({"name": name, "in": "header", "required": False, "schema": {"type": "string"}})
    return found


def _without_null(schema: Json) -> Json:
    """Removes null from a parameter's schema: a query parameter has a value or is left out."""
    if "anyOf" not in schema:
        return schema
    kept: Json = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    value: Json
    (value,) = (option for option in schema["anyOf"] if option != {"type": "null"})
    return kept | value


def _media_schema(content_type: str) -> Json:
    if content_type == "application/json":
        return {"type": "object"}
    text = content_type.startswith("text/") or content_type == "application/x-subrip"
    return {"type": "string"} if text else {"type": "string", "format": "binary"}


def _head(operation: Json) -> Json:
    """Returns the same responses without bodies."""
    return {status: {"description": response["description"]} for status, response in operation["responses"].items()}


def _description(body: type[BaseModel] | None) -> str:
    return " ".join((body.__doc__ or "").split()) if body else ""
