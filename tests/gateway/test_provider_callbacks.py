"""Tests of provider callbacks, from the HTTP request to the stage that waits for the order."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from core.settings import KafkaSettings, Settings, SonioxSettings
from gateway.provider_callbacks import ProviderCallbacks
from pipelines.jobs.completion_listener import CompletionListener, listen
from redpanda.client import LogUnavailableError
from schemas.events import OrderNotice
from schemas.provider_callbacks import WEBHOOK_HEADER, WEBHOOK_PATH
from schemas.topics import Topic

SECRET = "0123456789abcdef"
HEADERS = {WEBHOOK_HEADER: SECRET}


class Log:
    """Takes notices, or is away."""

    def __init__(self) -> None:
        self.taken: list[OrderNotice] = []
        self.away = False

    async def send_async(self, topic: str, events: list[OrderNotice], timeout_s: float) -> None:
        if self.away:
            raise LogUnavailableError("away")
        assert topic == Topic.PROVIDER_NOTICES
        assert timeout_s < 30
        self.taken += events


def settings(secret: str | None = SECRET, kafka: KafkaSettings | None = None) -> Settings:
    """With that secret."""
    return Settings(
        soniox=SonioxSettings(webhook_secret=SecretStr(secret) if secret else None), kafka=kafka or KafkaSettings()
    )


async def serve(notices: ProviderCallbacks) -> TestClient[web.Request, web.Application]:
    """A server that has nothing but the webhook."""
    app = web.Application()
    app.router.add_post(WEBHOOK_PATH, notices.soniox)
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


@pytest.fixture
async def log() -> Log:
    """A log of the test's own."""
    return Log()


@pytest.fixture
async def client(log: Log) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """Asks a server that has a secret."""
    one = await serve(ProviderCallbacks(settings(), log))
    yield one
    await one.close()


async def test_callback_with_the_secret_is_written_to_the_log(
    client: TestClient[web.Request, web.Application], log: Log
) -> None:
    """Sends the documented body with the secret, twice: the response must be 204 and the record must name the order.

    Both records must have the same event id.
    """
    for _ in range(2):
        answer = await client.post(WEBHOOK_PATH, json={"id": "548d023b", "status": "completed"}, headers=HEADERS)
        assert answer.status == 204
    assert [(one.provider, one.remote_id, one.status) for one in log.taken] == [("soniox", "548d023b", "completed")] * 2
    assert log.taken[0].event_id == log.taken[1].event_id


@pytest.mark.parametrize(
    "headers",
    [{}, {WEBHOOK_HEADER: ""}, {WEBHOOK_HEADER: SECRET[:-1]}, {WEBHOOK_HEADER: "\udcff"}, {"Authorization": SECRET}],
)
async def test_callback_without_the_secret_is_rejected(
    headers: dict[str, str], client: TestClient[web.Request, web.Application], log: Log
) -> None:
    """Sends no secret, an empty and a wrong one: 403 and no record, or any client could trigger provider requests."""
    answer = await client.post(WEBHOOK_PATH, json={"id": "548d023b", "status": "completed"}, headers=headers)
    assert (answer.status, log.taken) == (403, [])


async def test_unconfigured_secret_rejects_every_callback(log: Log) -> None:
    """Sends callbacks to a gateway without a secret, also with an empty header: all must be rejected."""
    client = await serve(ProviderCallbacks(settings(None), log))
    answer = await client.post(WEBHOOK_PATH, json={"id": "1", "status": "completed"}, headers={WEBHOOK_HEADER: ""})
    assert (answer.status, log.taken) == (403, [])
    await client.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"id":"","status":"completed"}', b'{"id":"1","status":"?"}', b'{"id":"a b","status":"error"}'],
)
async def test_invalid_body_is_rejected(
    body: bytes, client: TestClient[web.Request, web.Application], log: Log
) -> None:
    """Sends other bodies than the documented one: 400 and no record."""
    answer = await client.post(WEBHOOK_PATH, data=body, headers=HEADERS)
    assert (answer.status, log.taken) == (400, [])
    answer = await client.post(WEBHOOK_PATH, data=b"x" * 10_000, headers=HEADERS)
    assert answer.status == 413


async def test_unavailable_log_gives_503(client: TestClient[web.Request, web.Application], log: Log) -> None:
    """Sends a callback while the log is unavailable: 503, so that Soniox sends it again; 204 would lose it."""
    log.away = True
    answer = await client.post(WEBHOOK_PATH, json={"id": "1", "status": "completed"}, headers=HEADERS)
    assert answer.status == 503


async def test_listener_returns_early_and_late_notices_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends a notice before, during and never during a wait.

    The wait must end at once, on arrival, or after its timeout. A notice ends one wait only, and unused notices must
    not accumulate.
    """
    monkeypatch.setattr("pipelines.jobs.completion_listener._KEPT", 3)
    board = CompletionListener()
    board.notify("early")
    async with asyncio.timeout(60):
        await board.wait("early", 3600)
        waiting = asyncio.create_task(board.wait("late", 3600))
        await asyncio.sleep(0)
        await asyncio.to_thread(board.notify, "late")
        await waiting
        await board.wait("early", 0.01)
    for number in range(10):
        board.notify(str(number))
    assert list(board._early) == ["7", "8", "9"]


async def test_callback_ends_a_wait_over_a_real_log(kafka: KafkaSettings) -> None:
    """Waits for an order in another thread while the callback arrives: the wait must end long before its hour."""
    client = await serve(ProviderCallbacks(settings(kafka=kafka)))
    board = listen(kafka)
    remote_id = uuid.uuid4().hex

    async def tell() -> None:
        while True:  # the listener begins at the end of the log, whenever it is there
            answer = await client.post(WEBHOOK_PATH, json={"id": remote_id, "status": "completed"}, headers=HEADERS)
            assert answer.status == 204
            await asyncio.sleep(0.3)

    telling = asyncio.create_task(tell())
    async with asyncio.timeout(60):
        await board.wait(remote_id, 3600)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    await client.close()
    board.close()
