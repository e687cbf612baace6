"""Requests to Twilio's media socket."""

from gateway.carriers.common.signatures import HEADER, sign
from tests.support.twilio_messages import PUBLIC_URL, TOKEN

MEDIA = "/v1/media/twilio"
SIGNED = {HEADER: sign(TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)}


def upgrade(signature: str, path: str = MEDIA, more: str = "") -> bytes:
    """Returns the bytes of a WebSocket request with this signature. more: further header lines."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{HEADER}: {signature}\r\n{more}\r\n"
    ).encode()
