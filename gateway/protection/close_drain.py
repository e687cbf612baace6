"""Drain of a closing connection: reads what the peer still sends, up to a limit."""

import asyncio
from typing import cast

DRAIN_BYTES = 64 * 1024
"""Bytes still read from a closing stream: the reply to the close frame, and data that was already in transit."""


def drain_on_close(transport: asyncio.Transport, limit_bytes: int = DRAIN_BYTES) -> None:
    """Lets the connection's protocol receive this many more bytes, then stops reading.

    A peer that continues to send then fills its own buffers and costs the gateway nothing. The caller closes the
    connection soon.
    """
    transport.set_protocol(_ClosingConnection(transport, limit_bytes))


class _ClosingConnection(asyncio.Protocol):
    """Protocol that wraps the connection's protocol and limits the received bytes."""

    def __init__(self, transport: asyncio.Transport, limit_bytes: int) -> None:
        self._transport = transport
        self._protocol = cast(asyncio.Protocol, transport.get_protocol())
        self._left = limit_bytes

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self._protocol.data_received(data)
        elif not self._transport.is_closing():
            self._transport.pause_reading()  # again, if the protocol has resumed reading

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
