"""Days on the web page are the viewer's, wherever that is; the API's are UTC."""

import uuid
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from api.auth.api_keys import create_key
from schemas.events import UsageRecorded
from sinks.clickhouse.rows import ledger_row
from tests.api.ui.conftest import Site, Visitor, signed_in, window
from tests.support.call_documents import CallEvents

_TOKYO = ZoneInfo("Asia/Tokyo")


def at(text: str) -> int:
    """A time in Tokyo, as ms since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=_TOKYO).timestamp() * 1000)


# In UTC the first two are on 29 November, the others on the 30th.
_CALLS = {
    "CA-29-late": at("2025-11-29 23:30"),
    "CA-30-early": at("2025-11-30 08:30"),
    "CA-30-late": at("2025-11-30 23:30"),
    "CA-01-early": at("2025-12-01 00:30"),
}


@pytest.fixture
def tokyo(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Somebody in Tokyo, signed in as a tenant with four calls around midnight there, each on the bill."""
    tenant = f"tokyo-{uuid.uuid4().hex[:8]}"
    for call_id, started in _CALLS.items():
        told = CallEvents(tenant, call_id, started, "+81355500123", "+14155550187")
        site.put.events(told.started(), told.failed("transcribe", "no", 0))
        line = told.base("usage", started) | {
            "key": f"transcription_{tenant}_{call_id}",
            "kind": "transcription",
            "units": 50,
            "duration_ms": 60_000,
            "provider": "whisper",
            "model": "base",
            "provider_cost": Decimal("0.001"),
            "price": Decimal("0.01"),
            "currency": "USD",
            "call_started_at_ms": started,
        }
        site.put.database.insert([ledger_row(UsageRecorded.model_validate(line))])
    with window(browser, site, timezone_id="Asia/Tokyo") as visitor:
        signed_in(visitor, create_key(site.settings, tenant, "web"))
        yield visitor


def rows(page: Page) -> Locator:
    """The finished calls."""
    return page.get_by_role("list", name="Finished calls").get_by_role("listitem")


def test_the_list_filters_the_days_it_shows(tokyo: Visitor) -> None:
    """Filters 30 November in Tokyo: the two calls that stand under that day are found, and no other; the page names the
    zone. With UTC days the late one would be missing, and one of the 29th would be there."""
    page = tokyo.page
    page.goto("/")
    expect(rows(page)).to_have_count(4)
    expect(page.get_by_text("Asia/Tokyo")).to_be_visible()
    page.get_by_label("From", exact=True).fill("2025-11-30")
    page.get_by_label("To", exact=True).fill("2025-11-30")
    expect(rows(page)).to_have_count(2)
    times = rows(page).locator("time")
    assert [text.split(", ")[-1] for text in times.all_inner_texts()] == ["23:30", "08:30"]
    assert all("30 Nov" in text for text in times.all_inner_texts())
    assert "since=2025-11-30&until=2025-11-30" in page.url
    page.reload()
    expect(rows(page)).to_have_count(2)


def test_the_bill_counts_the_days_that_are_chosen(tokyo: Visitor) -> None:
    """Reads the bill of those days by day: first in the viewer's zone, then in UTC. The figures differ, and the page
    says which days they are."""
    page = tokyo.page
    page.goto("/usage?from=2025-11-29&to=2025-12-01")
    zone = page.get_by_label("Days in")
    expect(zone).to_have_value("Asia/Tokyo")
    lines = page.get_by_role("region", name="By day").last.locator("tbody tr")
    expect(lines).to_have_count(3)
    assert [line.split()[:2] for line in lines.all_inner_texts()] == [
        ["2025-12-01", "1"],
        ["2025-11-30", "2"],
        ["2025-11-29", "1"],
    ]
    zone.select_option("UTC")
    expect(lines).to_have_count(2)
    assert [line.split()[:2] for line in lines.all_inner_texts()] == [["2025-11-30", "2"], ["2025-11-29", "2"]]
    assert "time_zone=UTC" in page.url


def test_the_bills_dates_begin_as_the_viewers(tokyo: Visitor) -> None:
    """Opens the bill without dates, at 8 in the morning in Tokyo, when it is still the day before in UTC: it ends with
    the viewer's today."""
    page = tokyo.page
    page.clock.set_fixed_time(at("2025-11-30 08:00") / 1000)
    page.goto("/usage")
    expect(page.get_by_label("To", exact=True)).to_have_value("2025-11-30")
    expect(page.get_by_label("From", exact=True)).to_have_value("2025-11-01")


def test_a_number_is_found_in_any_spelling(tokyo: Visitor) -> None:
    """Looks for a number as somebody would write it on paper: the calls with it are there."""
    page = tokyo.page
    page.goto("/")
    search = page.get_by_label("Number or call id")
    for spelling, count in (("+1 (415) 555-0187", 4), ("03-5550-0123", 4), ("0014155550188", 0)):
        search.fill(spelling)
        expect(rows(page)).to_have_count(count)
