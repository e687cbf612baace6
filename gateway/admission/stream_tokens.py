"""Our own stream tokens: signed, expiring, good for one call. Pure: the time and the secret are given.

A token is `at1.<claims>.<signature>`: the claims as a JSON list and HMAC-SHA256 over them, both in base64url. It is
short, for carriers allow an address or a parameter a few hundred characters, and has no character that would have to
be escaped in a URL, a header or XML.
"""

import base64
import hashlib
import hmac

import msgspec

PREFIX = "at1."

_MAX_LENGTH = 1024  # of a token that is looked at at all
_DOMAIN = b"audiotext-stream-token-1\n"  # so that the secret's signatures of anything else are no tokens


class TokenError(Exception):
    """Not a token, not ours, or no longer good. The text holds nothing secret."""


class StreamClaims(msgspec.Struct, frozen=True, array_like=True):
    """What a token says. call_id: the call it is for; "" = the first one that uses it, told by the nonce.

    expires_s: seconds since the epoch. tenant: whose calls; carrier: whose sockets.
    """

    tenant: str
    carrier: str
    call_id: str
    nonce: str
    expires_s: int


_decode = msgspec.json.Decoder(StreamClaims).decode


def issue(secret: str, claims: StreamClaims) -> str:
    """The token that says this."""
    body = _base64url(msgspec.json.encode(claims))
    return f"{PREFIX}{body}.{_signature(secret, body)}"


def verify(secret: str, token: str, now_s: float) -> StreamClaims:
    """What a token says. now_s: seconds since the epoch. Raises TokenError."""
    if not secret:
        raise TokenError("no stream tokens are given out here: set AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET")
    if not token.startswith(PREFIX) or len(token) > _MAX_LENGTH or not token.isascii():
        raise TokenError("no stream token")
    body, _, signature = token.removeprefix(PREFIX).partition(".")
    if not hmac.compare_digest(signature, _signature(secret, body)):
        raise TokenError("a stream token's signature is wrong")
    try:
        claims = _decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, msgspec.MsgspecError):
        raise TokenError("a stream token that says nothing") from None
    if now_s >= claims.expires_s:
        raise TokenError(f"a stream token that expired {now_s - claims.expires_s:.0f} s ago")
    return claims


def _signature(secret: str, body: str) -> str:
    return _base64url(hmac.digest(secret.encode(), _DOMAIN + body.encode(), hashlib.sha256))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
