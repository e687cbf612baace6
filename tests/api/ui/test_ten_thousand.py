"""The page where 10,000 calls are stored: how soon it is there, and whether it can be scrolled."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import pytest
from playwright.sync_api import Browser, Page, expect

from api.auth.api_keys import create_key
from schemas.events import AnyEvent
from sinks.clickhouse.rows import Row, event_row, ledger_row
from tests.api.ui.conftest import ADMIN_KEY, Site, Visitor, signed_in, window
from tests.support.call_documents import CallEvents, put_real_call
from tests.support.call_events import T0, Call

CALLS = 10_000
# Promised for two cores that do nothing else. At a load of 15 a first paint took 0.2 to 0.4 s and a call's page 0.7 to
# 1.0 s until its waveform and words were there; but a load of tests has no bound.
FIRST_PAINT_MS = 1_000
CALL_PAGE_MS = 1_500
_BUSY = 4

_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_LIST_THERE = "document.querySelectorAll('.row-item').length >= 50"
_CALL_THERE = (
    "document.querySelectorAll('.turn').length && document.querySelector('.abstract')"
    " && document.querySelector('.lanes > div')?.shadowRoot?.querySelector('canvas')"
)


@dataclass(frozen=True)
class Many:
    """A tenant with that many calls. real: the newest, which has audio and a transcript."""

    key: str
    real: str


@pytest.fixture(scope="module")
def many(site: Site) -> Many:
    """10,000 calls of a year ago, so that they are in nobody's way; a few went wrong."""
    tenant = f"many-{uuid.uuid4().hex[:8]}"
    rows: list[Row] = []
    for n in range(CALLS - 1):
        call = Call(f"CA{n:05}", tenant, t0=T0 + n * 60_000)
        broken: list[AnyEvent] = [call.started(), call.ended(), call.recording(), call.failed("embed")]
        events = call.complete() if n % 50 else broken
        rows += [event_row(event) for event in events]
        if n % 50:
            rows.append(ledger_row(call.usage()))
    site.put.database.insert(rows)
    real = f"CA{uuid.uuid4().hex}"
    put_real_call(site.put, CallEvents(tenant, real, T0 + CALLS * 60_000), "broadband_outage", site.words)
    return Many(create_key(site.settings, tenant, "web"), real)


def _visit(browser: Browser, site: Site, key: str, address: str, there: str) -> tuple[float, float]:
    """When the first content was painted and when all was there, ms from the start of the navigation, for somebody
    whose browser has nothing of it yet."""
    with window(browser, site) as visitor:
        signed_in(visitor, key)
        visitor.page.goto(address, wait_until="commit")
        all_there = visitor.page.wait_for_function(f"() => {there} && performance.now()").json_value()
        painted = visitor.page.wait_for_function(f"() => {_PAINTED}").json_value()
        return float(painted), float(all_there)


def test_soon_there(browser: Browser, site: Site, many: Many) -> None:
    """Visits the list, as a tenant and as one who sees all, and a call, with a browser that has nothing cached, and
    asks the browser when it painted. If it failed, a page would get slower the longer the service is used."""
    calls = [_visit(browser, site, key, "/", _LIST_THERE) for key in (many.key, ADMIN_KEY)]
    call = [_visit(browser, site, many.key, f"/calls/{many.real}", _CALL_THERE) for _ in range(2)]
    for name, visits in (("calls", calls), ("call", call)):
        print(f"{name}: first paint, all there (ms): {_rounded(visits)}")
    assert min(painted for painted, _ in calls) < FIRST_PAINT_MS * _BUSY
    assert min(there for _, there in call) < CALL_PAGE_MS * _BUSY


def _rounded(visits: Sequence[tuple[float, float]]) -> str:
    return "; ".join(f"{painted:.0f}, {there:.0f}" for painted, there in visits)


def test_thousands_of_rows(visitor: Visitor, many: Many) -> None:
    """Scrolls on and on, until thousands of calls are in the list. If it failed, the browser would lay out all of them
    for each frame, and scrolling would stutter."""
    signed_in(visitor, many.key)
    page = visitor.page
    page.goto("/")
    rows = page.locator(".row-item")
    expect(rows.nth(49)).to_be_attached()
    few = _frame_ms(page)
    while rows.count() < 2_000:
        page.keyboard.press("End")
        page.wait_for_function("had => document.querySelectorAll('.row-item').length > had", arg=rows.count())
    ids = page.evaluate("[...document.querySelectorAll('.row-item')].map((row) => row.dataset.key)")
    assert len(set(ids)) == len(ids)
    print(f"a frame of scrolling: {few:.1f} ms with few rows, {_frame_ms(page):.1f} ms with {len(ids)}")
    drawn = page.evaluate(
        "[...document.querySelectorAll('.row-item > *')]"
        ".filter((row) => row.checkVisibility({contentVisibilityAuto: true})).length"
    )
    assert 0 < drawn < 200


def _frame_ms(page: Page) -> float:
    """What a frame takes while one scrolls: the median."""
    frames: list[float] = page.evaluate(
        """async () => {
            const took = [];
            let last = await new Promise(requestAnimationFrame);
            for (let frame = 0; frame < 30; frame++) {
                scrollTo(0, (frame % 10) * 300);
                const now = await new Promise(requestAnimationFrame);
                took.push(now - last);
                last = now;
            }
            return took;
        }"""
    )
    return median(frames)
