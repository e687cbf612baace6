"""Tests of the prefilter: it rejects forged requests by their bytes and never a valid one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from core.settings import GatewaySettings, KafkaSettings
from gateway.app import Gateway
from gateway.carriers.common.signatures import sign
from gateway.protection.request_prefilter import UnfinishedError, read_request
from tests.support.media_requests import MEDIA, upgrade
from tests.support.twilio_messages import PUBLIC_URL
from tests.support.webhook_requests import TWILIO_TOKEN, WITH_WEBHOOKS, end_fields, request
from tests.support.webhook_settings import settings_with_every_carrier

SIGNED = sign(TWILIO_TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)
LIMITS = GatewaySettings(
    max_unproven_requests=3,
    max_unproven_sockets=2,
    unlimited_peers=(ip_network("127.0.0.1/32"),),
    stream_token_secret=SecretStr("a-secret-of-some-length"),
)
FORGED = "bm90IHRoaXM="


@dataclass(frozen=True)
class GatewayClient:
    """Client of a gateway that has authenticated no loopback address yet."""

    port: int

    async def raw(self, data: bytes, address: str, pieces: int = 1) -> bytes:
        """Sends the bytes in several pieces and returns the head of the response, and up to 1,000 bytes more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(10):
                return await reader.readuntil(b"\r\n\r\n") + await reader.read(1000)
        finally:
            writer.close()

    async def status(self, data: bytes, address: str, pieces: int = 1) -> int:
        """Returns the status of the response."""
        return int((await self.raw(data, address, pieces)).split(b" ", 2)[1])

    async def metric(self, name: str) -> float:
        """Returns the value of a metric, read from an address that the limits exempt."""
        data = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=("127.0.0.1", 0))
        writer.write(data)
        text = (await reader.read()).decode()
        writer.close()
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)


@pytest.fixture
async def client(kafka: KafkaSettings) -> AsyncIterator[GatewayClient]:
    """Starts a gateway with all carriers and a shared limit of three requests; 127.0.0.1 is exempt."""
    gateway = Gateway(settings_with_every_carrier(kafka).model_copy(update={"gateway": LIMITS}))
    runner = web.AppRunner(gateway.app, lingering_time=1)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(
        gateway.connection_guard.factory(runner.server), "127.0.0.1", 0
    )
    yield GatewayClient(server.sockets[0].getsockname()[1])
    server.close()
    await runner.cleanup()


async def test_forged_requests_are_rejected_before_http(client: GatewayClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends a hundred forged upgrades and webhooks from different addresses while the HTTP parser is disabled.

    All must be rejected with 403 and counted, and must not use the shared limit. Otherwise each costs the gateway
    several times as much as the sender.
    """
    monkeypatch.setattr(RequestHandler, "data_received", None)
    statuses = [await client.status(upgrade(FORGED), f"127.0.1.{number}") for number in range(1, 101)]
    assert set(statuses) == {403}
    webhook = b"POST /v1/status/twilio HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=b"
    assert {await client.status(webhook, f"127.0.6.{number}") for number in range(1, 101)} == {403}
    monkeypatch.undo()
    assert await client.metric('audiotext_gateway_refused_webhooks_total{reason="unauthorized"}') == 100
    assert await client.metric('audiotext_gateway_refused_sockets_total{reason="unauthorized"}') == 100
    assert await client.status(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "127.0.2.1") == 200


async def test_signed_upgrade_is_accepted_over_the_shared_limit(client: GatewayClient) -> None:
    """Uses up the shared limit from four addresses, then sends a signed upgrade in pieces from a fifth.

    The rejection must name the setting; the signed upgrade must succeed, and later requests of its address as well. A
    failure means that other clients can block calls.
    """
    plain = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert [await client.status(plain, f"127.0.1.{number}") for number in range(1, 4)] == [200] * 3
    response = await client.raw(plain, "127.0.1.4")
    assert response.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS" in response
    assert b"Retry-After: 10" in response
    assert await client.metric("audiotext_gateway_flood_total") == 1
    close = b"\x88\x80" + bytes(4)
    assert await client.status(upgrade(SIGNED) + close, "127.0.3.1", pieces=5) == 101
    assert await client.status(plain, "127.0.3.1") == 200


async def test_unauthenticated_sockets_are_limited_before_http(
    client: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opens two sockets that send their token with the start, which is the limit, then ten more from other addresses.

    The ten must be rejected before HTTP is parsed.
    """
    waiting = [await asyncio.open_connection("127.0.0.1", client.port, local_addr=("127.0.8.1", 0)) for _ in range(2)]
    for reader, writer in waiting:
        writer.write(upgrade("", "/v1/media/vonage"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    with monkeypatch.context() as broken:
        broken.setattr(RequestHandler, "data_received", None)
        responses = [await client.raw(upgrade("", "/v1/media/vonage"), f"127.0.8.{number}") for number in range(2, 12)]
    assert all(one.startswith(b"HTTP/1.1 503 ") and b"too many unauthenticated sockets" in one for one in responses)
    assert await client.metric('audiotext_gateway_refused_sockets_total{reason="unproven"}') == 10
    for _, writer in waiting:
        writer.close()


@pytest.mark.parametrize("path", ["/v1/media/nobody", "/v1/status/nobody", "/v1/media/", "/v1/calls", "/"])
async def test_similar_paths_count_against_the_shared_limit(client: GatewayClient, path: str) -> None:
    """Requests paths that carriers do not use: the fourth request must be rejected.

    A flood would use any path that is exempt from the shared limit.
    """
    data = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    statuses = [await client.status(data, f"127.0.9.{number}") for number in range(1, 5)]
    assert statuses == [404, 404, 404, 503]


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_signed_webhook_is_accepted_over_the_shared_limit(client: GatewayClient, name: str) -> None:
    """Sends each carrier's status webhook in three pieces after the shared limit is used up.

    A signed one must be accepted; one without a signature or with a changed body must get 403.
    """
    pieces = 3
    for number in range(1, 4):
        await client.status(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", f"127.0.1.{number}")
    made = request(name, f"/v1/status/{name}", end_fields(name, "c-1"))
    head = "".join(f"{key}: {value}\r\n" for key, value in made.headers.items())
    data = (
        f"POST {made.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {len(made.body)}\r\n\r\n"
    ).encode() + made.body
    assert await client.status(data, "127.0.7.1", pieces) == 204
    plain = "".join(f"{key}: {value}\r\n" for key, value in made.headers.items() if key == "Content-Type")
    forged = data.replace(head.encode(), plain.encode())
    assert await client.status(forged, "127.0.7.2", pieces) == 403
    if name not in ("exotel", "jambonz", "vonage"):  # they sign no body, or not this one
        assert await client.status(data[:-1] + bytes([data[-1] ^ 1]), "127.0.7.3", pieces) == 403


async def test_data_after_the_upgrade_request_is_kept(client: GatewayClient) -> None:
    """Sends a signed upgrade and the first messages of its stream in one packet: the stream must begin.

    Carriers do not wait for a response before they send.
    """
    said = b'{"event":"connected"}'
    frame = b"\x81" + bytes([0x80 | len(said)]) + bytes(4) + said
    answer = await client.raw(upgrade(SIGNED) + frame + b"\x88\x80" + bytes(4), "127.0.4.1")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x88\x02\x03\xe8"), "its close frame was not heard"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(upgrade(FORGED, more="X-Odd: \xff\r\n"), id="odd characters"),
        pytest.param(upgrade(FORGED, more="X-Folded: a\r\n b\r\n"), id="folded"),
        pytest.param(upgrade(FORGED).replace(b"GET /v1", b"GET http://x/v1"), id="absolute"),
        pytest.param(upgrade(FORGED, path="/v1/media/%74wilio"), id="escaped"),
        pytest.param(b"\x16\x03\x01" + bytes(20_000), id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, id="endless"),
    ],
)
async def test_unusual_requests_go_to_the_http_server(client: GatewayClient, data: bytes) -> None:
    """Sends heads that carriers do not send: the HTTP server must answer them as usual."""
    assert await client.status(data, "127.0.5.1") in {400, 403, 404}


def test_a_body_is_waited_for_once() -> None:
    """Reads a webhook with an incomplete head, then with an incomplete body.

    The prefilter must wait for the exact number of bytes instead of parsing after each one; otherwise a flood of small
    packets costs the gateway more than the sender.
    """
    head = b"POST /v1/status/twilio HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
    with pytest.raises(UnfinishedError) as unfinished:
        read_request(head[:-1])
    assert unfinished.value.needed == len(head)
    with pytest.raises(UnfinishedError) as unfinished:
        read_request(head)
    assert unfinished.value.needed == len(head) + 5000
    parsed = read_request(head + b"x" * 5001)
    assert parsed is not None
    assert parsed.body == b"x" * 5000


_NAMES = st.text("abcXYZ-_019", min_size=1, max_size=12)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.text("abc/?=&%~.", max_size=20), st.lists(st.tuples(_NAMES, _VALUES), max_size=8))
def test_plain_heads_are_read_as_http_reads_them(rest: str, headers: list[tuple[str, str]]) -> None:
    """Reads generated heads with the prefilter and with aiohttp: target and headers must be equal.

    If the two differ, a forged request could pass the check of its signature.
    """
    lines = [f"GET /{rest} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    data = "\r\n".join([*lines, "", ""]).encode()
    parsed = read_request(data)
    assert parsed is not None
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(cast(RequestHandler, None), loop, 2**16)
        messages, _, _ = parser.feed_data(data)
    except aiohttp.http_exceptions.BadHttpMessage:
        return  # for instance two Content-Lengths
    finally:
        loop.close()
    ((message, _),) = messages
    assert (message.method, message.path) == (parsed.method, parsed.target)
    assert list(message.headers.items()) == list(parsed.headers.items())
