"""The carriers' request signatures, each over the URL and what was posted. Pure: the time is given where it counts.

The URL is the one the carrier was given, not the one the request arrives with: proxies rewrite that. On a media
socket's upgrade it is the `wss://` URL. `sign` and `verify` are Twilio's, whose form others share.
Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-security, and the request validators of the carriers'
own SDKs, which the tests compare these with.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEADER = "X-Twilio-Signature"
SETTINGS_HEADER = "X-Twilio-Webhooks-Signature-Settings"

Hash = Literal["sha1", "sha256"]

ED25519_WINDOW_S = 300
"""How far a signed timestamp may be from now, in seconds."""

_URLS = 256  # that are remembered: carriers use a few, forgers what they like
_DEFAULT_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_SOCKET_SCHEMES = {"https": "wss", "http": "ws"}


def socket_url(base_url: str, target: str) -> str:
    """The public URL of a media socket: https read as wss and http as ws, then path and query string."""
    scheme, separator, rest = base_url.partition("://")
    return f"{_SOCKET_SCHEMES.get(scheme, scheme)}{separator}{rest}{target}"


def sign(token: str, url: str, form: Sequence[tuple[str, str]] = (), algorithm: Hash = "sha1") -> str:
    """base64 of the HMAC over URL and sorted fields: the signature of a request to exactly this URL."""
    if not form:
        return _sign_url(token, url, algorithm)
    # A field that is given twice with the same value counts once, as in Twilio's own validator.
    text = url + "".join(name + value for name, value in sorted(set(form)))
    return _sign(token, text, algorithm)


def verify(
    token: str, url: str, signature: str, form: Sequence[tuple[str, str]] = (), algorithm: Hash = "sha1"
) -> bool:
    """Whether the signature is right for the URL, written with its port or without. An empty token fits nothing."""
    return _fits(token, url, signature, lambda spelling: sign(token, spelling, form, algorithm))


def sign_body(token: str, url: str, body: bytes, algorithm: Hash = "sha1") -> str:
    """SignalWire's signature of a body as it came: hexadecimal, over URL and body."""
    return hmac.digest(token.encode(), _octets(url) + body, algorithm).hex()


def verify_body(token: str, url: str, signature: str, body: bytes, algorithm: Hash = "sha1") -> bool:
    """As `verify`, for `sign_body`."""
    return _fits(token, url, signature, lambda spelling: sign_body(token, spelling, body, algorithm))


def signature_settings(header: str) -> Mapping[str, str]:
    """What Twilio's settings header says: `key` (an id) and `algorithm`."""
    parts = (part.partition("=") for part in header.split(","))
    return {name.strip(): value.strip() for name, _, value in parts if value.strip()}


def sign_v3(token: str, url: str, nonce: str, form: Sequence[tuple[str, str]] | None) -> str:
    """Plivo's signature, version 3. form: the fields of a POST, None for a GET."""
    parts = urlsplit(url)
    # Decoded and sorted; not encoded again.
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    text = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if query or form:
        text += f"?{query}"
    if query and form:
        text += "."
    if form:
        text += "".join(name + value for name, value in sorted(form))
    digest = hmac.digest(token.encode(), _octets(f"{text}.{nonce}"), hashlib.sha256)
    return base64.b64encode(digest).decode()


def verify_v3(token: str, url: str, nonce: str, signatures: str, form: Sequence[tuple[str, str]] | None) -> bool:
    """Whether one of the signatures, separated by commas, is right. An empty token fits nothing."""
    if not token:
        return False
    right = sign_v3(token, url, nonce, form).encode()
    # All are compared, so that the time tells nothing about which one it was.
    given = [one.encode(errors="surrogateescape") for one in signatures.split(",")]
    return sum(hmac.compare_digest(one, right) for one in given) > 0


def verify_ed25519(public_key: str, timestamp: str, signature: str, body: bytes, now_s: float) -> bool:
    """Whether Telnyx signed `{timestamp}|{body}` within the window around now_s (seconds since the epoch).

    public_key, signature: base64. A key that is none raises ValueError: that is a mistake in the settings.
    """
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
    try:
        if not timestamp.isascii() or abs(now_s - int(timestamp)) > ED25519_WINDOW_S:
            return False
        key.verify(base64.b64decode(signature), timestamp.encode() + b"|" + body)
    except (InvalidSignature, ValueError):
        return False
    return True


def _fits(token: str, url: str, signature: str, signed: Callable[[str], str]) -> bool:
    if not token:
        return False
    given = signature.encode(errors="surrogateescape")
    return any(hmac.compare_digest(given, signed(spelling).encode()) for spelling in _spellings(url))


@lru_cache(_URLS)  # it is the same for every socket
def _sign_url(token: str, url: str, algorithm: Hash) -> str:
    return _sign(token, url, algorithm)


def _sign(token: str, text: str, algorithm: Hash) -> str:
    return base64.b64encode(hmac.digest(token.encode(), _octets(text), algorithm)).decode()


def _octets(text: str) -> bytes:
    # A hostile request line may hold octets that are no UTF-8; they reach us as lone surrogates.
    return text.encode(errors="surrogateescape")


@lru_cache(_URLS)
def _spellings(url: str) -> Sequence[str]:
    parts = urlsplit(url)
    spellings = [url]
    if parts.port is not None:
        spellings.append(_with_netloc(url, parts, parts.netloc.rpartition(":")[0]))
    elif parts.scheme in _DEFAULT_PORTS:
        spellings.append(_with_netloc(url, parts, f"{parts.netloc}:{_DEFAULT_PORTS[parts.scheme]}"))
    return spellings


def _with_netloc(url: str, parts: SplitResult, netloc: str) -> str:
    # Not urlunsplit: it drops an empty query's "?" and would so change what is signed.
    return url.replace(f"//{parts.netloc}", f"//{netloc}", 1)
