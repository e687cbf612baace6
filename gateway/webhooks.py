"""What carriers ask over HTTP: how to answer a call, and where to leave word of what became of it."""

import logging
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from audiotext.settings import Settings
from gateway.carriers import Carrier, Proof, UnauthorizedError
from gateway.signatures import socket_url

log = logging.getLogger(__name__)


class Webhooks:
    """The carriers' HTTP requests."""

    def __init__(self, settings: Settings, carriers: Mapping[str, Carrier]) -> None:
        self._settings = settings
        self._carriers = carriers

    async def voice(self, request: web.Request) -> web.Response:
        """POST /v1/voice/{carrier}: the answer that makes the carrier stream the call to us."""
        carrier = await self._authorized(request)
        stream_url = socket_url(self._settings.base_url, f"/v1/media/{request.match_info['carrier']}")
        return web.Response(text=carrier.answer(stream_url), content_type="application/xml")

    async def status(self, request: web.Request) -> web.Response:
        """POST /v1/status/{carrier}: taken note of; the media socket itself tells when a stream ends."""
        await self._authorized(request)
        return web.Response(status=204)

    async def _authorized(self, request: web.Request) -> Carrier:
        """The carrier the request comes from. Raises HTTPNotFound and HTTPForbidden."""
        name = request.match_info["carrier"]
        carrier = self._carriers.get(name)
        if carrier is None:
            raise web.HTTPNotFound(text='{"error": "unknown carrier"}', content_type="application/json")
        # Not request.post(): nobody is authorized yet, and it fails on what is no well-formed form.
        form = parse_qsl((await request.read()).decode(errors="replace"), keep_blank_values=True)
        try:
            carrier.authorize_webhook(Proof(request.raw_path, request.headers, form), self._settings)
        except UnauthorizedError as error:
            log.warning("%s: %s refused: %s", name, request.path, error)
            raise web.HTTPForbidden(text='{"error": "forbidden"}', content_type="application/json") from None
        return carrier
