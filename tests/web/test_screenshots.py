"""Every page in light, dark and phone width: pictures to look at, and axe-core's opinion of each."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.web.conftest import Day

_LOOKS = {
    "light": (1280, 860, "light"),
    "dark": (1280, 860, "dark"),
    "phone": (390, 844, "light"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where pictures go: `make screenshots` says where."""
    wanted = os.environ.get("SCREENSHOTS")
    found = Path(wanted) if wanted else tmp_path
    found.mkdir(parents=True, exist_ok=True)
    return found


def test_pictures(operator: Page, day: Day, folder: Path) -> None:
    """Takes a picture of every page in every look. If it failed, there would be nothing to look at."""
    pages = {
        "calls": "/",
        "call": f"/calls/{day.broadband}",
        "search": "/search?q=technician+visit",
        "usage": "/usage",
        "operations": "/operations",
    }
    for name, address in pages.items():
        for look, (width, height, scheme) in _LOOKS.items():
            operator.set_viewport_size({"width": width, "height": height})
            operator.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            operator.goto(address)
            operator.wait_for_timeout(700)
            operator.screenshot(path=folder / f"{name}-{look}.png", full_page=name != "calls")
