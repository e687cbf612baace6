"""The list of calls, as somebody uses it."""

import json
import re
import time
import uuid
from collections.abc import Callable
from importlib import resources

from playwright.sync_api import Locator, Page, expect

from api.auth.api_keys import create_key
from gateway.carriers import carrier_names
from schemas.topics import Topic
from tests.api.ui.conftest import ADMIN_KEY, Day, Site, Visitor, signed_in
from tests.support.call_documents import GAP, CallEvents, put_recording
from tests.support.demo_calls import demo_call
from tests.support.live_media import LiveCall

# How many points of a meter are painted: more of them the louder it is.
_PAINTED = """canvas => {
    if (!canvas.width) return 0;
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let painted = 0;
    for (let at = 3; at < data.length; at += 4) painted += data[at] > 0;
    return painted;
}"""


def _rows(page: Page, name: str) -> Locator:
    return page.get_by_role("list", name=name).get_by_role("listitem")


def test_a_call_comes_goes_on_and_ends(visitor: Visitor, site: Site) -> None:
    """Looks at the page while a call comes in, is talked on, and ends: nothing is reloaded. If it failed, one would not
    see who is on the line, or that nobody is heard."""
    now = time.time_ns() // 1_000_000
    tenant = f"tenant-{uuid.uuid4().hex[:8]}"
    told, older = (CallEvents(tenant, f"CA{uuid.uuid4().hex}", now - ago) for ago in (5_000, 3_600_000))
    line = LiveCall(site.settings.kafka, told)
    call = demo_call("broadband_outage")
    site.put.events(older.started(), older.failed("transcribe", "no", 0))
    signed_in(visitor, create_key(site.settings, tenant, "web"))
    page = visitor.page
    page.goto("/")
    expect(page.get_by_text("No live calls.")).to_be_visible()
    expect(_rows(page, "Finished calls")).to_have_count(1)
    page.evaluate("window.sameDocument = true")

    site.put.events(told.started())
    row = _rows(page, "Live calls").filter(has_text=told.call_id)
    meter = row.locator("canvas")
    _until(page, lambda: line.tell(Topic.CALL_EVENTS, told.started()), lambda: row.count() == 1)
    expect(page.get_by_role("heading", name="Live 1")).to_be_visible()
    expect(row).to_contain_text(re.compile(r"\+14155550132.*\+14155550187"))
    expect(row.get_by_label("Elapsed")).to_have_text(re.compile(r"^0:\d\d$"))
    page.wait_for_function("canvas => canvas.width > 0", arg=meter.element_handle())
    silent = meter.evaluate(_PAINTED)
    _until(page, line.say, lambda: meter.evaluate(_PAINTED) > 2 * silent)

    recorded = put_recording(site.put, told, call, [GAP])
    site.put.events(told.ended(call.duration_ms), recorded)
    line.tell(Topic.RECORDING_READY, recorded)
    done = _rows(page, "Finished calls").filter(has_text=told.call_id)
    expect(done).to_contain_text("Recorded")
    expect(done).to_contain_text("2.5 s missing")
    expect(row).to_have_count(0)
    # On top: it began last.
    expect(_rows(page, "Finished calls").first).to_contain_text(told.call_id)
    assert page.evaluate("window.sameDocument")


def test_an_operator_opens_the_call_of_the_right_tenant(visitor: Visitor, site: Site) -> None:
    """Gives two tenants a call with the same id, opens each from the operator's list, and reads its address, tenant and
    events. A failure means that a link of the list opens another tenant's call, or an error."""
    now = time.time_ns() // 1_000_000
    call_id = f"CA{uuid.uuid4().hex}"
    tenants = [f"tenant-{name}-{uuid.uuid4().hex[:6]}" for name in ("a", "b")]
    for number, tenant in enumerate(tenants):
        told = CallEvents(tenant, call_id, now - (number + 1) * 60_000)
        site.put.events(told.started(), told.failed("transcribe", f"reason of {tenant}", 0))
    signed_in(visitor, ADMIN_KEY)
    page = visitor.page
    for tenant in tenants:
        page.goto(f"/?q={call_id}")
        _rows(page, "Finished calls").filter(has_text=tenant).get_by_role("link").click()
        expect(page).to_have_url(re.compile(rf"/calls/{call_id}\?tenant={tenant}$"))
        expect(page.get_by_role("alert")).to_contain_text(f"reason of {tenant}")
        page.get_by_text("All events").click()
        expect(page.locator(".all-events")).to_contain_text("stream", ignore_case=True)


def _until(page: Page, do: Callable[[], object], true: Callable[[], bool]) -> None:
    """Does it again and again until it has an effect: the page listens to what is new from some moment on only."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        do()
        page.wait_for_timeout(200)


def test_finding_a_call(page: Page, day: Day) -> None:
    """Filters by status, by day and by a piece of a number, and reads what went wrong. If it failed, a call somebody
    complains of would not be found, or would look as if all were well."""
    page.goto("/")
    rows = _rows(page, "Finished calls")
    failed, gaps = rows.filter(has_text=day.failed), rows.filter(has_text=day.broadband)
    expect(failed).to_contain_text("Failed: transcription")
    expect(failed.get_by_title("the provider refused the audio")).to_be_visible()
    expect(gaps).to_contain_text("2.5 s missing")
    expect(gaps).to_contain_text("Complete")

    page.get_by_label("Status").select_option("Failed")
    expect(rows).to_have_count(1)
    expect(failed).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?status=failed$"))
    page.reload()
    expect(rows).to_have_count(1)
    page.get_by_label("Status").select_option("All")
    expect(gaps).to_be_visible()
    page.get_by_label("Number or call id").fill("0018")
    expect(failed).to_have_count(0)
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(day.clinic)
    page.get_by_label("Number or call id").fill("nobody")
    expect(page.get_by_text("No call matches this filter.")).to_be_visible()
    page.get_by_label("Number or call id").fill("")
    expect(failed).to_be_visible()
    page.get_by_label("To", exact=True).fill("2020-01-01")
    expect(page.get_by_text("No call matches this filter.")).to_be_visible()
    page.get_by_label("To", exact=True).fill("")
    page.get_by_label("From", exact=True).fill("2020-01-01")
    expect(failed).to_be_visible()


def test_more_filters(operator: Page, day: Day) -> None:
    """Filters calls by words, carrier, tenant and length: the address keeps the filters, over a reload and over a visit
    to a call and back. The same filters narrow search and usage. If this fails, an operator cannot find a customer's
    call, or cannot send a colleague what is on the screen."""
    page = operator
    page.goto(f"/?tenant={day.tenant}")
    rows = _rows(page, "Finished calls")
    expect(rows).to_have_count(3)
    expect(page.get_by_label("Tenant")).to_have_value(day.tenant)
    page.get_by_label("Carrier").select_option("telnyx")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(day.failed)
    page.get_by_label("Carrier").select_option("All")
    expect(rows).to_have_count(3)
    page.get_by_label("Words said").fill("cabinet street")
    expect(rows).to_have_count(1)
    page.get_by_label("At most (s)").fill("5")
    page.get_by_label("At most (s)").press("Enter")
    expect(page.get_by_text("No call matches this filter.")).to_be_visible()
    page.get_by_label("At most (s)").fill("500")
    page.get_by_label("At most (s)").press("Enter")
    expect(rows).to_contain_text(day.broadband)
    address = f"/?text=cabinet+street&tenant={day.tenant}&max_duration_s=500"
    expect(page).to_have_url(re.compile(re.escape(address) + "$"))
    page.reload()
    expect(rows).to_have_count(1)
    rows.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Transcript")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Words said")).to_have_value("cabinet street")
    expect(rows).to_have_count(1)
    page.get_by_label("Number or call id").press("Escape")
    page.get_by_role("button", name="Clear").click()
    expect(page).to_have_url(re.compile(r"/$"))

    page.goto(f"/search?q=engineer&tenant={day.tenant}&number=99999")
    expect(page.get_by_text("No matching turns in calls that pass the filters.")).to_be_visible()
    page.get_by_label("Number").fill("415 555 0132")
    page.get_by_label("Number").press("Enter")
    expect(page.get_by_role("link", name=day.broadband)).to_be_visible()
    expect(page).to_have_url(re.compile(r"number=415\+555\+0132"))
    page.goto(f"/usage?tenant={day.tenant}&carrier=telnyx")
    expect(page.get_by_text("Nothing was charged for calls in this period that pass the filters.")).to_be_visible()
    page.get_by_label("Carrier").select_option("twilio")
    expect(page.get_by_role("heading", name="By day")).to_be_visible()


def test_the_filter_knows_every_carrier() -> None:
    """Reads the carriers in the filter of the page. If this fails, calls of a new carrier cannot be filtered."""
    text = (resources.files("api") / "ui" / "filters.js").read_text()
    listed = re.search(r"CARRIERS = (\[.*?\])", text)
    assert listed
    assert json.loads(listed[1]) == carrier_names()


def test_by_keyboard(page: Page, day: Day) -> None:
    """Searches, moves and opens without a mouse, and comes back. If it failed, those who cannot use one, or would
    rather not, would be shut out."""
    page.goto("/")
    rows = _rows(page, "Finished calls")
    expect(rows.filter(has_text=day.failed)).to_be_visible()
    page.keyboard.press("/")
    search = page.get_by_label("Number or call id")
    expect(search).to_be_focused()
    page.keyboard.type("+1415555018")
    expect(rows.filter(has_text=day.clinic)).to_have_count(0)
    page.keyboard.press("Escape")
    expect(search).not_to_be_focused()
    for key in "jjjk":
        page.keyboard.press(key)
    links = page.locator("main").get_by_role("listitem").get_by_role("link")
    expect(links.nth(1)).to_be_focused()
    target = str(links.nth(1).get_attribute("href"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(re.escape(target) + "$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("+1")
    page.go_back()
    expect(search).to_have_value("+1415555018")


def test_the_filter_says_what_the_column_says(page: Page, day: Day) -> None:
    """Reads the names of statuses in the filter and those that the rows show. If this fails, somebody who reads
    "Recorded" in a row looks for it in the filter in vain."""
    page.goto("/")
    expect(_rows(page, "Finished calls").first).to_be_visible()
    options = page.get_by_label("Status").locator("option").all_inner_texts()
    assert options == ["All", "Recorded", "Transcribed", "Summarized", "Complete", "Failed"]
    shown = {text.partition(":")[0] for text in page.locator(".row-item .steps-text").all_inner_texts()}
    assert shown <= set(options)


def test_an_unknown_page(visitor: Visitor, day: Day) -> None:
    """Opens an address that there is not, without a key and with one: the page says so, with status 404, and leads to
    the calls. If this fails, one reads JSON, or sees the list of calls at a wrong address."""
    answer = visitor.page.goto("/calls/of/yesterday")
    assert answer
    assert answer.status == 404
    expect(visitor.page.get_by_role("heading", name="There is no such page")).to_be_visible()
    signed_in(visitor, day.key)
    visitor.page.goto("/statistics")
    expect(visitor.page.get_by_text("The page /statistics does not exist.")).to_be_visible()
    visitor.page.get_by_role("link", name="All calls").click()
    expect(_rows(visitor.page, "Finished calls").first).to_be_visible()


def test_without_a_server(page: Page, visitor: Visitor, day: Day) -> None:
    """Goes to another page while nobody answers: a sentence for people. Once the server is there again, the button
    helps. If this fails, one reads what a browser says of modules."""
    page.goto("/")
    expect(_rows(page, "Finished calls").first).to_be_visible()
    visitor.context.set_offline(True)
    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    expect(page.get_by_role("alert")).not_to_contain_text("module")
    visitor.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Usage")).to_be_visible()


def test_ids_are_whole_in_a_narrow_window(page: Page, day: Day) -> None:
    """Looks at the list in windows of 660 and 390 pixels: call ids are wrapped, not cut. If this fails, one cannot read
    the id that one wants to search for."""
    page.goto("/")
    for width in (660, 390):
        page.set_viewport_size({"width": width, "height": 800})
        ids = page.locator(".row-item .call-id")
        expect(ids.first).to_be_visible()
        cut = "elements => elements.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
        assert ids.evaluate_all(cut) == []


def test_live_calls_beyond_those_shown(page: Page, visitor: Visitor, day: Day) -> None:
    """Has the page told of 103 live calls: 100 are shown, and the page says that there are 3 others; the count has all.
    One of the others ends. If this fails, calls are left out without a word."""
    events = [
        {
            "id": f"CA{number}", "tenant": day.tenant, "carrier": "twilio", "status": "live", "failed_stage": None,
            "failed_reason": None, "started_at_ms": 1_795_348_800_000, "ended_at_ms": None, "duration_ms": 0,
            "gap_ms": 0, "from_number": "", "to_number": "",
        }
        for number in range(103)
    ]  # fmt: skip
    events.append(events[-1] | {"status": "recorded", "ended_at_ms": 1_795_348_860_000})
    body = "".join(f"event: call\ndata: {json.dumps(event)}\n\n" for event in events)
    visitor.context.route(
        "**/v1/live", lambda route: route.fulfill(content_type="text/event-stream", body=f"retry: 600000\n\n{body}")
    )
    page.goto("/")
    expect(page.get_by_text("2 other calls are live and not shown here.")).to_be_visible()
    expect(page.get_by_role("heading", name="Live 102")).to_be_visible()
    expect(_rows(page, "Live calls")).to_have_count(100)
