"""What we give out and take back unread: signed words that say something for a while. Pure but for the clock."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

_ALGORITHM = "HS256"
_MAX_LENGTH = 4096  # of a token that is looked at at all


class TokenSigner:
    """Signs and checks with one secret: whoever changes it ends everything that was given out."""

    def __init__(self, secret: str) -> None:
        # A key of its own, so that signatures made elsewhere with the same secret are none here.
        self._key = hmac.digest(secret.encode(), b"audiotext-seal-1", hashlib.sha256)

    def sign(self, purpose: str, claims: dict[str, str], ttl_s: int) -> str:
        """A token that says this for so many seconds, to whoever asks for the same purpose."""
        until = datetime.now(UTC) + timedelta(seconds=ttl_s)
        return jwt.encode({**claims, "aud": purpose, "exp": until}, self._key, _ALGORITHM)

    def verify(self, purpose: str, token: str) -> dict[str, Any] | None:
        """What the token says, `exp` (seconds since the epoch) included; None if it is forged, expired or for another
        purpose."""
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
        """A word for the content that nobody can make who has not the secret, and that does not give it away."""
        return hmac.new(self._key, f"{purpose}\n{content}".encode(), hashlib.sha256).hexdigest()
