"""The OpenAPI 3.1 document, made from the table of endpoints and the models they use: it cannot say anything else
than what the server does."""

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api.endpoint import Endpoint
from api.errors import ErrorResponse

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"{(\w+)(:[^}]*)?}")
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
}


def document(endpoints: Iterable[Endpoint[Any]], base_url: str) -> Json:
    """The document. base_url: where the API is reached from outside."""
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
            "version": version("audiotext"),
            "description": "Calls as they were recorded, transcribed, summarized and billed.",
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
    """A path as OpenAPI writes it: parameters without their patterns."""
    return _PATH_PARAMETER.sub(r"{\1}", path)


def _schemas(endpoints: Iterable[Endpoint[Any]]) -> tuple[dict[type[BaseModel], Json], Json]:
    """Of every body a reference to its schema, and the schemas themselves by name."""
    bodies: set[type[BaseModel]] = {ErrorResponse}
    for endpoint in endpoints:
        bodies.update(endpoint.own_statuses.values())
        if endpoint.body:
            bodies.add(endpoint.body)
    sent = {endpoint.request for endpoint in endpoints if endpoint.request}
    mode: JsonSchemaMode = "serialization"
    ordered = sorted(bodies, key=lambda body: body.__name__)
    asked: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((body, mode) for body in ordered),
        *((body, "validation") for body in sorted(sent, key=lambda body: body.__name__)),
    ]
    references, definitions = models_json_schema(asked, ref_template=_REF)
    return {body: references[body, which] for body, which in asked}, definitions["$defs"]


def _operation(endpoint: Endpoint[Any], schemas: dict[type[BaseModel], Json]) -> Json:
    error = {"application/json": {"schema": schemas[ErrorResponse]}}
    content: Json = {kind: {"schema": _media_schema(kind)} for kind in endpoint.media}
    if endpoint.body:
        content["application/json"] = {"schema": schemas[endpoint.body]}
    usual = str(endpoint.status)
    responses: Json = {usual: {"description": _description(endpoint.body) or endpoint.summary, "content": content}}
    if endpoint.ranges:
        responses["206"] = {"description": "The range that was asked for", "content": content}
        responses["304"] = {"description": "What If-None-Match names is still right"}
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
        yield "400", "A parameter cannot be used; the error names it"
    if endpoint.method != "GET":
        yield "409", "Not possible as things are; the message says why"
    if not endpoint.public:
        yield "401", "No API key, or none that is known"
        yield "403", "Not with this key or link, or not from this page"
    if _PATH_PARAMETER.search(endpoint.path):
        yield "404", "No such call for this key (`not_found`), or not yet (`not_ready`), or it failed (`failed`)"
    if endpoint.ranges:
        yield "416", "The range lies outside the recording"
    if not endpoint.public:
        yield "503", "A store is away; the error names it, Retry-After says when to ask again"
    yield "default", "Anything else that goes wrong"


def _parameters(endpoint: Endpoint[Any]) -> list[Json]:
    found: list[Json] = [_ID | {"description": endpoint.subject}] if _PATH_PARAMETER.search(endpoint.path) else []
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
    """A query parameter is left out or has a value; it is never null."""
    if "anyOf" not in schema:
        return schema
    kept: Json = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    value: Json
    (value,) = (option for option in schema["anyOf"] if option != {"type": "null"})
    return kept | value


def _media_schema(content_type: str) -> Json:
    # An empty schema is how OpenAPI 3.1 says "bytes".
    return {"type": "string"} if content_type.startswith("text/") else {}


def _head(operation: Json) -> Json:
    """The same answers without their bodies."""
    return {status: {"description": response["description"]} for status, response in operation["responses"].items()}


def _description(body: type[BaseModel] | None) -> str:
    return " ".join((body.__doc__ or "").split()) if body else ""
