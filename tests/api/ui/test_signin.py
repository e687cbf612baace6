"""Signing in and out in a browser, and what guards who is signed in."""

import re

from playwright.sync_api import expect

from api.auth.authentication import COOKIE
from api.auth.key_authenticator import token_hash
from core.token_signer import TokenSigner
from tests.api.ui.conftest import SESSION_SECRET, Day, Site, Visitor, signed_in

# A form can send JSON, if one does not look closely.
_SEND_A_FORM = """action => {
    document.body.innerHTML = '<form method="post" enctype="text/plain"><input>';
    Object.assign(document.querySelector("input"), {name: '{"a":"', value: '"}'});
    Object.assign(document.forms[0], {action}).submit();
}"""


def test_in_and_out_again(visitor: Visitor, day: Day) -> None:
    """Asks for a filtered list, is sent to sign in, tries a wrong key, then the right one with the keyboard alone, and
    signs out. If it failed, nobody would get in, anybody would, or one would have to find one's page again."""
    page = visitor.page
    page.goto("/?status=failed")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type("at_not-a-key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is unknown or has been revoked.")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill(day.key)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/\?status=failed$"))
    expect(page.get_by_role("list", name="Finished calls").get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_role("banner")).to_contain_text(day.tenant)
    assert page.evaluate("document.cookie") == ""
    assert day.key not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not [cookie for cookie in visitor.context.cookies() if cookie["name"] == COOKIE]
    page.goto("/usage")
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_session_that_has_run_out(visitor: Visitor, site: Site, day: Day) -> None:
    """Looks at calls with a session that then runs out, and filters. If it failed, one would look at a page that is
    dead and does not say so, or lose one's place by signing in again."""
    signed_in(visitor, day.key)
    page = visitor.page
    page.goto("/")
    rows = page.get_by_role("list", name="Finished calls").get_by_role("listitem")
    expect(rows).to_have_count(3)
    over = TokenSigner(SESSION_SECRET).sign("session", {"key": token_hash(day.key)}, -1)
    visitor.context.add_cookies([{"name": COOKIE, "value": over, "url": site.url, "httpOnly": True}])
    page.get_by_label("Status").select_option("Failed")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("API key").fill(day.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/\?status=failed$"))
    expect(rows).to_have_count(1)


def test_another_sites_page_can_do_nothing(visitor: Visitor, site: Site, day: Day) -> None:
    """Is signed in, and comes upon a page of another origin that sends forms to the API. The
    other origin is another port, for which browsers send even strict cookies. If it failed, any page could share calls,
    or sign somebody in as somebody else."""
    signed_in(visitor, day.key)
    elsewhere = "http://127.0.0.1:54321/"
    visitor.context.route(f"{elsewhere}**", lambda route: route.fulfill(content_type="text/html", body="<p>Hello"))
    page = visitor.page
    for path in (f"/v1/calls/{day.broadband}/links", "/v1/session"):
        page.goto(elsewhere)
        with page.expect_navigation() as answer:
            page.evaluate(_SEND_A_FORM, site.url + path)
        assert answer.value.status == 403
        assert COOKIE in answer.value.request.all_headers()["cookie"]
        assert "may not send this request" in answer.value.text()
    visitor.strangers.clear()
    visitor.complaints.clear()
    assert visitor.context.request.get("/v1/session").json()["tenant"] == day.tenant


def test_nothing_inline_is_run(visitor: Visitor, day: Day) -> None:
    """Puts scripts into the page, as text that was not escaped would. If it failed, whoever calls could speak, or
    spell, what runs in the browser of who listens."""
    signed_in(visitor, day.key)
    page = visitor.page
    page.goto("/")
    expect(page.get_by_role("list", name="Finished calls").get_by_role("listitem")).to_have_count(3)
    page.evaluate(
        """() => {
            document.body.append(Object.assign(document.createElement("script"), {textContent: "window.ran = 1"}));
            document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.ran = 1">');
        }"""
    )
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    assert page.evaluate("window.ran") is None
    refused = [said for said in visitor.complaints if "Content Security Policy" in said]
    assert len(refused) == 2
    visitor.complaints.clear()


def test_a_link_with_a_key_waits_for_a_click(visitor: Visitor, day: Day) -> None:
    """Opens a link with a key, as somebody could send it to a visitor: nobody is signed in until the visitor clicks,
    and the key is neither in the address nor in the history. A failure means that a link makes a visitor use, and fill,
    the account of its sender."""
    page = visitor.page
    page.goto(f"/sign-in#{day.key}")
    expect(page.get_by_text("This link contains an API key.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/sign-in$"))
    assert page.request.get("/v1/session").status == 401
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("banner")).to_contain_text(day.tenant)
    assert day.key not in page.url
