"""HTTP requests of the carriers: voice requests, which ask how to handle a call, and status webhooks."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence

from aiohttp import web

from core.http_server import error_body
from core.settings import Settings
from gateway.admission.repeats import Answer, AnsweredWebhooks, identity_of
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
from gateway.carriers.common.webhook_fields import MAX_FIELDS, fields, read_form
from gateway.media.session import Sink
from gateway.metrics import Metrics
from gateway.protection.connection_guard import client_address_of
from schemas.events import CallStatusReported
from schemas.ids import uuid_of
from schemas.media import EosReason, MediaRecord, RecordType

logger = logging.getLogger(__name__)

VOICE_REQUEST = "voice-request"
"""Status in the event of a voice request. The event names the parties of the call."""

_NO_CONTENT = Answer("", "")

MAX_BODY_BYTES = 64 * 1024
"""Limit of a webhook's body. Carriers send a few hundred bytes."""


class Webhooks:
    """Handlers of the carriers' HTTP requests."""

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
        self._answered = AnsweredWebhooks()
        # The end of each call that waits for the last audio: by carrier, tenant and call.
        self._ends: dict[tuple[str, str, str], tuple[MediaRecord, asyncio.TimerHandle]] = {}

    async def voice(self, request: web.Request) -> web.Response:
        """Serves /v1/voice/{carrier}: returns the answer with which the carrier streams the call to the gateway."""
        name, carrier, incoming, authorization = await self._authorized(request)
        identity = identity_of(name, authorization.tenant, incoming)
        if answered := self._answered.find(identity):
            return _response(answered)
        try:
            call_id = carrier.requested_call_id(incoming)
            from_number, to_number = parties(fields(incoming))
        except CarrierError as error:
            raise self._refused(web.HTTPBadRequest(), "malformed", str(error)) from None
        instructions = StreamInstructions(
            stream_url=socket_url(self._settings.base_url, f"/v1/media/{name}"),
            status_url=f"{self._settings.base_url}/v1/status/{name}",
            tenant=authorization.tenant,
            token=self._admissions.issue(authorization.tenant, name, call_id),
            call_id=call_id,
            from_number=from_number,
            to_number=to_number,
        )
        if call_id and (from_number or to_number):
            report = CallReport(call_id, VOICE_REQUEST, from_number=from_number, to_number=to_number)
            self._sink.put(_event(name, authorization.tenant, report))
        answer = carrier.answer(instructions, self._settings) or VoiceResponse("{}", "application/json")
        if call_id:  # without an id, the requests of two calls may be equal
            self._answered.put(identity, Answer(answer.text, answer.content_type))
        return _response(Answer(answer.text, answer.content_type))

    async def status(self, request: web.Request) -> web.Response:
        """Serves /v1/status/{carrier}: publishes the event, and ends the call if its status means that it is over."""
        name, carrier, incoming, authorization = await self._authorized(request)
        identity = identity_of(name, authorization.tenant, incoming)
        if answered := self._answered.find(identity):
            return _response(answered)
        try:
            report = carrier.report(incoming)
        except CarrierError as error:
            raise self._refused(web.HTTPBadRequest(), "malformed", str(error)) from None
        if report is not None:
            self._sink.put(_event(name, authorization.tenant, report))
            if report.over:
                self._end_soon(name, authorization.tenant, report.call_id)
        self._answered.put(identity, _NO_CONTENT)
        return _response(_NO_CONTENT)

    def drain(self) -> None:
        """Emits the ends of calls that still wait."""
        ends, self._ends = self._ends, {}
        for end, timer in ends.values():
            timer.cancel()
            self._sink.put(end)

    def _end_soon(self, name: str, tenant: str, call_id: str) -> None:
        """Writes the call's end to the log after a delay, because the webhook may have overtaken the last audio.

        A repeated webhook changes nothing.
        """
        key = (name, tenant, call_id)
        if key in self._ends:
            return
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
            del self._ends[key]
            self._sink.put(end)

        delay_s = self._settings.gateway.call_end_delay_s
        self._ends[key] = end, asyncio.get_running_loop().call_later(delay_s, put)

    async def _authorized(self, request: web.Request) -> tuple[str, Carrier, IncomingRequest, Authorization]:
        """Returns the carrier and its name, the request and the result. Raises HTTPException."""
        name = request.match_info["carrier"]
        carrier = self._carriers.get(name)
        if carrier is None:
            text = f"unknown carrier: one of {', '.join(self._carriers)}"
            raise self._refused(web.HTTPNotFound(), "unknown-carrier", text)
        incoming = await self._read(request)
        try:
            return name, carrier, incoming, self._admissions.authorize_webhook(name, carrier, incoming)
        except UnauthorizedError as error:
            logger.warning("%s: %s refused: %s", name, request.path, error)
            raise self._refused(web.HTTPForbidden(), "unauthorized", error.public) from None

    async def _read(self, request: web.Request) -> IncomingRequest:
        body = await request.read()  # the connection guard has read it before
        if len(body) > MAX_BODY_BYTES:
            text = f"the body has more than {MAX_BODY_BYTES} bytes"
            raise self._refused(web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES), "oversized", text)
        try:
            form = read_form(request.content_type, body)
        except ValueError:
            raise self._refused(
                web.HTTPBadRequest(), "malformed", f"the form has more than {MAX_FIELDS} fields"
            ) from None
        return incoming_request(request, self._settings, form, body)

    def _refused(self, answer: web.HTTPException, reason: str, error: str) -> web.HTTPException:
        """Returns the answer to a refused request, and counts it under this reason."""
        self._metrics.refused_webhooks.labels(reason).inc()
        answer.content_type = "application/json"
        answer.text = json.dumps(error_body(answer.status, error))
        answer.force_close()
        return answer


def _response(answer: Answer) -> web.Response:
    if answer == _NO_CONTENT:
        return web.Response(status=204)
    return web.Response(text=answer.text, content_type=answer.content_type)


def incoming_request(
    request: web.Request, settings: Settings, form: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> IncomingRequest:
    """Returns the parts of the request that can prove its origin."""
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
