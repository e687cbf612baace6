"""The operations page, as an operator uses it."""

from playwright.sync_api import Page, Route, expect

from schemas.events import StageFailed
from schemas.replays import outcome
from schemas.topics import Topic
from sinks.clickhouse.rows import replay_row
from tests.api.ui.conftest import Day, Site
from tests.support.call_documents import CallEvents
from tests.support.live_media import LiveCall


def _letter(site: Site, day: Day) -> StageFailed:
    """A dead letter of the day's failed call, on the log."""
    told = CallEvents(day.tenant, day.failed, 1_795_348_800_000)
    letter = told.failed("transcribe", "the provider refused the audio: <b>400</b>", 60_000)
    LiveCall(site.settings.kafka, told).tell(Topic.DEAD_LETTERS, letter)
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
    expect(operator.get_by_role("status").filter(has_text="Replayed: transcribe tries again")).to_be_visible()
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


def test_versions_of_a_replay(operator: Page, site: Site, day: Day) -> None:
    """A replay is through, and had its results before. The page says so, and switches all its calls to its versions or
    back with a click. If it failed, a bad replay could be undone only in a shell."""
    session = operator.request.get("/v1/session").json()
    asked = {"stage": "summary", "calls": [day.broadband], "keep_current": True}
    started = operator.request.post("/v1/replays", data=asked, headers={"X-CSRF-Token": session["csrf_token"]})
    assert started.status == 202, started.text()
    done = outcome(started.json()["id"], day.tenant, day.broadband, 1, 1_795_348_800_000, outcome="done", reused=True)
    site.put.database.insert([replay_row(done)])
    operator.goto("/operations")
    replay = operator.locator(".letter").filter(has_text="From summary").first
    expect(replay).to_contain_text("1 had every result before, current versions kept")
    for button in ("Use its versions", "Switch back"):
        with operator.expect_response("**/v1/versions/use") as answered:
            replay.get_by_role("button", name=button).click()
        assert answered.value.status == 202
        expect(operator.get_by_role("status").filter(has_text="0 of 1 call switched").last).to_be_visible()


def test_requests_that_fail(operator: Page) -> None:
    """The API says that a stage's requests fail. The page shows service and provider as failing, with the last error,
    and nothing as healthy. If it failed, everything would look green while no call is transcribed."""

    def failing(route: Route) -> None:
        body = route.fetch().json()
        service = body["services"][0] | {"name": "transcriber", "state": "failing", "failures_in_a_row": 4}
        provider = body["providers"][0] | {"state": "failing", "reason": "401 Incorrect API key"}
        route.fulfill(json=body | {"services": [service], "providers": [provider]})

    operator.route("**/v1/operations", failing)
    operator.goto("/operations")
    expect(operator.locator(".services tbody tr")).to_contain_text("failing, 4 in a row")
    provider = operator.locator(".facts-list li").filter(has_text="transcriber")
    expect(provider).to_contain_text("failing")
    expect(provider).to_contain_text("401 Incorrect API key")
    expect(operator.locator(".facts-list li").filter(has_text="Log")).to_contain_text("answers")
    expect(operator.get_by_text("healthy")).to_have_count(0)


def test_not_for_customers(page: Page) -> None:
    """Goes there with a tenant's key. If it failed, customers would see each other's letters."""
    page.goto("/operations")
    expect(page.get_by_text("This page needs a key that sees every tenant.")).to_be_visible()
    expect(page.get_by_role("navigation").get_by_role("link", name="Operations")).to_have_count(0)
