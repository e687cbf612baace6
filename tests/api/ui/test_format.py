"""Texts of the web page: how its pure functions write numbers, times and languages."""

from typing import Any

import pytest
from playwright.sync_api import Page

_CALL = """async ([name, given]) => {
    const style = document.querySelector("link[href$='style.css']").href;
    const format = await import(style.replace("style.css", "format.js"));
    return format[name](...given);
}"""


@pytest.fixture
def formats(page: Page) -> Page:
    """A page whose functions can be called."""
    page.goto("/search")
    return page


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("plural", [1, "gap"], "1 gap"),
        ("plural", [0, "gap"], "0 gaps"),
        ("plural", [1200, "gap"], "1,200 gaps"),
        ("plural", [1, "gap is", "gaps are"], "1 gap is"),
        ("languageName", ["und"], "language unknown"),
        ("languageName", ["de"], "German"),
        ("languageName", ["not a code"], "not a code"),
        ("place", [12_340], "0:12.34"),
        ("place", [3_600_050], "1:00:00.05"),
        (
            "marked",
            ["It's an X-ray, Grace.", "grace x"],
            [["It's an ", 0], ["X", 1], ["-ray, ", 0], ["Grace", 1], [".", 0]],
        ),
        ("marked", ["我想退款", "退款"], [["我想", 0], ["退", 1], ["款", 1]]),
        ("marked", ["Straße <b>", ""], [["Straße <b>", 0]]),
    ],
)
def test_texts(formats: Page, name: str, given: list[Any], text: Any) -> None:
    """Calls one of the page's functions in the browser. If this fails, people read "1 gaps" or "und", or other words of
    a hit are marked than they searched for."""
    assert formats.evaluate(_CALL, [name, given]) == text
