"""The usage page, as somebody reads it."""

import time
from datetime import UTC, datetime

from playwright.sync_api import Page, expect

from tests.api.ui.conftest import Day


def test_the_bill_and_what_others_would_have_charged(page: Page, day: Day) -> None:
    """Reads the sums, compares them with the API's, narrows them to a day, groups them by provider. If it failed, the
    page would show another bill than customers get, or flatter itself."""
    page.goto("/usage")
    figures = page.locator(".figure")
    expect(figures.first).to_contain_text("Minutes")
    usage = page.request.get("/v1/usage?group_by=day").json()
    (total,) = usage["total"]
    price = f"${float(total['price']):.2f}"
    expect(figures.nth(2)).to_contain_text(price)
    (bundled,) = usage["bundled"]
    expect(figures.nth(4)).to_contain_text(f"${float(bundled['amount']):.2f}")
    assert float(bundled["amount"]) > float(total["price"])
    comparison = page.get_by_role("region", name="What a bundled service would have charged")
    expect(comparison.first).to_contain_text("usesherlock.ai")
    expect(page.locator(".chart canvas")).to_be_visible()
    rows = page.get_by_role("region", name="By day").last.locator("tbody tr")
    expect(rows).to_have_count(len(usage["groups"]))
    expect(rows.first).to_contain_text(usage["groups"][-1]["group"])

    page.get_by_label("By", exact=True).select_option("provider")
    lines = page.get_by_role("region", name="By provider").last.locator("tbody tr")
    expect(lines).to_have_count(2)
    expect(lines.filter(has_text="soniox")).to_contain_text("$")
    # Not yesterday: after midnight that is when today's calls were.
    one_day = datetime.fromtimestamp(time.time() - 2 * 86_400, UTC).date().isoformat()
    page.get_by_role("textbox", name="From").fill(one_day)
    page.get_by_role("textbox", name="To").fill(one_day)
    expect(lines).to_have_count(1)
    assert f"from={one_day}&to={one_day}&group_by=provider" in page.url

    page.get_by_role("textbox", name="From").fill("2020-01-01")
    page.get_by_role("textbox", name="To").fill("2020-01-02")
    expect(page.get_by_text("Nothing was charged in this time.")).to_be_visible()
