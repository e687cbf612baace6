"""The search page, as somebody uses it."""

from playwright.sync_api import Page, expect

from tests.api.ui.conftest import Day
from tests.support.demo_calls import demo_call

_WATCH = """
    window.players = [];
    window.Audio = class extends window.Audio { constructor(...all) { super(...all); window.players.push(this); } };
"""


def test_a_hit_plays_at_its_place(page: Page, day: Day) -> None:
    """Searches for what was said, hears the best hit where it was said until the turn is over, and opens the call
    there. If it failed, a hit would be a riddle: somewhere in that call."""
    turn = next(turn for turn in demo_call("broadband_outage").turns if "cancellation list" in turn.text)
    page.add_init_script(_WATCH)
    page.goto("/search")
    page.get_by_role("searchbox", name="Search by meaning").fill(turn.text)
    page.keyboard.press("Enter")
    hit = page.locator(".hit").first
    expect(hit).to_contain_text("cancellation list")
    hit.get_by_role("button", name="Play outbound at 1:07").click()
    page.wait_for_function(f"() => window.players.at(-1).currentTime > {turn.start + 0.2}")
    assert page.evaluate("window.players.at(-1).currentTime") < turn.end
    hit.get_by_role("button", name="Pause").click()
    page.wait_for_function("() => window.players.at(-1).paused")

    page.evaluate(f"window.players.at(-1).currentTime = {turn.end - 0.1}")
    hit.get_by_role("button", name="Play outbound at 1:07").click()
    page.evaluate(f"window.players.at(-1).currentTime = {turn.end - 0.2}")
    page.wait_for_function("() => window.players.at(-1).paused")  # at the end of the turn, by itself

    hit.get_by_role("link", name="Open the call here").click()
    expect(page.locator(".turn[aria-current]")).to_contain_text("cancellation list")
    expect(page.locator(".now")).to_have_text("1:07")
    assert f"/calls/{day.broadband}?part=1&t=" in page.url


def test_before_a_search(page: Page) -> None:
    """Comes without a question. If it failed, an empty page would look like a broken one, or one would have to click
    first."""
    page.goto("/search")
    expect(page.get_by_text("Search works by meaning")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_hits_are_grouped_and_marked(page: Page, day: Day) -> None:
    """Searches for words that are said in two calls: each call's hits are in one group with the call's id, the words
    are marked, and the score is that of the API. If this fails, one cannot see which hits are one conversation, or why
    they are hits."""
    page.goto("/search?q=GRACE+appointment")
    groups = page.locator(".hit-group")
    expect(groups.first).to_be_visible()
    found = page.request.get("/v1/search?q=GRACE+appointment&limit=30&group_by=call").json()["results"]
    calls = list(dict.fromkeys(hit["call_id"] for hit in found))
    assert len(calls) == 2
    expect(groups).to_have_count(2)
    for group, call_id in zip(groups.all(), calls, strict=True):
        expect(group.locator(".hit-call")).to_contain_text(call_id)
        expect(group.locator(".hit")).to_have_count(sum(hit["call_id"] == call_id for hit in found))
    expect(page.locator(".hit").first.locator(".score")).to_contain_text(f"{found[0]['score']:.2f}")
    marks = page.locator(".hit mark").all_inner_texts()
    assert {mark.lower() for mark in marks} == {"grace", "appointment"}
    texts = page.locator(".hit-text").all_inner_texts()
    assert texts == [hit["text"] for hit in found]  # marking changes no letter
    assert day.broadband in calls
