"""Every page in light, dark and at phone width: a picture to look at, and axe-core's opinion."""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.api.ui.conftest import ADMIN_KEY, Day, Visitor, signed_in

_LOOKS = {"light": (1280, 860, "light"), "dark": (1280, 860, "dark"), "phone": (390, 844, "light")}
# Where a page is, and what it shows once all of it is there. A new page is a new line.
_PAGES = {
    "sign-in": ("/sign-in", "form"),
    "calls": ("/", ".rows .failed"),
    "filters": ("/?max_duration_s=9000", ".rows .failed"),
    "call": ("/calls/{broadband}", ".turn"),
    "search": ("/search?q=technician+visit", ".results li"),
    "usage": ("/usage", ".figures"),
    "operations": ("/operations", "main .card li"),
}
_AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
_GRAVE = ("serious", "critical")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where pictures go: `make screenshots` says where."""
    wanted = os.environ.get("SCREENSHOTS")
    found = Path(wanted) if wanted else tmp_path
    found.mkdir(parents=True, exist_ok=True)
    return found


@pytest.mark.parametrize("name", _PAGES)
def test_every_look_of(name: str, visitor: Visitor, day: Day, folder: Path) -> None:
    """Opens the page, takes a picture of each of its looks and has axe-core look for what shuts people out. If it
    failed, some could not read or use the page: too little contrast, or something a screen reader has no name for."""
    if name != "sign-in":
        signed_in(visitor, ADMIN_KEY)
    page = visitor.page
    address, there = _PAGES[name]
    page.goto(address.format(broadband=day.broadband))
    expect(page.locator(there).first).to_be_visible()
    page.wait_for_load_state("load")
    page.wait_for_function("() => !document.querySelector('.lanes:not(:has(> div))')")  # the waveform is drawn
    page.evaluate(_AXE)
    for look, (width, height, scheme) in _LOOKS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.screenshot(path=folder / f"{name}-{look}.png", full_page=name != "calls")
        assert not _violations(page), look
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{look}: the page is {wide} px wide"


def _violations(page: Page) -> list[str]:
    """What axe-core finds serious or critical, in a line each."""
    # Without preload: it would copy style sheets of shadow roots into the page, which its policy forbids.
    found: list[dict[str, Any]] = page.evaluate(
        "async () => (await axe.run({resultTypes: ['violations'], preload: false})).violations"
    )
    return [
        f"{one['impact']}: {one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in _GRAVE
        for node in one["nodes"]
    ]
