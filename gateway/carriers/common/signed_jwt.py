"""Webhooks that bring a signed JSON Web Token, as Vonage's do: HS256, and the payload's hash among the claims. Pure.

Sources: https://developer.vonage.com/en/getting-started/concepts/webhooks (decoding signed webhooks) and, for what is
hashed of a GET, Vonage's support article 19033783342876.
"""

import hashlib
import hmac
import warnings
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import msgspec
from jwt.warnings import InsecureKeyLengthWarning

WINDOW_S = 300
"""How far the time a token was issued at may be from now, in seconds. Vonage's tokens need not say when they expire."""

ISSUER = "Vonage"
_MAX_LENGTH = 4096  # of a token that is looked at at all


class SignedWebhookError(Exception):
    """Not signed, not with this secret, not now, or not with this payload. The text holds nothing secret."""


def verify_webhook(secret: str, token: str, target: str, body: bytes, now_s: float) -> None:
    """Passes a request that was signed with this secret within the window around now_s (seconds since the epoch).

    target: path and query string as on the request line. Raises SignedWebhookError.
    """
    claims = _claims(secret, token)
    if claims.get("iss") != ISSUER:
        raise SignedWebhookError(f"the token was not issued by {ISSUER}")
    issued_at = _seconds(claims, "iat")
    if issued_at is None or abs(now_s - issued_at) > WINDOW_S:
        raise SignedWebhookError(f"the token was not issued within {WINDOW_S} s of now: is this machine's clock right?")
    expires_at = _seconds(claims, "exp")
    if "exp" in claims and (expires_at is None or now_s >= expires_at):
        raise SignedWebhookError("the token has expired")
    told = str(claims.get("payload_hash", "")).encode(errors="replace")
    if not hmac.compare_digest(told, payload_hash(target, body).encode()):
        raise SignedWebhookError("the payload is not the one that was signed")


def payload_hash(target: str, body: bytes) -> str:
    """SHA-256 (hexadecimal) of what a request brings: its body or, without one, its query's parameters as JSON."""
    if not body:
        # A hostile request line may hold octets that are no UTF-8; they reach us as lone surrogates.
        query = urlsplit(target).query.encode(errors="surrogateescape").decode(errors="replace")
        body = msgspec.json.encode(dict(parse_qsl(query, keep_blank_values=True)))
    return hashlib.sha256(body).hexdigest()


def _claims(secret: str, token: str) -> Mapping[str, Any]:
    """What a token says that this secret signed. Raises SignedWebhookError."""
    if not secret or not token.isascii() or len(token) > _MAX_LENGTH:
        raise SignedWebhookError("no signed token")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # the secret is Vonage's choice
            # Times are compared with the request's own, above.
            told: dict[str, Any] = jwt.decode(
                token, secret, algorithms=["HS256"], options={"verify_iat": False, "verify_exp": False}
            )
    except (jwt.InvalidTokenError, RecursionError) as error:
        raise SignedWebhookError(f"the token is not right ({type(error).__name__})") from None
    return told


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
