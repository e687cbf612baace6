"""The web page as it is served: by whom it may be framed, what it may load, how long it is kept, what it is made of."""

import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import api
from api import pages
from api.endpoint import ApiContext
from tests.api.conftest import Client, Put, Tenant, client_of

_UI = Path(api.__file__).parent / "ui"
_VENDORED = (_UI / "vendor", Path(__file__).parent / "ui" / "vendor")


async def test_what_a_page_may_do(api: Client) -> None:
    """Reads the headers of every page and the document. If it failed, text that a caller spoke could run as a script,
    the page could be framed by another site, or an address with a link's token be told to one."""
    for path in ("/", "/sign-in", "/calls/CA1", "/search", "/usage", "/operations"):
        response = await api.get(path)
        assert response.status == 200
        policy = dict(
            part.strip().partition(" ")[::2] for part in response.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        nonce = re.fullmatch(r"'self' 'nonce-([\w-]{22})'", policy["style-src"])
        assert nonce
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        document = await response.text()
        assert nonce[1] in document
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?://", document)
    nonces = {re.findall(r'csp-nonce" content="(.*?)"', await (await api.get("/")).text())[0] for _ in range(3)}
    assert len(nonces) == 3


async def test_an_unknown_page_is_a_page(api: Client, tenant: Tenant) -> None:
    """Opens addresses that there are not, as a browser and as a program, with a key and without.

    A browser gets the page, which says so, with 404; a program, and everybody below /v1/, gets JSON. If this fails,
    somebody with a wrong bookmark reads about API keys.
    """
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/nothing", "/calls", "/calls/a/b"):
        response = await api.get(path, headers=browser)
        assert (response.status, response.content_type) == (404, "text/html")
        assert "Content-Security-Policy" in response.headers
        assert '<main id="main"' in await response.text()
        assert (await api.head(path, headers=browser)).status == 404
        response = await api.get(path, headers=tenant.auth)
        assert (response.status, response.content_type) == (404, "application/json")
        assert (await api.get(path)).status == 401
    response = await api.get("/v1/nothing", headers=browser | tenant.auth)
    assert (response.status, response.content_type) == (404, "application/json")
    assert (await api.get("/v1/nothing", headers=browser)).status == 401
    response = await api.post("/nothing", headers=browser)
    assert response.content_type == "application/json"


async def test_answers_are_compressed(api: Client, put: Put, tenant: Tenant) -> None:
    """Requests a long list, a recording and a short answer, with gzip accepted, refused and not mentioned.

    Only the long list is compressed, only if the client accepts gzip, and its text stays the same. A failure means that
    a waveform takes three times as long on a slow line, or that a client cannot read the answer.
    """
    for number in range(4):
        put.call(tenant.name, f"CA{number}-{tenant.name}")
    plain = await api.get("/v1/calls", headers=tenant.auth | {"Accept-Encoding": "identity"})
    text = await plain.read()
    assert len(text) > 1_024
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding"
    for accepted in ("gzip", "br, gzip;q=0.5", "*"):
        url = api.make_url("/v1/calls")
        headers = tenant.auth | {"Accept-Encoding": accepted}
        async with api.session.get(url, headers=headers, auto_decompress=False) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            body = await response.read()
        assert gzip.decompress(body) == text
        assert len(body) < len(text) / 2
    refused = await api.get("/v1/calls", headers=tenant.auth | {"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in refused.headers
    for path in ("/healthz", f"/v1/calls/CA0-{tenant.name}/recording"):
        short = await api.get(path, headers=tenant.auth | {"Accept-Encoding": "gzip"})
        assert (short.status, "Content-Encoding" in short.headers) == (200, False)


async def test_signing_in_with_an_account(services: ApiContext) -> None:
    """Says where people sign in. If it failed, whoever has an account would not find where, or an address from the
    settings could become markup."""
    kratos = services.settings.kratos.model_copy(update={"login_url": 'https://sign-in.example/?a=1&"b'})
    settings = services.settings.model_copy(update={"kratos": kratos})
    async with client_of(replace(services, settings=settings)) as api:
        document = await (await api.get("/sign-in")).text()
    assert '<meta name="login-url" content="https://sign-in.example/?a=1&amp;&quot;b">' in document


async def test_files_are_kept_until_there_are_others(api: Client) -> None:
    """Asks for files of this version and of another. If it failed, a browser would mix two versions after an upgrade,
    or ask for every file each time."""
    document = await (await api.get("/")).text()
    (style,) = re.findall(r'href="(/ui/\w+/style\.css)"', document)
    response = await api.get(style, headers={"Accept-Encoding": "gzip"})
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.content_type == "text/css"
    async with api.session.get(api.make_url(style), headers={"Accept-Encoding": "identity"}) as plain:
        assert await plain.read() == (_UI / "style.css").read_bytes()
    for missing in (style.replace("/ui/", "/ui/0"), style.replace("style.css", "../index.html"), f"{style}x"):
        assert (await api.get(missing)).status in (401, 404), missing


def test_the_version_tells_every_change() -> None:
    """If it failed, a browser would keep an old file for a year."""
    site = pages.load()
    assert re.fullmatch(r"[0-9a-f]{16}", site.version)
    assert {"index.html", "style.css", "main.js", "pages/calls.js", "vendor/uPlot.esm.js"} <= set(site.files)
    for path, file in site.files.items():
        assert gzip.decompress(file.zipped) == file.content == (_UI / path).read_bytes()


@pytest.mark.parametrize("folder", _VENDORED, ids=["shown", "tests"])
def test_vendored_libraries_are_what_was_published(folder: Path) -> None:
    """Compares every file with the pinned SHA-256, version and licence of its package. If it failed, somebody changed a
    library, or nobody knows whose it is."""
    packages = json.loads((folder / "manifest.json").read_text())["packages"]
    listed = {"manifest.json"}
    for package in packages:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["licence"] in ("MIT", "BSD-3-Clause", "MPL-2.0")
        assert re.fullmatch(r"[0-9a-f]{64}", package["tarball_sha256"])
        for name, file in package["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file["sha256"], name
            listed.add(name)
        assert any(name.endswith("LICENSE.txt") for name in package["files"])
    assert {path.name for path in folder.iterdir()} == listed


def test_nothing_is_made_from_markup() -> None:
    """Looks for ways to turn text into markup in our own scripts. If it failed, what a caller says could become part
    of the page."""
    for path in _UI.rglob("*.js"):
        if "vendor" not in path.parts:
            text = path.read_text()
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
            ), path
            assert "https://" not in text
