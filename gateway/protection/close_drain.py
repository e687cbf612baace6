"""A connection whose end has been told: what the other side has sent meanwhile is read, but no flood."""

import asyncio
from typing import cast

LINGER_BYTES = 64 * 1024
"""What is still read of a stream that was hung up on: its answer to the close frame, and what was on its way before."""


def drain_on_close(transport: asyncio.Transport, octets: int = LINGER_BYTES) -> None:
    """Has the connection's protocol hear so many octets more; then nothing is read any more, and who goes on sending
    waits for us instead of us working for him. Whoever asks for it closes the connection soon."""
    transport.set_protocol(_ClosingConnection(transport, octets))


class _ClosingConnection(asyncio.Protocol):
    """Stands before the connection's protocol."""

    def __init__(self, transport: asyncio.Transport, octets: int) -> None:
        self._transport = transport
        self._protocol = cast(asyncio.Protocol, transport.get_protocol())
        self._left = octets

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self._protocol.data_received(data)
        elif not self._transport.is_closing():
            self._transport.pause_reading()  # once more, if the protocol has resumed it

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
