"""Twilio's request signatures: base64(HMAC-SHA1(auth token, URL + sorted POST fields)).

The URL is the one the carrier was given, not the one the request arrives with: proxies rewrite that. On a media
socket's upgrade it is the `wss://` URL. Source: https://www.twilio.com/docs/usage/webhooks/webhooks-security
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

HEADER = "X-Twilio-Signature"

_DEFAULT_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_SOCKET_SCHEMES = {"https": "wss", "http": "ws"}


def socket_url(base_url: str, target: str) -> str:
    """The public URL of a media socket: https read as wss and http as ws, then path and query string."""
    scheme, separator, rest = base_url.partition("://")
    return f"{_SOCKET_SCHEMES.get(scheme, scheme)}{separator}{rest}{target}"


def sign(token: str, url: str, form: Sequence[tuple[str, str]] = ()) -> str:
    """The signature of a request to exactly this URL with these POST fields."""
    # A field that is given twice with the same value counts once, as in Twilio's own validator.
    text = url + "".join(name + value for name, value in sorted(set(form)))
    # A hostile request line may hold octets that are no UTF-8; they reach us as lone surrogates.
    octets = text.encode(errors="surrogateescape")
    return base64.b64encode(hmac.digest(token.encode(), octets, hashlib.sha1)).decode()


def verify(token: str, url: str, signature: str, form: Sequence[tuple[str, str]] = ()) -> bool:
    """Whether the signature is right for the URL, written with its port or without. An empty token fits nothing."""
    if not token:
        return False
    given = signature.encode(errors="surrogateescape")
    return any(hmac.compare_digest(given, sign(token, spelling, form).encode()) for spelling in _spellings(url))


def _spellings(url: str) -> list[str]:
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
