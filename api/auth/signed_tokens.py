"""Signed tokens that carry claims for a limited time. Pure except for the clock."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

_ALGORITHM = "HS256"
_MAX_LENGTH = 4096  # longer tokens are rejected unread


class TokenSigner:
    """Signs and verifies tokens with one secret: a new secret invalidates all tokens."""

    def __init__(self, secret: str) -> None:
        # A derived key, so that signatures made elsewhere with the same secret are not valid here.
        self._key = hmac.digest(secret.encode(), b"audiotext-seal-1", hashlib.sha256)

    def sign(self, purpose: str, claims: dict[str, str], ttl_s: int) -> str:
        """Returns a token that carries the claims for `ttl_s` seconds and is valid for this purpose only."""
        until = datetime.now(UTC) + timedelta(seconds=ttl_s)
        return jwt.encode({**claims, "aud": purpose, "exp": until}, self._key, _ALGORITHM)

    def verify(self, purpose: str, token: str) -> dict[str, Any] | None:
        """Returns the token's claims, including `exp` (seconds since the epoch).

        Returns None if the token is forged, expired or signed for another purpose.
        """
        if len(token) > _MAX_LENGTH:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._key, [_ALGORITHM], audience=purpose, options={"require": ["exp", "aud"]}
            )
        except jwt.InvalidTokenError:
            return None
        return claims

    def digest(self, purpose: str, content: str) -> str:
        """Returns a keyed digest (hex) of the content: it needs the secret to compute and does not reveal it."""
        return hmac.new(self._key, f"{purpose}\n{content}".encode(), hashlib.sha256).hexdigest()
