"""Tests that secrets appear in no log, response, metric or topic, and that all processes accept the same tokens."""

import asyncio
import base64
import json
import logging
import time

import aiohttp
import pytest

from core.settings import KafkaSettings, Settings
from core.token_signer import TokenSigner
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers import load_carriers
from gateway.carriers.base import IncomingRequest, StreamStart, UnauthorizedError
from gateway.carriers.common.signatures import HEADER, sign
from gateway.media.session import SessionClosedError
from schemas.media import Codec, RecordType
from tests.gateway.conftest import Serve
from tests.support.ids import new_call
from tests.support.twilio_messages import PUBLIC_URL, events_on_log, media, records_on_log, start, stop
from tests.support.webhook_requests import WITH_WEBHOOKS, request, voice_fields

CARRIERS = load_carriers()
TOKENS = "shared-by-all-gateways"
KEPT = "kept-secret"  # configured everywhere
SHOWN = "shown-secret"  # what outsiders bring


def settings_for(kafka: KafkaSettings | None = None) -> Settings:
    """Returns settings of every carrier, with recognizable secrets."""
    doors = {"username": "user", "password": KEPT}
    return Settings.model_validate(
        {
            "public_url": PUBLIC_URL,
            "kafka": kafka or KafkaSettings(),
            "twilio": {"auth_token": KEPT, "signing_keys": {"k": KEPT + "-2"}},
            "signalwire": {"signing_key": KEPT, "stream_token": KEPT},
            "telnyx": {"stream_token": KEPT, "public_key": base64.b64encode(bytes(32)).decode()},
            "plivo": {"auth_token": KEPT},
            "exotel": doors,
            "vonage": doors | {"signature_secret": KEPT},
            "jambonz": doors,
            "gateway": {"stream_token_secret": TOKENS},
        }
    )


def written(caplog: pytest.LogCaptureFixture) -> str:
    """Returns the log without the test server's access log, which the gateway does not write."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name != "aiohttp.access")


def presented(name: str) -> list[dict[str, str]]:
    """Returns headers with wrong secrets."""
    basic = base64.b64encode(f"user:{SHOWN}".encode()).decode()
    signed = request(name, f"/v1/voice/{name}", voice_fields(name, "c-1")).headers
    return [signed | {"Authorization": f"Basic {basic}"}, {"Authorization": f"Bearer {SHOWN}"}, {HEADER: SHOWN}]


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_refusals_contain_no_secret(
    serve: Serve, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Sends wrong passwords, bearer tokens, signatures and stream tokens, in headers, query string and start.

    Neither the sent nor the configured secrets may be in the log (all levels), the responses or the metrics. A mistyped
    password in a log file is a leaked password.
    """
    caplog.set_level(logging.DEBUG)
    _, client = await serve(settings_for(kafka))
    told = []
    token = f"at1.{SHOWN}.{SHOWN}"
    for headers in presented(name):
        for path in (f"/v1/voice/{name}", f"/v1/status/{name}?token={token}"):
            answer = await client.post(path, data=json.dumps(voice_fields(name, "c-1")), headers=headers)
            assert answer.status == 403
            told.append(await answer.text())
        for path in (f"/v1/media/{name}", f"/v1/media/{name}?token={token}"):
            try:
                socket = await client.ws_connect(path, headers=headers, protocols=CARRIERS[name].subprotocols)
            except aiohttp.WSServerHandshakeError as refused:
                told.append(f"{refused.status} {refused.headers}")
                continue
            # Its proof may come with the start, and is wrong there, too.
            vonage = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", "call_id": "c-1"}
            plivo = {"event": "start", "start": {"callId": "c-1", "streamId": "s", "mediaFormat": FORMAT}}
            first = vonage | {"token": token} if name == "vonage" else plivo | {"extra_headers": {"token": token}}
            await socket.send_str(json.dumps(first))
            closed = await socket.receive(timeout=60)
            assert closed.data == 1008
            told.append(str(closed.extra))
    told.append(await (await client.get("/metrics")).text())
    log = written(caplog)
    assert log.count("refused") >= 3
    for secret in (KEPT, SHOWN, TOKENS, base64.b64encode(f"user:{SHOWN}".encode()).decode()):
        assert secret not in log
        assert secret not in "".join(told)


FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000}


async def test_valid_token_is_not_stored(serve: Serve, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture) -> None:
    """Streams a call whose start contains a valid token and custom parameters.

    The parameters must be on the log and in the events; the token must be in neither, nor in the log file.
    """
    caplog.set_level(logging.DEBUG)
    _, client = await serve(settings_for(kafka))
    call = new_call()
    token = TokenSigner(TOKENS).sign("stream", {"tenant": "default", "carrier": "twilio", "call": call}, 60)
    headers = {HEADER: sign(KEPT, PUBLIC_URL.replace("https", "wss") + "/v1/media/twilio")}
    async with client.ws_connect("/v1/media/twilio", headers=headers) as socket:
        for message in (start(call, custom={"agent": "7", "token": token}), media(0), stop()):
            await socket.send_str(message.decode())
        records = await asyncio.to_thread(records_on_log, kafka, call)
    events = await asyncio.to_thread(events_on_log, kafka, call, 2)
    (begun,) = [record for record in records if record.type is RecordType.START]
    assert b'"agent": "7"' in begun.payload
    everything = "".join([written(caplog), *(event.model_dump_json() for event in events), *map(repr, records)])
    assert "at1." not in everything


def test_every_gateway_process_accepts_the_same_tokens() -> None:
    """Issues a token in one process and checks it in four others.

    Each must accept it for its call and its carrier until it expires, and for nothing else. Behind a load balancer,
    webhook and socket can reach different processes.
    """
    made = StreamAuthorizer(settings_for()).issue("acme", "telnyx", "c-1")
    old = TokenSigner(TOKENS).sign("stream", {"tenant": "acme", "carrier": "telnyx", "call": "c-1"}, -1)
    for _ in range(4):
        other = StreamAuthorizer(settings_for())
        admit = other.authorize(
            "telnyx", CARRIERS["telnyx"], IncomingRequest("/v1/media/telnyx?token=" + made, {}, at_s=time.time())
        )
        assert admit(_start("c-1"))[0] == "acme"
        with pytest.raises(SessionClosedError, match="another call"):
            admit(_start("c-2"))
        for token, carrier in ((old, "telnyx"), (made, "jambonz")):
            proof = IncomingRequest(f"/v1/media/{carrier}?token={token}", {}, at_s=time.time())
            with pytest.raises(UnauthorizedError):
                other.authorize(carrier, CARRIERS[carrier], proof)


def test_voice_responses_bind_their_tokens_to_the_call() -> None:
    """Reads the call id from each carrier's voice request.

    With it each token is for one call, and no process has to store which call used a token.
    """
    for name in WITH_WEBHOOKS:
        told = voice_fields(name, "c-1")
        if name in ("vonage", "jambonz"):
            proof = IncomingRequest(f"/v1/voice/{name}", {}, body=json.dumps(told).encode())
        else:
            proof = IncomingRequest(f"/v1/voice/{name}", {}, form=[(key, str(value)) for key, value in told.items()])
        assert CARRIERS[name].requested_call_id(proof) == "c-1", name


def _start(call_id: str) -> StreamStart:
    return StreamStart(call_id, "s-1", "", (), Codec.PCMU, 8000)
