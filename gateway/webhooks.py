"""What carriers ask over HTTP: how to answer a call; and what they tell of what became of it."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence

from aiohttp import web

from core.settings import Settings
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers.base import (
    Authorization,
    CallReport,
    Carrier,
    CarrierError,
    IncomingRequest,
    StreamInstructions,
    UnauthorizedError,
    VoiceResponse,
)
from gateway.carriers.common.parties import parties
from gateway.carriers.common.signatures import socket_url
from gateway.carriers.common.webhook_fields import MOST_FIELDS, fields, read_form
from gateway.media.session import Sink
from gateway.metrics import Metrics
from gateway.protection.connection_guard import client_address_of
from schemas.events import CallStatusReported
from schemas.ids import uuid_of
from schemas.media import EosReason, MediaRecord, RecordType

log = logging.getLogger(__name__)

VOICE_REQUEST = "voice-request"
"""Status in the event of a voice request, which names the parties of the call."""

MAX_BODY_BYTES = 64 * 1024
"""Of a carrier's request; they send a few hundred."""


class Webhooks:
    """The carriers' HTTP requests."""

    def __init__(
        self,
        settings: Settings,
        carriers: Mapping[str, Carrier],
        admissions: StreamAuthorizer,
        sink: Sink,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._carriers = carriers
        self._admissions = admissions
        self._sink = sink
        self._metrics = metrics
        self._ends: dict[MediaRecord, asyncio.TimerHandle] = {}

    async def voice(self, request: web.Request) -> web.Response:
        """/v1/voice/{carrier}: the answer that makes the carrier stream the call to us."""
        name, carrier, proof, grant = await self._authorized(request)
        try:
            call_id = carrier.asked_for(proof)
            from_number, to_number = parties(fields(proof))
        except CarrierError as error:
            raise self._refused(web.HTTPBadRequest(), "malformed", str(error)) from None
        offer = StreamInstructions(
            stream_url=socket_url(self._settings.base_url, f"/v1/media/{name}"),
            status_url=f"{self._settings.base_url}/v1/status/{name}",
            tenant=grant.tenant,
            token=self._admissions.issue(grant.tenant, name, call_id),
            call_id=call_id,
            from_number=from_number,
            to_number=to_number,
        )
        if call_id and (from_number or to_number):
            asked = CallReport(call_id, VOICE_REQUEST, from_number=from_number, to_number=to_number)
            self._sink.put(_event(name, grant.tenant, asked))
        answer = carrier.answer(offer, self._settings) or VoiceResponse("{}", "application/json")
        return web.Response(text=answer.text, content_type=answer.content_type)

    async def status(self, request: web.Request) -> web.Response:
        """/v1/status/{carrier}: an event of the call; one that says that the call is over closes it."""
        name, carrier, proof, grant = await self._authorized(request)
        try:
            report = carrier.report(proof)
        except CarrierError as error:
            raise self._refused(web.HTTPBadRequest(), "malformed", str(error)) from None
        if report is not None:
            self._sink.put(_event(name, grant.tenant, report))
            if report.over:
                self._end_soon(name, grant.tenant, report.call_id)
        return web.Response(status=204)

    def drain(self) -> None:
        """Hands on the ends that still wait."""
        ends, self._ends = self._ends, {}
        for end, timer in ends.items():
            timer.cancel()
            self._sink.put(end)

    def _end_soon(self, name: str, tenant: str, call_id: str) -> None:
        """The call's end goes on the log a little later: the webhook may have overtaken the last audio."""
        end = MediaRecord(
            type=RecordType.EOS,
            call_id=call_id,
            tenant=tenant,
            carrier=name,
            stream_id="",
            at_ms=time.time_ns() // 1_000_000,
            detail=EosReason.CALL_ENDED,
        )

        def put() -> None:
            del self._ends[end]
            self._sink.put(end)

        delay_s = self._settings.gateway.call_end_delay_s
        self._ends[end] = asyncio.get_running_loop().call_later(delay_s, put)

    async def _authorized(self, request: web.Request) -> tuple[str, Carrier, IncomingRequest, Authorization]:
        """The carrier the request comes from, by name, and what it proves. Raises HTTPException."""
        name = request.match_info["carrier"]
        carrier = self._carriers.get(name)
        if carrier is None:
            text = f"unknown carrier: one of {', '.join(self._carriers)}"
            raise self._refused(web.HTTPNotFound(), "unknown-carrier", text)
        proof = await self._proof(request)
        try:
            return name, carrier, proof, self._admissions.authorize_webhook(carrier, proof)
        except UnauthorizedError as error:
            log.warning("%s: %s refused: %s", name, request.path, error)
            raise self._refused(web.HTTPForbidden(), "unauthorized", "forbidden") from None

    async def _proof(self, request: web.Request) -> IncomingRequest:
        timeout_s = self._settings.gateway.handshake_timeout_s
        try:
            if (request.content_length or 0) > MAX_BODY_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES)
            async with asyncio.timeout(timeout_s):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise self._refused(error, "oversized", f"more than {MAX_BODY_BYTES} bytes") from None
        except TimeoutError:
            raise self._refused(web.HTTPRequestTimeout(), "slow", f"no body within {timeout_s:g} s") from None
        try:
            form = read_form(request.content_type, body)
        except ValueError:
            raise self._refused(web.HTTPBadRequest(), "malformed", f"more than {MOST_FIELDS} fields") from None
        return proof_of(request, self._settings, form, body)

    def _refused(self, answer: web.HTTPException, reason: str, error: str) -> web.HTTPException:
        """The answer to a request that is turned away, counted under this reason."""
        self._metrics.refused_webhooks.labels(reason).inc()
        answer.content_type = "application/json"
        answer.text = json.dumps({"error": error})
        answer.force_close()
        return answer


def proof_of(
    request: web.Request, settings: Settings, form: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> IncomingRequest:
    """What the request brings to prove where it comes from."""
    return IncomingRequest(
        target=request.raw_path,
        headers=request.headers,
        form=form,
        body=body,
        peer=client_address_of(request, settings),
        at_s=time.time(),
    )


def _event(name: str, tenant: str, report: CallReport) -> CallStatusReported:
    identity = uuid_of("call.status", tenant, report.call_id, report.stream_id, report.status, report.key)
    return CallStatusReported(
        event_id=identity,
        call_id=report.call_id,
        tenant=tenant,
        occurred_at_ms=time.time_ns() // 1_000_000,
        carrier=name,
        status=report.status,
        stream_id=report.stream_id,
        over=report.over,
        reason=report.reason,
        from_number=report.from_number,
        to_number=report.to_number,
    )
