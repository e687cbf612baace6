"""Serves the web page: one document for all its addresses, and its files.

The address of the files contains a hash of all files. So browsers can cache them permanently, and a new version has a
new address. The files import each other by relative paths, so these imports follow the address.
"""

import gzip
import hashlib
import html
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web

from api.compression import accepts_gzip

_PAGES = ("/", "/sign-in", "/calls/{id:[^/]+}", "/search", "/usage", "/operations")
_FILES = "/ui/{version}/{path:.+}"
_CANONICAL = frozenset({"/", "/sign-in", "/calls/{id}", "/search", "/usage", "/operations", "/ui/{version}/{path}"})

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
# Allows nothing from other origins and nothing inline, so that spoken text can only be displayed, never executed. The
# nonce is for the shadow root of the waveform alone: its library writes the style sheet itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # an address may contain a link's token
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class AssetFile:
    """One file of the page, plain and compressed."""

    content: bytes
    zipped: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Site:
    """All files by path, and a hash of all files."""

    files: dict[str, AssetFile]
    version: str

    def document(self, nonce: str, login_url: str = "") -> str:
        """Returns the HTML document for one visit. login_url: page for sign-in with an account, "" = none."""
        text = self.files["index.html"].content.decode()
        return (
            text.replace("{{version}}", self.version)
            .replace("{{nonce}}", nonce)
            .replace("{{login}}", html.escape(login_url))
        )


def load() -> Site:
    """Returns the installed site."""
    contents = dict(sorted(_walk(resources.files("api") / "ui", "")))
    digest = hashlib.sha256()
    for path, content in contents.items():
        digest.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
    files = {
        path: AssetFile(content, gzip.compress(content, mtime=0), _content_type(path))
        for path, content in contents.items()
    }
    return Site(files, digest.hexdigest()[:16])


def is_page(canonical: str | None) -> bool:
    """True if a route's canonical path belongs to the page.

    These paths are public: they hold no data, the page requests all data from the API.
    """
    return canonical in _CANONICAL


def is_browser_navigation(request: web.Request) -> bool:
    """True if a browser opens an address outside the API, so that the response should be a page."""
    return (
        request.method in ("GET", "HEAD")
        and "text/html" in request.headers.get("Accept", "")
        and not request.path.startswith(("/v1/", "/ui/"))
    )


class Pages:
    """Serves the document and its files."""

    def __init__(self, login_url: str | None = None) -> None:
        """login_url: page for sign-in with an account, None = sign-in with a key only."""
        self._site = load()
        self._login_url = login_url or ""

    def add_routes(self, app: web.Application) -> None:
        """Adds the routes of all pages and files."""
        for path in _PAGES:
            app.router.add_get(path, self._page)
        app.router.add_get(_FILES, self._file)

    def document(self, status: int = 200) -> web.Response:
        """Returns the document. Browsers do not cache it, so that users get a new version at once."""
        nonce = secrets.token_urlsafe(16)
        return web.Response(
            status=status,
            text=self._site.document(nonce, self._login_url),
            content_type="text/html",
            headers={
                **_HEADERS,
                "Cache-Control": "no-store",
                "Content-Security-Policy": _POLICY.format(nonce=nonce),
            },
        )

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return self.document()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """Returns a file of this version."""
        found = self._site.files.get(request.match_info["path"])
        if found is None or request.match_info["version"] != self._site.version:
            raise web.HTTPNotFound
        zipped = accepts_gzip(request)
        headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        if zipped:
            headers["Content-Encoding"] = "gzip"
        body = found.zipped if zipped else found.content
        return web.Response(body=body, content_type=found.content_type, charset="utf-8", headers=headers)


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif any(entry.name.endswith(suffix) for suffix in _TYPES):
            yield prefix + entry.name, entry.read_bytes()


def _content_type(path: str) -> str:
    return _TYPES["." + path.rpartition(".")[2]]
