"""One call's page, as somebody uses it."""

import itertools
import json
import re
import time
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from api.auth.api_keys import create_key
from api.auth.key_authenticator import token_hash
from core.token_signer import TokenSigner
from schemas.artifacts import Segment, Transcript, transcript_key
from schemas.events import Gap, TranscriptReady
from tests.api.ui.conftest import SESSION_SECRET, Day, Site, Visitor, signed_in, window
from tests.support.call_documents import CallEvents, put_real_call, put_recording
from tests.support.demo_calls import demo_call

# What plays is not in the document: the page's script alone has it.
_LISTEN = """
    window.players = [];
    window.Audio = class extends window.Audio { constructor(...all) { super(...all); window.players.push(this); } };
"""
_NOW = "window.players.at(-1).currentTime"
# Columns of a lane of the waveform that show more than silence, as fractions of its width. Lane 0 is the caller's.
_LOUD = """([wave, lane]) => {
    const canvas = wave.shadowRoot.querySelectorAll(".canvases canvas")[lane];
    const {width, height} = canvas;
    const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
    const found = [];
    for (let x = 0; x < width; x++) {
        let painted = 0;
        for (let y = 0; y < height; y++) painted += data[4 * (y * width + x) + 3] > 100;
        if (painted > height / 10) found.push(x / width);
    }
    return found;
}"""


@pytest.fixture
def call(visitor: Visitor, day: Day) -> Page:
    """A complete call's page, all there."""
    signed_in(visitor, day.key)
    visitor.page.add_init_script(_LISTEN)
    visitor.page.goto(f"/calls/{day.broadband}")
    expect(_word(visitor.page, "Northwind")).to_be_visible()
    return visitor.page


def _word(page: Page, text: str) -> Locator:
    return page.locator(".w").get_by_text(text, exact=True).first


def test_hearing_it(call: Page) -> None:
    """Looks at the waveform, plays, makes it faster, clicks a word and the waveform, and moves by keyboard. If it
    failed, one would hear something else than one reads."""
    slider = call.get_by_role("slider", name="Position in the recording")
    call.wait_for_function("() => document.querySelector('.lanes > div')?.shadowRoot.querySelector('canvas')")
    wave = call.locator(".lanes > div").element_handle()
    turns, length = demo_call("broadband_outage").turns, demo_call("broadband_outage").duration_ms / 1000
    for lane in (0, 1):
        spoken = [(turn.start / length, turn.end / length) for turn in turns if turn.channel == lane]
        loud = call.evaluate(_LOUD, [wave, lane])
        assert len(loud) > 50
        inside = [x for x in loud if any(start - 0.01 <= x <= end + 0.01 for start, end in spoken)]
        assert len(inside) > 0.97 * len(loud)
    gap = call.locator(".gap")
    expect(gap).to_have_count(1)
    expect(gap).to_have_attribute("title", "inbound: 2.5 s missing")
    expect(gap).to_have_class(re.compile(r"\bwide\b"))
    at, lanes = gap.bounding_box(), slider.bounding_box()
    assert at
    assert lanes
    assert (at["x"] - lanes["x"]) / lanes["width"] == pytest.approx(20 / length, abs=0.005)
    assert at["width"] / lanes["width"] == pytest.approx(2.5 / length, abs=0.005)

    call.get_by_role("button", name="Play", exact=True).click()
    call.wait_for_function(f"() => {_NOW} > 0.6")
    expect(call.locator(".w.on")).to_have_count(1)
    expect(call.get_by_role("button", name="Pause")).to_be_visible()
    call.get_by_label("Speed").select_option(value="2")
    assert _speed(call) > 1.5

    word = _word(call, "flashing")
    word.click()
    start = int(str(word.get_attribute("data-ms"))) / 1000
    call.wait_for_function(f"() => {_NOW} >= {start} && {_NOW} < {start + 10}")
    expect(word).to_have_class(re.compile(r"\bon\b"))
    expect(word).not_to_have_class(re.compile(r"\bon\b"))  # it is played on
    expect(call.locator(".turn[aria-current]")).to_contain_text("flashing")

    slider.click(position={"x": lanes["width"] * 0.75, "y": 30})
    call.wait_for_function(f"() => Math.abs({_NOW} - {0.75 * length}) < 5")
    call.keyboard.press("Home")
    call.wait_for_function(f"() => {_NOW} < 5")
    call.get_by_role("button", name="Play from 1:17").focus()
    call.keyboard.press("Enter")
    call.wait_for_function(f"() => {_NOW} > 76 && {_NOW} < 87")
    call.get_by_role("button", name="Pause").click()
    call.wait_for_function("() => window.players.at(-1).paused")
    call.get_by_text("Show the gap of inbound").click()
    call.get_by_role("button", name=re.compile(r"0:20\.00, 2\.5 s, inbound: missing")).click()
    call.wait_for_function(f"() => {_NOW} >= 19 && {_NOW} < 30")


def _speed(page: Page) -> float:
    """Seconds heard in a second."""
    return float(
        page.evaluate(
            f"""async () => {{
                const [from, at] = [{_NOW}, performance.now()];
                while (performance.now() < at + 800) await new Promise(requestAnimationFrame);
                return ({_NOW} - from) / (performance.now() - at) * 1000;
            }}"""
        )
    )


def test_reading_it(call: Page, day: Day, tmp_path: Path) -> None:
    """Reads all there is to read, and takes every file. If it failed, something that was made of the call would be out
    of reach, or wrong."""
    about = call.get_by_role("complementary", name="About this call")
    said = demo_call("broadband_outage").turns
    turns = call.locator(".turn")
    expect(turns).to_have_count(len(said))
    assert [turn.strip() for turn in turns.locator(".said").all_inner_texts()] == [one.text for one in said]
    assert turns.locator(".speaker").all_inner_texts() == [("Inbound", "Outbound")[one.channel] for one in said]
    for title in ("Summary", "Key points", "Action items", "Tracks", "Timeline", "Ledger"):
        expect(about.get_by_role("heading", name=title)).to_be_visible()
    expect(about).to_contain_text("The test shows a fault at the street cabinet")
    expect(about.locator(".timeline li")).to_have_text(
        [re.compile(name) for name in ("Call began", "Hung up", "Recorded", "Transcribed", "Summarized", "Searchable")]
    )
    expect(about.get_by_role("row", name="transcription")).to_contain_text("81")
    charged = re.compile(r"whisper base, \d+ [A-Z][a-z]+ \d{4}, \d\d:\d\d")
    expect(about.get_by_role("row", name="transcription")).to_contain_text(charged)
    expect(about.get_by_role("row", name="inbound")).to_contain_text("2.5 s missing (2.5 %), 1 gap")
    expect(call.get_by_text("English", exact=True)).to_be_visible()
    call.get_by_text("All events").click()
    expect(about.get_by_text("Transcribed by whisper base")).to_be_visible()
    expect(about.get_by_text("Charged: 81 units of transcription")).to_be_visible()

    files = {}
    for kind in ("WAV", "TXT", "SRT", "VTT", "JSON"):
        call.get_by_text("Download", exact=True).click()
        with call.expect_download() as download:
            call.get_by_role("link", name=kind, exact=True).click()
        assert download.value.suggested_filename == f"{day.broadband}.{kind.lower()}"
        download.value.save_as(tmp_path / kind)
        files[kind] = (tmp_path / kind).read_bytes()
    assert files["WAV"][:4] == b"RIFF"
    assert len(files["WAV"]) > demo_call("broadband_outage").duration_ms * 8 * 4
    assert files["TXT"].decode().count("\n") >= len(said) - 1
    assert files["SRT"].startswith(b"1\n00:00:00,")
    assert files["VTT"].startswith(b"WEBVTT")
    assert [one["text"] for one in json.loads(files["JSON"])["segments"]] == [one.text for one in said]


def test_the_keyboard_and_the_clipboard(visitor: Visitor, day: Day, site: Site) -> None:
    """Uses every shortcut of a call's page, copies a link to a time and the transcript, and opens that link.

    The page also says which stretch has no text and that streams were mixed. If this fails, a call cannot be heard
    without a mouse, or a colleague gets a link to another place.
    """
    signed_in(visitor, day.key)
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page, said = visitor.page, demo_call("clinic_reschedule").turns
    page.add_init_script(_LISTEN)
    page.goto(f"/calls/{day.clinic}")
    expect(page.locator(".turn")).to_have_count(len(said))
    omitted = page.locator(".omitted")
    expect(omitted).to_contain_text("4.5 s of inbound have no text: it repeats the other side, as an echo on the line.")
    expect(
        page.get_by_text("inbound: several streams sounded at the same time for 3.0 s; they are mixed.")
    ).to_be_visible()

    page.keyboard.press("?")
    help_list = page.get_by_role("dialog", name="Keyboard shortcuts")
    for text in ("Play or pause", "Slower or faster", "Next or previous turn", "Copy a link to this time"):
        expect(help_list).to_contain_text(text)
    page.keyboard.press(" ")  # presses the button that has the focus, and plays nothing
    expect(help_list).to_have_count(0)
    page.keyboard.press("?")
    expect(help_list).to_be_visible()
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.querySelector('dialog') && document.activeElement === document.body")

    page.keyboard.press(" ")
    page.wait_for_function(f"() => {_NOW} > 0.2")
    page.keyboard.press(" ")
    page.wait_for_function("() => window.players.at(-1).paused")
    page.keyboard.press(">")
    expect(page.get_by_label("Speed")).to_have_value("1.25")
    page.keyboard.press("<")
    expect(page.get_by_label("Speed")).to_have_value("1")
    page.evaluate("window.players.at(-1).currentTime = 10")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => {_NOW} === 15")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"() => {_NOW} === 10")
    page.keyboard.press("j")
    turn = page.locator(".turn[aria-current]")
    following = next(one for one in said if one.start > 10)
    expect(turn).to_contain_text(following.text)

    page.keyboard.press("c")
    expect(page.get_by_role("status").get_by_text(re.compile(r"^Link to \d:\d\d copied$"))).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{site.url}/calls/{day.clinic}?part=1&t={int(following.start * 10) / 10:g}"
    page.keyboard.press("k")
    expect(turn).not_to_contain_text(following.text)
    page.get_by_role("region", name="Transcript").get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Transcript copied")).to_be_visible()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        f"{('inbound', 'outbound')[one.channel]}: {one.text}" for one in said
    ]
    page.keyboard.press("/")
    expect(page.get_by_label("Search by meaning")).to_be_focused()
    page.goto(link)
    expect(page.locator(".time .now")).to_have_text(f"{int(following.start) // 60}:{int(following.start) % 60:02d}")


def test_a_silence_is_nobodys_turn(call: Page) -> None:
    """Goes to a silence, to a short pause within a turn, and into a turn: only where somebody speaks is a turn marked.

    If this fails, the page says that somebody is speaking who is not, e.g. the turn that was heard last.
    """
    turns = demo_call("broadband_outage").turns
    first, second = next((one, other) for one, other in itertools.pairwise(turns) if other.start - one.end > 1.2)
    current = call.locator(".turn[aria-current]")
    for seconds, text in (
        (first.start + 0.3, first.text),
        (first.end + 0.9, None),
        (second.start + 0.3, second.text),
        (first.end + 0.9, None),
    ):
        call.evaluate(f"window.players.at(-1).currentTime = {seconds}")
        if text is None:
            expect(current).to_have_count(0)
            expect(call.locator(".w.on")).to_have_count(0)
        else:
            expect(current.locator(".said")).to_have_text(text)


def test_packet_loss(visitor: Visitor, site: Site) -> None:
    """Opens a call that lost 60 packets of the caller's, one a second for a minute.

    Each track has a line with the share that is lost and the number of gaps; all gaps are there when asked for, none is
    cut. On the waveform the losses are narrow marks that cover no lane. If this fails, the page is full of gaps that
    nobody can hear, or hides some.
    """
    lost = [Gap(start_ms=ms, end_ms=ms + 20, reason="missing") for ms in range(1_000, 61_000, 1_000)]
    told = CallEvents(f"tenant-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}", 1_795_348_800_000)
    put_real_call(site.put, told, "broadband_outage", site.words, gaps=lost)
    signed_in(visitor, create_key(site.settings, told.tenant, "web"))
    page = visitor.page
    page.goto(f"/calls/{told.call_id}")
    row = page.get_by_role("row", name="inbound")
    expect(row).to_contain_text("1.2 s missing (1.2 %), 60 gaps")
    expect(page.get_by_role("row", name="outbound")).to_contain_text("no gaps")
    expect(page.locator(".gap-line")).to_have_count(1)
    worst = page.get_by_role("button", name=re.compile("Worst of inbound: 200 ms missing, 0:01.00.0:10.02"))
    expect(worst).to_be_visible()
    page.get_by_text("Show all 60 gaps of inbound").click()
    expect(page.locator(".gap-list .gap-line")).to_have_count(60)
    expect(page.locator(".gap-list .gap-line").last).to_have_text("1:00.00, 20 ms, inbound: missing")

    marks = page.locator(".gap")
    expect(marks.first).to_be_attached()
    assert marks.count() <= 60
    lane = page.locator(".lanes").bounding_box()
    assert lane
    for mark in marks.all():
        box = mark.bounding_box()
        assert box
        assert box["height"] < lane["height"] / 10
    expect(page.locator(".gap.wide")).to_have_count(0)


def test_a_failed_call(page: Page, day: Day) -> None:
    """Looks at a call that a stage gave up on. If it failed, one would wait for a transcript that never comes."""
    page.goto(f"/calls/{day.failed}")
    expect(page.get_by_role("alert")).to_have_text(
        "Transcription failed: the provider refused the audio: 400 unsupported language"
    )
    expect(page.get_by_text("The transcript is not available: transcription failed.")).to_be_visible()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.goto("/calls/none")
    expect(page.get_by_role("alert")).to_contain_text("no call")
    expect(page.get_by_role("link", name="All calls")).to_be_visible()


def test_choosing_a_version(visitor: Visitor, site: Site) -> None:
    """A call was transcribed again by another model, whose words are shown. The page lists both versions; with a click
    the first one is in use again, and its words are shown. If it failed, the page could not undo a worse transcript."""
    told = CallEvents(f"tenant-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}", 1_795_348_800_000)
    put_real_call(site.put, told, "broadband_outage", site.words)
    signed_in(visitor, create_key(site.settings, told.tenant, "web"))
    page = visitor.page
    path = f"/v1/calls/{told.call_id}"
    events = page.request.get(f"{path}/events").json()["events"]
    first = TranscriptReady.model_validate(next(one for one in events if one["type"] == "transcript.ready"))
    said = Segment(start_ms=0, end_ms=900, channel=0, speaker="inbound", text="Quite another thing.")
    other = Transcript(
        call_id=told.call_id, language="en", duration_ms=1_000, provider="whisper", model="tiny", segments=[said]
    )
    version = uuid.uuid4().hex
    ref = site.put.object(transcript_key(told.tenant, told.call_id, version), other.model_dump_json().encode())
    later = {"event_id": version, "transcript_id": version, "transcript": ref, "model": "tiny"}
    site.put.events(first.model_copy(update=later | {"occurred_at_ms": first.occurred_at_ms + 60_000}))

    page.goto(f"/calls/{told.call_id}")
    words = page.get_by_role("region", name="Transcript")
    expect(words).to_contain_text("Quite another thing.")
    old = page.locator(f"[data-version='{first.transcript_id}']")
    expect(page.locator(f"[data-version='{version}']")).to_contain_text("in use")
    old.get_by_role("button", name="Use the transcript of whisper base").click()
    expect(old).to_contain_text("in use")
    expect(words).not_to_contain_text("Quite another thing.")
    current = [one["version_id"] for one in page.request.get(f"{path}/versions").json()["versions"] if one["current"]]
    assert first.transcript_id in current


def test_sharing_it(call: Page, browser: Browser, site: Site, day: Day) -> None:
    """Makes a link, opens it where nobody is signed in, looks for more than the one call, and uses it after its end. If
    it failed, a link would show nothing, too much, or for ever."""
    call.get_by_role("button", name="Share").click()
    dialog = call.get_by_role("dialog", name="Share this call")
    dialog.get_by_label("Expires after").select_option("1 hour")
    dialog.get_by_role("button", name="Make link").click()
    link = dialog.get_by_label("Link", exact=True).input_value()
    expect(dialog.get_by_text(re.compile("^Valid until"))).to_be_visible()
    call.keyboard.press("Escape")
    expect(dialog).to_have_count(0)

    with window(browser, site) as guest:
        page = guest.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(link)
        expect(_word(page, "Northwind")).to_be_visible()
        page.wait_for_function("() => document.querySelector('.lanes > div')?.shadowRoot.querySelector('canvas')")
        expect(page.get_by_role("navigation")).to_have_count(0)
        for name in ("Share", "Sign out"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)
        page.get_by_text("Download", exact=True).click()
        with page.expect_download() as download:
            page.get_by_role("link", name="TXT").click()
        assert download.value.path().read_text().startswith("[00:00.4] outbound: Thank you")
        of_the_api = [url for url in asked if "/v1/" in url]
        assert all(f"/v1/calls/{day.broadband}" in url or "/v1/session" in url for url in of_the_api)
        page.goto(link.replace(day.broadband, day.clinic))
        expect(page.get_by_role("alert")).to_contain_text("This link shows one call and nothing else.")
        token = link.partition("share=")[2]
        for path in ("/v1/calls", f"/v1/calls/{day.clinic}", "/v1/usage", f"/v1/calls/{day.broadband}/events"):
            assert guest.context.request.get(path, params={"share": token}).status == 403
        claims = {"key": token_hash(day.key), "tenant": day.tenant, "call": day.broadband}
        page.goto(link.replace(token, TokenSigner(SESSION_SECRET).sign("link", claims, -1)))
        expect(page.get_by_role("alert")).to_contain_text("This link has expired: request a new one.")
        expect(_word(page, "Northwind")).to_have_count(0)


def test_a_call_that_the_gateway_ended_says_so(visitor: Visitor, site: Site) -> None:
    """Opens a call whose stream the gateway closed, and whose start had damaged text: the page says both. Without it
    somebody would look for the end of the conversation, or wonder about a name."""
    tenant = f"tenant-{uuid.uuid4().hex[:8]}"
    told = CallEvents(tenant, f"CA{uuid.uuid4().hex}", time.time_ns() // 1_000_000 - 60_000)
    site.put.events(
        told.started().model_copy(update={"repairs": ["invalid-utf-8"]}),
        told.ended(30_000).model_copy(update={"reason": "idle"}),
        put_recording(site.put, told, demo_call("broadband_outage")),
    )
    signed_in(visitor, create_key(site.settings, tenant, "web"))
    page = visitor.page
    page.goto(f"/calls/{told.call_id}")
    expect(page.get_by_text("AudioText ended this call: its stream was silent for too long.")).to_be_visible()
    expect(page.get_by_text("damaged text, which was repaired (invalid-utf-8)")).to_be_visible()
    assert page.request.get(f"/v1/calls/{told.call_id}").json()["end_reason"] == "idle"
