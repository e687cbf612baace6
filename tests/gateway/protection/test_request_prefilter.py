"""What is refused by its first octets, and that nothing is that would have been heard."""

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
from gateway.carriers.common.signatures import HEADER, sign
from gateway.protection.request_prefilter import UnfinishedError, read_request
from tests.gateway.test_webhooks import settings_for
from tests.gateway.webhook_requests import TWILIO_TOKEN, WITH_WEBHOOKS, ending, request
from tests.gateway.wire import PUBLIC_URL

MEDIA = "/v1/media/twilio"
SIGNED = sign(TWILIO_TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)
LIMITS = GatewaySettings(
    max_unproven_requests=3,
    max_unproven_sockets=2,
    unlimited_peers=(ip_network("127.0.0.1/32"),),
    stream_token_secret=SecretStr("a-secret-of-some-length"),
)
FORGED = "bm90IHRoaXM="


@dataclass(frozen=True)
class Asking:
    """A gateway to which no address of loopback is known, and who asks it from there."""

    port: int

    async def raw(self, octets: bytes, address: str, pieces: int = 1) -> bytes:
        """What it says to these octets, in so many pieces, before it hangs up, or to its first head's end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        size = -(-len(octets) // pieces)
        for start in range(0, len(octets), size):
            writer.write(octets[start : start + size])
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(10):
                return await reader.readuntil(b"\r\n\r\n") + await reader.read(1000)
        finally:
            writer.close()

    async def status(self, octets: bytes, address: str, pieces: int = 1) -> int:
        """Of its answer."""
        return int((await self.raw(octets, address, pieces)).split(b" ", 2)[1])

    async def metric(self, name: str) -> float:
        """What it counts, seen from an address that has no part in the test."""
        octets = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=("127.0.0.1", 0))
        writer.write(octets)
        text = (await reader.read()).decode()
        writer.close()
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)


@pytest.fixture
async def asking(kafka: KafkaSettings) -> AsyncIterator[Asking]:
    """A gateway of every carrier, that listens to three requests of strangers, all together; 127.0.0.1 is none."""
    gateway = Gateway(settings_for(kafka).model_copy(update={"gateway": LIMITS}))
    runner = web.AppRunner(gateway.app, lingering_time=1)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(gateway.door.factory(runner.server), "127.0.0.1", 0)
    yield Asking(server.sockets[0].getsockname()[1])
    server.close()
    await runner.cleanup()


def upgrade(signature: str, path: str = MEDIA, more: str = "") -> bytes:
    """A media socket's request."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{HEADER}: {signature}\r\n{more}\r\n"
    ).encode()


async def test_a_forged_upgrade_never_comes_to_http(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brings a hundred forged upgrades and webhooks, each from an address of its own, while HTTP is broken: all are
    forbidden and counted, and they take nothing from other strangers. Each would cost several times as much as it costs
    to send."""
    monkeypatch.setattr(RequestHandler, "data_received", None)
    statuses = [await asking.status(upgrade(FORGED), f"127.0.1.{number}") for number in range(1, 101)]
    assert set(statuses) == {403}
    webhook = b"POST /v1/status/twilio HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=b"
    assert {await asking.status(webhook, f"127.0.6.{number}") for number in range(1, 101)} == {403}
    monkeypatch.undo()
    assert await asking.metric('audiotext_gateway_refused_webhooks_total{reason="unauthorized"}') == 100
    assert await asking.metric('audiotext_gateway_refused_sockets_total{reason="unauthorized"}') == 100
    assert await asking.status(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "127.0.2.1") == 200


async def test_who_proves_something_is_heard_in_any_crowd(asking: Asking) -> None:
    """Strangers from four addresses use up what is listened to, which is said with the setting's name; a signed upgrade
    from a fifth goes through, in pieces as well, and from then on whatever that address asks. No call may be lost for
    what others do."""
    plain = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert [await asking.status(plain, f"127.0.1.{number}") for number in range(1, 4)] == [200] * 3
    told = await asking.raw(plain, "127.0.1.4")
    assert told.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS" in told
    assert b"Retry-After: 10" in told
    assert await asking.metric("audiotext_gateway_flood_total") == 1
    close = b"\x88\x80" + bytes(4)
    assert await asking.status(upgrade(SIGNED) + close, "127.0.3.1", pieces=5) == 101
    assert await asking.status(plain, "127.0.3.1") == 200


async def test_sockets_that_prove_nothing_fill_no_more_than_their_places(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sockets of a carrier whose proof comes with the start wait for it, which is as many as may. More, each from
    an address of its own, are told so before HTTP is spent on them."""
    waiting = [await asyncio.open_connection("127.0.0.1", asking.port, local_addr=("127.0.8.1", 0)) for _ in range(2)]
    for reader, writer in waiting:
        writer.write(upgrade("", "/v1/media/vonage"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    with monkeypatch.context() as broken:
        broken.setattr(RequestHandler, "data_received", None)
        told = [await asking.raw(upgrade("", "/v1/media/vonage"), f"127.0.8.{number}") for number in range(2, 12)]
    assert all(one.startswith(b"HTTP/1.1 503 ") and b"proved nothing yet" in one for one in told)
    assert await asking.metric('audiotext_gateway_refused_sockets_total{reason="unproven"}') == 10
    for _, writer in waiting:
        writer.close()


@pytest.mark.parametrize("path", ["/v1/media/nobody", "/v1/status/nobody", "/v1/media/", "/v1/calls", "/"])
async def test_what_only_looks_like_a_carriers_is_in_the_crowd(asking: Asking, path: str) -> None:
    """Strangers ask for what no carrier asks for: three are listened to, the fourth is not. Whatever is left out of the
    limit is what a flood would ask for."""
    octets = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    statuses = [await asking.status(octets, f"127.0.9.{number}") for number in range(1, 5)]
    assert statuses == [404, 404, 404, 503]


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_a_webhook_is_heard_in_any_crowd_if_it_is_signed(asking: Asking, name: str) -> None:
    """Strangers have used up what is listened to. Each carrier's status, from an address nobody knows, in three pieces:
    taken if it is signed, forbidden if it is not, or if its body is another's."""
    pieces = 3
    for number in range(1, 4):
        await asking.status(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", f"127.0.1.{number}")
    made = request(name, f"/v1/status/{name}", ending(name, "c-1"))
    head = "".join(f"{key}: {value}\r\n" for key, value in made.headers.items())
    octets = (
        f"POST {made.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {len(made.body)}\r\n\r\n"
    ).encode() + made.body
    assert await asking.status(octets, "127.0.7.1", pieces) == 204
    plain = "".join(f"{key}: {value}\r\n" for key, value in made.headers.items() if key == "Content-Type")
    forged = octets.replace(head.encode(), plain.encode())
    assert await asking.status(forged, "127.0.7.2", pieces) == 403
    if name not in ("exotel", "jambonz", "vonage"):  # they sign no body, or not this one
        assert await asking.status(octets[:-1] + bytes([octets[-1] ^ 1]), "127.0.7.3", pieces) == 403


async def test_what_came_with_the_request_is_not_lost(asking: Asking) -> None:
    """Sends a signed upgrade and the first messages of its stream in one packet, from an address nobody knows: the
    stream begins. A carrier waits for no answer before it speaks."""
    said = b'{"event":"connected"}'
    frame = b"\x81" + bytes([0x80 | len(said)]) + bytes(4) + said
    answer = await asking.raw(upgrade(SIGNED) + frame + b"\x88\x80" + bytes(4), "127.0.4.1")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x88\x02\x03\xe8"), "its close frame was not heard"


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(upgrade(FORGED, more="X-Odd: \xff\r\n"), id="odd characters"),
        pytest.param(upgrade(FORGED, more="X-Folded: a\r\n b\r\n"), id="folded"),
        pytest.param(upgrade(FORGED).replace(b"GET /v1", b"GET http://x/v1"), id="absolute"),
        pytest.param(upgrade(FORGED, path="/v1/media/%74wilio"), id="escaped"),
        pytest.param(b"\x16\x03\x01" + bytes(20_000), id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, id="endless"),
    ],
)
async def test_what_is_not_plain_is_left_to_http(asking: Asking, octets: bytes) -> None:
    """Sends heads that no carrier would: HTTP's own machinery says what is wrong, as ever."""
    assert await asking.status(octets, "127.0.5.1") in {400, 403, 404}


def test_a_body_is_waited_for_once() -> None:
    """Brings a webhook octet by octet: its head is read when it is there, and again when its body is, not with each
    octet in between. Otherwise a flood in small packets would cost us more than who sends it."""
    head = b"POST /v1/status/twilio HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
    with pytest.raises(UnfinishedError) as unfinished:
        read_request(head[:-1])
    assert unfinished.value.needed == len(head)
    with pytest.raises(UnfinishedError) as unfinished:
        read_request(head)
    assert unfinished.value.needed == len(head) + 5000
    asked = read_request(head + b"x" * 5001)
    assert asked is not None
    assert asked.body == b"x" * 5000


_NAMES = st.text("abcXYZ-_019", min_size=1, max_size=12)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.text("abc/?=&%~.", max_size=20), st.lists(st.tuples(_NAMES, _VALUES), max_size=8))
def test_plain_heads_are_read_as_http_reads_them(rest: str, headers: list[tuple[str, str]]) -> None:
    """Reads made-up heads with both: the same target and the same headers in the same order, or none of ours. Two
    readings of one request are how proofs are smuggled past whoever checks them."""
    lines = [f"GET /{rest} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    octets = "\r\n".join([*lines, "", ""]).encode()
    asked = read_request(octets)
    assert asked is not None
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(cast(RequestHandler, None), loop, 2**16)
        messages, _, _ = parser.feed_data(octets)
    except aiohttp.http_exceptions.BadHttpMessage:
        return  # for instance two Content-Lengths
    finally:
        loop.close()
    ((message, _),) = messages
    assert (message.method, message.path) == (asked.method, asked.target)
    assert list(message.headers.items()) == list(asked.headers.items())
