"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the side of the server.

Client and server prove to each other that they know the password, and neither sends it. So a program that takes the
port of the server learns nothing from its clients.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass

MECHANISM = "SCRAM-SHA-256"
_ITERATIONS = 4096


class AuthenticationError(Exception):
    """The client does not know the password, or sent an invalid message."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and the keys derived from the password."""

    user: str
    salt: bytes
    stored_key: bytes
    server_key: bytes


def credentials(user: str, password: str) -> Credentials:
    """Derives the keys of a password, with a new salt."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored_key = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    return Credentials(user, salt, stored_key, _mac(salted, b"Server Key"))


class Conversation:
    """Authentication of one client: `begin` with its first message, then `finish` with its last one."""

    def __init__(self, known: Credentials) -> None:
        self._known = known
        self._nonce = ""
        self._messages = ""

    def begin(self, message: bytes) -> bytes:
        """Returns the reply to the client's first message. Raises AuthenticationError."""
        header, bare = _text(message).split(",,", 1) if b",," in message else ("", "")
        fields = _fields(bare)
        if header not in ("n", "y") or fields.get("n") != self._known.user or not fields.get("r"):
            raise AuthenticationError("unknown user or invalid message")
        self._nonce = fields["r"] + secrets.token_urlsafe(18)
        salt = base64.b64encode(self._known.salt).decode()
        reply = f"r={self._nonce},s={salt},i={_ITERATIONS}"
        self._messages = f"{bare},{reply}"
        return reply.encode()

    def finish(self, message: bytes) -> bytes:
        """Returns the reply to the client's last message, which proves the password. Raises AuthenticationError."""
        without_proof, _, proof = _text(message).rpartition(",p=")
        fields = _fields(without_proof)
        if not self._nonce or not hmac.compare_digest(fields.get("r", "").encode(), self._nonce.encode()):
            raise AuthenticationError("the nonce differs")
        messages = f"{self._messages},{without_proof}".encode()
        try:
            client_key = _xor(base64.b64decode(proof), _mac(self._known.stored_key, messages))
        except (binascii.Error, ValueError):
            raise AuthenticationError("invalid proof") from None
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._known.stored_key):
            raise AuthenticationError("wrong password")
        return b"v=" + base64.b64encode(_mac(self._known.server_key, messages))


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise AuthenticationError("invalid message") from None


def _fields(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (field.partition("=") for field in text.split(","))}
