"""The usage page, as somebody reads it."""

import re
import time
from datetime import UTC, datetime, timedelta

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
    expect(figures.nth(1)).to_contain_text(price)
    for name in ("Cost", "Margin"):  # only operators see them
        expect(figures.get_by_text(name, exact=True)).to_have_count(0)
        expect(page.get_by_role("columnheader", name=name)).to_have_count(0)
    (bundled,) = usage["bundled"]
    expect(figures.nth(2)).to_contain_text(f"${float(bundled['amount']):.2f}")
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
    expect(page.get_by_text("Nothing was charged in this period.")).to_be_visible()


def test_the_chart_covers_the_chosen_days(page: Page, day: Day) -> None:
    """Chooses ranges of one, ten, 41 and 401 days, not all with a bill, and reads the labels below the chart's bars.

    All labels are chosen days; the first is the first day, and the last is near the last. If this fails, the chart
    shows days that were not asked for, or leaves out some that were.
    """
    page.add_init_script("""
        window.labels = [];
        const draw = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
            window.labels.push(text);
            return draw.call(this, text, ...rest);
        };
    """)
    today = datetime.fromtimestamp(time.time(), UTC).date()
    for first, last in ((13, 4), (40, 0), (5, 5), (400, 0)):
        begin, end = today - timedelta(days=first), today - timedelta(days=last)
        page.goto(f"/usage?from={begin}&to={end}")
        expect(page.locator(".chart canvas")).to_be_visible()
        page.wait_for_function("() => window.labels.length > 0")
        chosen = [begin + timedelta(days=number) for number in range((end - begin).days + 1)]
        names = {f"{one.day} {one:%b}".replace("Sep", "Sept"): one for one in chosen}
        drawn = dict.fromkeys(page.evaluate("window.labels"))  # each time that the chart is drawn
        labels = [text for text in drawn if re.fullmatch(r"\d+ [A-Z][a-z]+", text)]
        assert labels
        assert set(labels) <= set(names)
        if first - last < 365:
            assert names[labels[0]] == begin
            step = names[labels[1]] - names[labels[0]] if len(labels) > 1 else timedelta(days=1)
            assert end - names[labels[-1]] < step


def test_costs_are_for_operators(operator: Page) -> None:
    """Reads the usage page with the admin key: cost and margin are there, as figures and as columns. If it failed, the
    operator would not know what the calls earn."""
    operator.goto("/usage")
    (total, *_) = operator.request.get("/v1/usage?group_by=day").json()["total"]
    assert {"provider_cost", "margin"} <= set(total)
    figures = operator.locator(".figure")
    expect(figures.filter(has_text="Cost").first).to_contain_text("what providers charge")
    expect(figures.filter(has_text="Margin").first).to_be_visible()
    for column in ("Cost", "Margin"):
        expect(operator.get_by_role("columnheader", name=column)).to_be_visible()
