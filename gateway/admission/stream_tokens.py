"""Our own stream tokens: signed, expiring, valid for one call. Pure: the caller passes the time and the secret.

A token is `at1.<claims>.<signature>`: the claims as a JSON list and HMAC-SHA256 over them, both in base64url. It is
short, because carriers limit a URL or a parameter to a few hundred characters, and contains no character that must be
escaped in a URL, a header or XML.
"""

import base64
import hashlib
import hmac

import msgspec

PREFIX = "at1."

_MAX_LENGTH = 1024  # characters; longer tokens are rejected unread
_SIGNATURE_CONTEXT = b"audiotext-stream-token-1\n"  # other signatures with the same secret are not valid tokens


class TokenError(Exception):
    """A token is malformed, has a wrong signature, has expired, or is for something else. Contains no secret."""


class StreamClaims(msgspec.Struct, frozen=True, array_like=True):
    """Content of a token.

    tenant: owner of the call. carrier: carrier whose socket may use it. call_id: the call it is for; "" = the first one
    that uses it, which `nonce` identifies. expires_s: seconds since the epoch.
    """

    tenant: str
    carrier: str
    call_id: str
    nonce: str
    expires_s: int


_decode = msgspec.json.Decoder(StreamClaims).decode


def issue(secret: str, claims: StreamClaims) -> str:
    """Returns the signed token with these claims."""
    body = _base64url(msgspec.json.encode(claims))
    return f"{PREFIX}{body}.{_signature(secret, body)}"


def verify(secret: str, token: str, now_s: float) -> StreamClaims:
    """Returns the claims of a valid token. now_s: seconds since the epoch. Raises TokenError."""
    if not secret:
        raise TokenError("stream tokens are disabled: set AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET")
    if not token.startswith(PREFIX) or len(token) > _MAX_LENGTH or not token.isascii():
        raise TokenError("not a stream token")
    body, _, signature = token.removeprefix(PREFIX).partition(".")
    if not hmac.compare_digest(signature, _signature(secret, body)):
        raise TokenError("the stream token's signature is wrong")
    try:
        claims = _decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, msgspec.MsgspecError):
        raise TokenError("the stream token's content is invalid") from None
    if now_s >= claims.expires_s:
        raise TokenError(f"the stream token expired {now_s - claims.expires_s:.0f} s ago")
    return claims


def _signature(secret: str, body: str) -> str:
    return _base64url(hmac.digest(secret.encode(), _SIGNATURE_CONTEXT + body.encode(), hashlib.sha256))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
