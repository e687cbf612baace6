"""Signatures of the carriers' requests, over the URL and the body or form. Pure functions; the time is a parameter.

The signed URL is the one that the carrier has. Proxies may rewrite the URL with which the request arrives. For a media
socket's upgrade it is the `wss://` URL. `sign` and `verify` implement Twilio's method, which other carriers share.
Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-security, and the request validators of the carriers'
own SDKs, with which the tests compare these functions.
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
"""Largest difference of a signed timestamp from now (s)."""

_URLS = 256  # limit of cached URLs: carriers use a few, attackers can send any number
_DEFAULT_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_SOCKET_SCHEMES = {"https": "wss", "http": "ws"}


def socket_url(base_url: str, target: str) -> str:
    """Returns the public URL of a media socket: wss for https and ws for http, then path and query string."""
    scheme, separator, rest = base_url.partition("://")
    return f"{_SOCKET_SCHEMES.get(scheme, scheme)}{separator}{rest}{target}"


def sign(token: str, url: str, form: Sequence[tuple[str, str]] = (), algorithm: Hash = "sha1") -> str:
    """Returns the signature of a request to exactly this URL: base64 of the HMAC over URL and sorted fields."""
    if not form:
        return _sign_url(token, url, algorithm)
    # A repeated field with the same value counts once, as in Twilio's own validator.
    text = url + "".join(name + value for name, value in sorted(set(form)))
    return _sign(token, text, algorithm)


def verify(
    token: str, url: str, signature: str, form: Sequence[tuple[str, str]] = (), algorithm: Hash = "sha1"
) -> bool:
    """True if the signature is valid for the URL, with or without its port. An empty token is never valid."""
    return _fits(token, url, signature, lambda spelling: sign(token, spelling, form, algorithm))


def sign_body(token: str, url: str, body: bytes, algorithm: Hash = "sha1") -> str:
    """Returns SignalWire's signature of a body: hexadecimal, over URL and body."""
    return hmac.digest(token.encode(), _to_bytes(url) + body, algorithm).hex()


def verify_body(token: str, url: str, signature: str, body: bytes, algorithm: Hash = "sha1") -> bool:
    """True if the signature of `sign_body` is valid for the URL. See `verify`."""
    return _fits(token, url, signature, lambda spelling: sign_body(token, spelling, body, algorithm))


def signature_settings(header: str) -> Mapping[str, str]:
    """Returns the values in Twilio's settings header: `key` (an id) and `algorithm`."""
    parts = (part.partition("=") for part in header.split(","))
    return {name.strip(): value.strip() for name, _, value in parts if value.strip()}


def sign_v3(token: str, url: str, nonce: str, form: Sequence[tuple[str, str]] | None) -> str:
    """Returns Plivo's signature, version 3. form: the fields of a POST, None for a GET."""
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
    digest = hmac.digest(token.encode(), _to_bytes(f"{text}.{nonce}"), hashlib.sha256)
    return base64.b64encode(digest).decode()


def verify_v3(token: str, url: str, nonce: str, signatures: str, form: Sequence[tuple[str, str]] | None) -> bool:
    """True if one of the comma-separated signatures is valid. An empty token is never valid."""
    if not token:
        return False
    expected = sign_v3(token, url, nonce, form).encode()
    # All signatures are compared, so that the duration does not reveal which one is valid.
    given = [one.encode(errors="surrogateescape") for one in signatures.split(",")]
    return sum(hmac.compare_digest(one, expected) for one in given) > 0


def verify_ed25519(public_key: str, timestamp: str, signature: str, body: bytes, now_s: float) -> bool:
    """True if Telnyx signed `{timestamp}|{body}` within the window around now_s (seconds since the epoch).

    public_key, signature: base64. Raises ValueError for an invalid key, which is an error in the settings.
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


@lru_cache(_URLS)  # every socket has the same URL
def _sign_url(token: str, url: str, algorithm: Hash) -> str:
    return _sign(token, url, algorithm)


def _sign(token: str, text: str, algorithm: Hash) -> str:
    return base64.b64encode(hmac.digest(token.encode(), _to_bytes(text), algorithm)).decode()


def _to_bytes(text: str) -> bytes:
    # A hostile request line may have bytes that are not UTF-8. The HTTP server decodes them as lone surrogates.
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
    # Not urlunsplit: it drops the "?" of an empty query, which changes the signed text.
    return url.replace(f"//{parts.netloc}", f"//{netloc}", 1)
