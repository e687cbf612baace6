"""Webhooks with a signed JSON Web Token (HS256), whose claims have the payload's hash. Vonage sends them. Pure.

Sources: https://developer.vonage.com/en/getting-started/concepts/webhooks (decoding signed webhooks) and, for the
hash of a GET request, Vonage's support article 19033783342876.
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
"""Largest difference of a token's issue time from now (s). Vonage's tokens may lack an expiry time."""

ISSUER = "Vonage"
_MAX_LENGTH = 4096  # limit of a token's length


class SignedWebhookError(Exception):
    """Webhook without a valid signature for this secret, time and payload. The text contains no secret."""


def verify_webhook(secret: str, token: str, target: str, body: bytes, now_s: float) -> None:
    """Requires a signature with this secret within the window around now_s (seconds since the epoch).

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
    signed_hash = str(claims.get("payload_hash", "")).encode(errors="replace")
    if not hmac.compare_digest(signed_hash, payload_hash(target, body).encode()):
        raise SignedWebhookError("the payload differs from the signed one")


def payload_hash(target: str, body: bytes) -> str:
    """Returns the SHA-256 (hexadecimal) of the body. Without a body: of the query as JSON."""
    if not body:
        # A hostile request line may have bytes that are not UTF-8. The HTTP server decodes them as lone surrogates.
        query = urlsplit(target).query.encode(errors="surrogateescape").decode(errors="replace")
        body = msgspec.json.encode(dict(parse_qsl(query, keep_blank_values=True)))
    return hashlib.sha256(body).hexdigest()


def _claims(secret: str, token: str) -> Mapping[str, Any]:
    """Returns the claims of a token that this secret signed. Raises SignedWebhookError."""
    if not secret or not token.isascii() or len(token) > _MAX_LENGTH:
        raise SignedWebhookError("the signed token is missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # Vonage chooses the secret
            # verify_webhook compares the times with the time of the request.
            claims: dict[str, Any] = jwt.decode(
                token, secret, algorithms=["HS256"], options={"verify_iat": False, "verify_exp": False}
            )
    except (jwt.InvalidTokenError, RecursionError) as error:
        raise SignedWebhookError(f"the token is invalid ({type(error).__name__})") from None
    return claims


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
