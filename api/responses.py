"""Answers in the API's own form."""

from aiohttp import web
from pydantic import BaseModel


def json_response(body: BaseModel, status: int = 200) -> web.Response:
    """The body as JSON. Nobody may keep it: it is one tenant's, and it changes."""
    return web.Response(
        status=status,
        text=body.model_dump_json(by_alias=True),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def text_response(text: str, content_type: str) -> web.Response:
    """Text in UTF-8. It may hold what callers said: no browser is to take it for a page."""
    return web.Response(
        text=text,
        content_type=content_type,
        charset="utf-8",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
