"""One browser, one server and one day's calls for all web tests."""

import asyncio
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright
from pydantic import SecretStr

from api.app import create_app, make_context
from api.auth.api_keys import create_key
from api.embedding import QueryEmbedder
from core.settings import ApiSettings, ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings, Settings
from schemas.artifacts import Omitted
from schemas.events import UsageRecorded
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import ledger_row
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore
from tests.api.conftest import Put, WordEmbedder
from tests.support.call_documents import GAP, CallEvents, put_real_call, put_recording
from tests.support.demo_calls import CALLS, demo_call

ADMIN_KEY = "an-admin-key-for-web-tests-only"
SESSION_SECRET = "a-secret-for-web-tests-only"
_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]
_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_PATIENCE_MS = 60_000
expect.set_options(_PATIENCE_MS)


@dataclass(frozen=True)
class Day:
    """The calls of one tenant. real: complete ones with audio; failed: one that a stage gave up on; live: one that
    goes on."""

    tenant: str
    key: str
    broadband: str
    clinic: str
    failed: str
    live: str


@dataclass(frozen=True)
class Site:
    """A running server: where, and what it is made of."""

    url: str
    settings: Settings
    put: Put
    words: WordEmbedder
    openapi: dict[str, dict[str, dict[str, object]]]

    def in_the_api(self, asked: Request) -> bool:
        """Whether the API's document has what a page asked for, or it is part of the page itself."""
        path = urlsplit(asked.url).path
        if path.startswith("/ui/") or (asked.resource_type == "document" and not path.startswith("/v1/")):
            return True
        return any(
            asked.method.lower() in methods and re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), path)
            for template, methods in self.openapi["paths"].items()
        )


@pytest.fixture(scope="session")
def site(
    clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings, kafka: KafkaSettings
) -> Iterator[Site]:
    """The API's server over real stores, in a thread of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    settings = Settings(
        clickhouse=clickhouse,
        s3=s3,
        qdrant=qdrant,
        kafka=kafka,
        admin_key=SecretStr(ADMIN_KEY),
        public_url=url,  # where links lead
        api=ApiSettings(
            session_secret=SecretStr(SESSION_SECRET),
            watched={"api": url, "usage": "http://127.0.0.1:9"},  # one that is up, and one that is not
        ),
    )
    words = WordEmbedder(f"words-{uuid.uuid4().hex}")
    services = replace(make_context(settings), embedder=QueryEmbedder(lambda: words, 10))
    put = Put(Database(clickhouse), ObjectStore(s3), VectorStore(qdrant))
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(create_app(services), access_log=None, shutdown_timeout=0.5)

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, listening).start()

    thread = threading.Thread(target=loop.run_forever, name="site", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    yield Site(url, settings, put, words, json.loads(services.openapi))
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture(scope="session")
def day(site: Site) -> Day:
    """A tenant with four calls."""
    tenant = f"northwind-{uuid.uuid4().hex[:4]}"
    now = time.time_ns() // 1_000_000
    made = Day(
        tenant=tenant,
        key=create_key(site.settings, tenant, "web"),
        broadband=f"CA{uuid.uuid4().hex}",
        clinic=f"CA{uuid.uuid4().hex}",
        failed=f"CA{uuid.uuid4().hex}",
        live=f"CA{uuid.uuid4().hex}",
    )
    assert set(CALLS) == {"broadband_outage", "clinic_reschedule"}
    put, words = site.put, site.words
    broadband = CallEvents(tenant, made.broadband, now - 9 * _MINUTE_MS)
    put_real_call(put, broadband, "broadband_outage", words, gaps=[GAP])
    put_real_call(
        put,
        CallEvents(tenant, made.clinic, now - 24 * _MINUTE_MS, "+442079460018", "+14155550140"),
        "clinic_reschedule",
        words,
        omitted=[Omitted(start_ms=30_000, end_ms=34_500, channel=0, reason="echo")],
        mixed_ms=3_000,
    )
    failed = CallEvents(tenant, made.failed, now - 41 * _MINUTE_MS, "+14155550199", "+14155550187", "telnyx")
    call = demo_call("clinic_reschedule")
    put.events(
        failed.started(),
        failed.ended(call.duration_ms),
        put_recording(put, failed, call),
        failed.failed("transcribe", "the provider refused the audio: 400 unsupported language", call.duration_ms),
    )
    put.events(CallEvents(tenant, made.live, now - 2 * _MINUTE_MS, "+14155550161", "+14155550187").started())
    earlier = [_a_days_usage(tenant, days, now - days * _DAY_MS) for days in range(1, 15)]
    put.database.insert([ledger_row(event) for event in earlier])
    return made


def _a_days_usage(tenant: str, days: int, at_ms: int) -> UsageRecorded:
    """A line of the bill of some days ago: some hours, transcribed by one provider or the other."""
    minutes = 90 + 37 * days % 120
    return UsageRecorded.model_validate(
        CallEvents(tenant, f"earlier-{days}", at_ms).base("usage", at_ms)
        | {
            "key": f"transcription_{tenant}_{days}",
            "kind": "transcription",
            "units": minutes * 50,
            "duration_ms": minutes * _MINUTE_MS,
            "provider": "soniox" if days % 3 else "whisper",
            "model": "stt",
            "provider_cost": Decimal(minutes) / 60 * (Decimal("0.10") if days % 3 else Decimal("0.003")),
            "price": Decimal("0.0002") * minutes * 50,
            "currency": "USD",
            "call_started_at_ms": at_ms,
        }
    )


# Not for the session: while Playwright's driver runs, this thread has a running loop, and no asynchronous test could
# run beside it.
@pytest.fixture(scope="package")
def browser(chromium: Path) -> Iterator[Browser]:
    """Chromium."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(chromium), args=_ARGS)
        yield found
        found.close()


@dataclass
class Visitor:
    """A browser window of somebody: what its pages complained of, whom else they asked, and what the API's document
    does not know."""

    context: BrowserContext
    page: Page
    complaints: list[str]
    strangers: list[str]
    unknown: list[str]


@contextmanager
def window(browser: Browser, site: Site, *, timezone_id: str | None = None) -> Iterator[Visitor]:
    """A window of somebody who is not signed in, in the machine's time zone or another. At its end no page may have
    complained (a policy that was broken, a script that failed), have asked another host for anything, or have needed
    what is not in the public API."""
    context = browser.new_context(
        base_url=site.url, viewport={"width": 1280, "height": 860}, locale="en-GB", timezone_id=timezone_id
    )
    context.set_default_timeout(_PATIENCE_MS)
    page = context.new_page()
    visitor = Visitor(context, page, [], [], [])

    def note(asked: Request) -> None:
        if not asked.url.startswith((site.url + "/", "data:", "blob:")):
            visitor.strangers.append(asked.url)
        elif asked.url.startswith(site.url) and not site.in_the_api(asked):
            visitor.unknown.append(f"{asked.method} {asked.url}")

    context.on("console", lambda said: visitor.complaints.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: visitor.complaints.append(str(error.error)))
    context.on("request", note)
    yield visitor
    context.close()
    assert not visitor.strangers
    assert not visitor.unknown
    # A request that is refused is a line on the console, too; those who provoke one say so.
    assert not [said for said in visitor.complaints if "Failed to load resource" not in said]


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Somebody who is not signed in."""
    with window(browser, site) as visitor:
        yield visitor


@pytest.fixture
def page(visitor: Visitor, day: Day) -> Page:
    """The page of somebody who is signed in as the day's tenant."""
    signed_in(visitor, day.key)
    return visitor.page


@pytest.fixture
def operator(visitor: Visitor, day: Day) -> Page:
    """The page of somebody who is signed in with the admin key."""
    signed_in(visitor, ADMIN_KEY)
    return visitor.page


def signed_in(visitor: Visitor, key: str) -> None:
    """Has the window signed in with a key, without a page."""
    response = visitor.context.request.post("/v1/session", data={"key": key})
    assert response.status == 201
