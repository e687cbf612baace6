"""Responses of the API."""

from aiohttp import web
from pydantic import BaseModel


def json_response(body: BaseModel, status: int = 200) -> web.Response:
    """Returns the body as JSON. Caches may not store it: it belongs to one tenant and changes."""
    return web.Response(
        status=status,
        text=body.model_dump_json(by_alias=True),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def text_response(text: str, content_type: str) -> web.Response:
    """Returns UTF-8 text. Prevents browsers from treating it as a page, since it may contain spoken text."""
    return web.Response(
        text=text,
        content_type=content_type,
        charset="utf-8",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
