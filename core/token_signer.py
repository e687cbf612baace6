"""Signs the tokens that AudioText issues: stream tokens, sessions and share links. Pure except for the clock.

A token is `at1.` and a JSON Web Token (HS256). The prefix distinguishes it from tokens of the carriers. It has no
character that must be escaped in a URL, a header or XML.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

PREFIX = "at1."

_ALGORITHM = "HS256"
_MAX_LENGTH = 4096  # longer tokens are rejected unread
_ID_BYTES = 9


class TokenError(Exception):
    """A token is malformed, has a wrong signature, has expired, or is for another audience. Contains no secret."""


class TokenSigner:
    """Signs and verifies tokens with one secret: a new secret invalidates all tokens.

    Each purpose of a token is an audience of its own: a token for one audience is invalid for every other.
    """

    def __init__(self, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        """clock: returns seconds since the epoch."""
        # A derived key, so that signatures made elsewhere with the same secret are not valid here.
        self._key = hmac.digest(secret.encode(), b"audiotext-token-1", hashlib.sha256)
        self._clock = clock

    def sign(self, audience: str, claims: Mapping[str, str], ttl_s: int) -> str:
        """Returns a token that carries the claims for `ttl_s` seconds. Each token has its own id, the claim `jti`."""
        content = {
            **claims,
            "aud": audience,
            "exp": int(self._clock()) + ttl_s,
            "jti": secrets.token_urlsafe(_ID_BYTES),
        }
        return PREFIX + jwt.encode(content, self._key, _ALGORITHM)

    def verify(self, audience: str, token: str) -> Mapping[str, Any]:
        """Returns the claims of a valid token, with `exp` (seconds since the epoch) and `jti`. Raises TokenError."""
        if not token.startswith(PREFIX) or len(token) > _MAX_LENGTH or not token.isascii():
            raise TokenError("the token is malformed")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token.removeprefix(PREFIX),
                self._key,
                [_ALGORITHM],
                audience=audience,
                options={"require": ["exp", "aud", "jti"], "verify_exp": False},
            )
        except jwt.InvalidSignatureError:
            raise TokenError("the token's signature is wrong") from None
        except jwt.InvalidAudienceError:
            raise TokenError(f"the token is not for {audience}") from None
        except jwt.InvalidTokenError:
            raise TokenError("the token is malformed") from None
        late_s = self._clock() - claims["exp"]
        if late_s >= 0:
            raise TokenError(f"the token expired {late_s:.0f} s ago")
        return claims

    def digest(self, purpose: str, content: str) -> str:
        """Returns a keyed digest (hex) of the content: it needs the secret to compute and does not reveal it."""
        return hmac.new(self._key, f"{purpose}\n{content}".encode(), hashlib.sha256).hexdigest()
