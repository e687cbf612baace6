"""Who may open a socket, where a carrier offers no signature: whoever knows the token. Not configured is denied."""

import hmac

from pydantic import SecretStr

from gateway.carriers import Proof, UnauthorizedError


def require_bearer(proof: Proof, token: SecretStr | None, setting: str) -> None:
    """Passes `Authorization: Bearer <token>`. setting: its name, for the log. Raises UnauthorizedError."""
    if token is None or not token.get_secret_value():
        raise UnauthorizedError(f"no token is configured: set {setting}")
    given = proof.headers.get("Authorization", "").encode(errors="surrogateescape")
    scheme, _, credentials = given.partition(b" ")
    if scheme.lower() != b"bearer" or not hmac.compare_digest(credentials.strip(), token.get_secret_value().encode()):
        raise UnauthorizedError(f"no bearer token, or not that of {setting}")


def deny(carrier: str) -> None:
    """For a carrier whose requests nothing proves. Raises UnauthorizedError."""
    raise UnauthorizedError(f"nothing is configured that proves a request to come from {carrier}")
