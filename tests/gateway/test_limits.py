"""Tests of all limits on real sockets: each is enforced, named in the error and counted in its metric."""

import asyncio
import contextlib
import resource

import aiohttp
import pytest
from aiohttp import WSMsgType
from pydantic import SecretStr

from core.process import raise_descriptor_limit
from core.settings import GatewaySettings, KafkaSettings, Settings, TwilioSettings, VonageSettings
from gateway.carriers import load_carriers
from gateway.webhooks import MAX_BODY_BYTES
from tests.gateway.conftest import Client, Serve, settings_for
from tests.support.ids import new_call
from tests.support.media_requests import MEDIA, SIGNED
from tests.support.twilio_messages import PUBLIC_URL, TOKEN, media, start

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Socket = aiohttp.ClientWebSocketResponse[bool]

SECONDS = media(0, octet=1).replace(b'"payload": "', b'"payload": "' + b"AAAA" * 10_000)  # some 4 s of audio
BIG = b'{"event":"media","x":"' + b"A" * 100_000


async def dial(client: Client, *messages: bytes, path: str = MEDIA) -> Socket:
    """Opens a media socket and sends these messages."""
    media_socket = await client.ws_connect(path, headers=SIGNED)
    for message in messages:
        await media_socket.send_str(message.decode())
    return media_socket


async def closing(media_socket: Socket) -> tuple[int, str]:
    """Returns code and text of the server's close frame."""
    async with asyncio.timeout(60):
        while True:
            message = await media_socket.receive()
            if message.type is WSMsgType.CLOSE:
                return message.data, message.extra or ""


async def refused(client: Client, reason: str, metric: str = "sockets") -> float:
    """Returns the number of refusals with that reason."""
    text = await (await client.get("/metrics")).text()
    counted = (
        line
        for line in text.splitlines()
        if line.startswith(f'audiotext_gateway_refused_{metric}_total{{reason="{reason}"')
    )
    return sum(float(line.rpartition(" ")[2]) for line in counted)


@pytest.mark.parametrize(
    ("limit", "said", "code", "label", "setting"),
    [
        ({"max_message_bytes": 65536}, (start(), BIG), 1009, "oversized", "MAX_MESSAGE_BYTES"),
        ({"max_speed": 1}, (start(), *[SECONDS] * 35), 1008, "too-fast", "MAX_SPEED"),
        ({"merge_ms": 500}, (b'{"event":"x"}',) * 501, 1002, "no-start", ""),
        ({"idle_timeout_s": 0.2}, (start(), media(0)), 1008, "idle", "IDLE_TIMEOUT_S"),
        ({"start_timeout_s": 0.2}, (b'{"event":"connected"}',), 1008, "late-start", "START_TIMEOUT_S"),
    ],
)
async def test_socket_over_a_limit_is_closed(
    serve: Serve, limit: dict[str, object], said: tuple[bytes, ...], *, code: int, label: str, setting: str
) -> None:
    """Sends a too large message, audio too fast, nothing after the start, or no start.

    The socket must be closed, the close frame must name the setting, and the metric the limit.
    """
    _, client = await serve(**limit)
    media_socket = await dial(client, *said)
    found, text = await closing(media_socket)
    assert (found, bool(text)) == (code, True)
    assert not setting or f"AUDIOTEXT_GATEWAY__{setting}" in text
    assert await refused(client, label) == 1


@pytest.mark.parametrize(
    ("limit", "call", "code", "label", "setting"),
    [
        ("max_streams_per_call", "same", 1008, "call-streams", "MAX_STREAMS_PER_CALL"),
        ("max_calls_per_tenant", "other", 1013, "tenant-calls", "MAX_CALLS_PER_TENANT"),
    ],
)
async def test_stream_over_a_limit_is_closed(
    serve: Serve, limit: str, call: str, *, code: int, label: str, setting: str
) -> None:
    """Opens one stream too many of a call, and one call too many of a tenant: each must be closed.

    After another one has ended, a new one must be accepted.
    """
    _, client = await serve(**{limit: 1})
    first_call = new_call()
    second = start(first_call if call == "same" else new_call(), "MZ2")
    first = await dial(client, start(first_call, "MZ1"))
    await _live(client)
    found, text = await closing(await dial(client, second))
    assert (found, f"AUDIOTEXT_GATEWAY__{setting}" in text) == (code, True), text
    assert await refused(client, label) == 1
    await first.close()
    async with await dial(client, second):
        await _live(client)


async def _live(client: Client) -> None:
    """Returns when a stream is live."""
    async with asyncio.timeout(60):
        while True:
            if "audiotext_gateway_streams_live 1.0" in await (await client.get("/metrics")).text():
                return
            await asyncio.sleep(0.02)


async def test_unauthenticated_sockets_are_limited(serve: Serve, kafka: KafkaSettings) -> None:
    """Opens silent sockets of a carrier that authenticates with the start: more than the limit must get 503.

    A socket that authenticates with its upgrade must be accepted meanwhile, because any client can open the others.
    """
    gateway = GatewaySettings(stream_token_secret=SecretStr("a-secret-of-some-length"), max_unproven_sockets=2)
    twilio = TwilioSettings(auth_token=SecretStr(TOKEN))
    vonage = VonageSettings(signature_secret=SecretStr("another-secret-of-some-length"))
    _, client = await serve(Settings(public_url=PUBLIC_URL, kafka=kafka, gateway=gateway, twilio=twilio, vonage=vonage))
    path = "/v1/media/vonage"
    waiting = [await dial(client, path=path) for _ in range(2)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as over:
        await dial(client, path=path)
    assert over.value.status == 503
    assert await refused(client, "unproven") == 1
    async with await dial(client, start()):
        await _live(client)
    await waiting[0].close()
    async with asyncio.timeout(60):
        while True:
            try:
                await (await dial(client, path=path)).close()
                break
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", sorted(set(load_carriers()) - {"audiosocket"}))
async def test_carrier_that_is_not_configured_is_refused(serve: Serve, kafka: KafkaSettings, name: str) -> None:
    """Requests a media socket and a voice response of each carrier from a gateway that has only a token secret.

    Each must be refused before the upgrade, with a response that names the carrier. A socket that is accepted could
    send messages, which cost time and can reach the log.
    """
    gateway = GatewaySettings(stream_token_secret=SecretStr("a-secret-of-some-length"))
    _, client = await serve(Settings(public_url=PUBLIC_URL, kafka=kafka, gateway=gateway))
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    for answer in (
        await client.get(f"/v1/media/{name}", headers=upgrade | key),
        await client.post(f"/v1/voice/{name}", data=b"{}"),
    ):
        assert answer.status == 403
        assert (await answer.json())["error"]["message"] == f"{name} is not configured: see docs/carriers"


@pytest.mark.parametrize("chunked", [False, True])
async def test_webhook_body_is_limited(serve: Serve, chunked: bool) -> None:
    """Posts a too large body, with and without its length: 413, counted, and without reading all of it."""
    _, client = await serve()

    async def much() -> object:
        for _ in range(20):
            yield b"x" * 10_000

    answer = await client.post("/v1/status/twilio", data=much() if chunked else b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status == 413
    assert await refused(client, "oversized", "webhooks") == 1


async def test_number_of_form_fields_is_limited(serve: Serve) -> None:
    """Posts 20,000 empty fields: they must be rejected before the signature of each account is computed."""
    _, client = await serve()
    answer = await client.post("/v1/status/twilio", data=b"a&" * 20_000, headers=FORM)
    assert answer.status == 400
    assert await refused(client, "malformed", "webhooks") == 1
    few = await client.post("/v1/status/twilio", data=b"a&" * 400, headers=FORM)
    assert few.status == 403


async def test_refused_webhooks_are_counted(serve: Serve) -> None:
    """Posts without a signature, for an unknown carrier, and with a missing body: each reason must be counted."""
    _, client = await serve(handshake_timeout_s=0.2)
    assert (await client.post("/v1/status/twilio", data=b"a=b")).status == 403
    assert (await client.post("/v1/voice/pigeon")).status == 404

    async def never() -> object:
        yield b"a"
        await asyncio.sleep(60)

    with contextlib.suppress(aiohttp.ClientError):  # the answer comes before the request has ended
        assert (await client.post("/v1/status/twilio", data=never())).status == 408
    for reason in ("unauthorized", "unknown-carrier", "slow"):
        assert await refused(client, reason, "webhooks") == 1, reason


def test_descriptor_limit_is_raised(kafka: KafkaSettings) -> None:
    """Lowers this process's limit of open files and lets the gateway raise it to the system's maximum.

    With the default of 1024 a gateway accepts about a thousand calls.
    """
    assert settings_for(kafka).gateway.max_calls_per_tenant > 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
