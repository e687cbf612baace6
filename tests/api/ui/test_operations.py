"""The operations page, as an operator uses it."""

from playwright.sync_api import Page, expect

from schemas.events import StageFailed
from schemas.topics import Topic
from tests.api.ui.conftest import Day, Site
from tests.api.ui.made import Told
from tests.api.ui.talking import Line


def _letter(site: Site, day: Day) -> StageFailed:
    """A dead letter of the day's failed call, on the log."""
    told = Told(day.tenant, day.failed, 1_795_348_800_000)
    letter = told.failed("transcribe", "the provider refused the audio: <b>400</b>", 60_000)
    Line(site.settings.kafka, told).tell(Topic.DEAD_LETTERS, letter)
    return letter


def test_seeing_what_is_wrong_and_giving_it_back(operator: Page, site: Site, day: Day) -> None:
    """Looks at services and stores, reads a dead letter and gives it back. If it failed, an operator would have to go
    to a shell at 3 a.m., or click and not know whether it helped."""
    letter = _letter(site, day)
    operator.goto("/operations")
    services = operator.locator(".services tbody tr")
    expect(services.filter(has_text="api")).to_contain_text("up")
    expect(services.filter(has_text="usage")).to_contain_text("down")
    expect(operator.locator(".facts-list li").filter(has_text="ClickHouse")).to_contain_text("answers")
    expect(operator.locator(".facts-list li").filter(has_text="whisper")).to_be_visible()
    row = operator.locator(f"[data-letter='{letter.event_id}']")
    expect(row).to_contain_text("the provider refused the audio: <b>400</b>")
    row.get_by_role("button", name="Replay").click()
    expect(operator.get_by_role("status").filter(has_text="Given back to transcribe")).to_be_visible()
    expect(row).to_have_count(0)
    letters = operator.request.get("/v1/dead-letters?all=true").json()["letters"]
    (given,) = [one for one in letters if one["id"] == letter.event_id]
    assert given["replayed_at_ms"] is not None


def test_replays_with_their_progress(operator: Page, day: Day) -> None:
    """Starts a replay by the API, sees how far it is, stops it. If it failed, somebody who started a large one by
    mistake could not end it from here."""
    session = operator.request.get("/v1/session").json()
    asked = {"stage": "recording", "calls": [day.broadband, day.clinic]}
    token = {"X-CSRF-Token": session["csrf_token"]}
    started = operator.request.post("/v1/replays", data=asked, headers=token)
    assert started.status == 202, started.text()
    operator.goto("/operations")
    replay = operator.locator(".letter").filter(has_text="From recording").first
    expect(replay.get_by_role("progressbar")).to_have_attribute("aria-label", "0 of 2 parts")
    replay.get_by_role("button", name="Stop").click()
    expect(replay.get_by_role("button", name="Resume")).to_be_visible()


def test_not_for_customers(page: Page) -> None:
    """Goes there with a tenant's key. If it failed, customers would see each other's letters."""
    page.goto("/operations")
    expect(page.get_by_text("Only a key that sees every tenant shows this page.")).to_be_visible()
    expect(page.get_by_role("navigation").get_by_role("link", name="Operations")).to_have_count(0)
