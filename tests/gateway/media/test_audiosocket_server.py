"""Tests of the AudioSocket server with real connections, and a sink in memory instead of a log."""

import asyncio
import contextlib
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.settings import AudioSocketSettings, GatewaySettings, Settings
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers import load_carriers
from gateway.media.audiosocket_server import AudioSocketServer, enable_keepalive
from gateway.metrics import Metrics
from gateway.simulator import CallRefusedError, Faults, UnsupportedPlayError, play
from schemas.events import StreamEnded
from schemas.media import EosReason, RecordType
from tests.support.twilio_messages import MemorySink, media_of

IDENTITY = uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


def packet(kind: int, content: bytes = b"") -> bytes:
    return struct.pack(">BH", kind, len(content)) + content


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition is true. Fails after 5 s."""
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Port:
    """A running server, and what came of it."""

    def __init__(self, *allowed: str, idle_timeout_s: float = 60.0) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.number = free.getsockname()[1]
        settings = Settings(
            gateway=GatewaySettings(idle_timeout_s=idle_timeout_s),
            audiosocket=AudioSocketSettings(
                port=self.number, allowed_peers=tuple(map(ip_network, allowed)), tenant="acme"
            ),
        )
        self.sink = MemorySink()
        self.metrics = Metrics()
        self.server = AudioSocketServer(
            settings, load_carriers()["audiosocket"], StreamAuthorizer(settings), self.sink, self.metrics
        )
        self.url = f"tcp://127.0.0.1:{self.number}"

    async def ended(self) -> EosReason:
        """Waits for the stream's end; its reason."""
        await until(lambda: any(record.type is RecordType.EOS for record in self.sink.records))
        return EosReason(self.sink.records[-1].detail)

    async def refused(self, reason: str) -> None:
        """Waits until a connection was refused for that."""
        counted = f'refused_sockets_total{{reason="{reason}"}} 1.0'.encode()
        await until(lambda: counted in self.metrics.render())


Open = Callable[..., Awaitable[Port]]


@pytest.fixture
async def listening() -> AsyncIterator[Open]:
    """Opens ports."""
    ports: list[Port] = []

    async def start(*allowed: str, idle_timeout_s: float = 60.0) -> Port:
        port = Port(*allowed, idle_timeout_s=idle_timeout_s)
        await port.server.start()
        ports.append(port)
        return port

    yield start
    for port in ports:
        await port.server.drain()


@contextlib.asynccontextmanager
async def connected(port: Port) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_call_is_recorded(listening: Open, tmp_path: Path) -> None:
    """Plays a WAV of 16 kHz as Asterisk does: the log has its samples under the call's UUID, and its end."""
    port = await listening("127.0.0.0/8")
    samples = np.random.default_rng(1).integers(-9000, 9000, 16_000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="PCM_16")
    played = await play(
        tmp_path / "a.wav",
        carrier="audiosocket",
        url=port.url,
        auth_token="",
        public_url="https://calls.example.com",
        rate_hz=16000,
        speed=50,
        dtmf=[(100, "7")],
    )
    assert await port.ended() is EosReason.CARRIER_STOP
    assert {record.call_id for record in port.sink.records} == {played.call_id}
    assert {(record.tenant, record.rate_hz) for record in port.sink.records} == {("acme", 16000)}
    assert b"".join(record.payload for record in media_of(port.sink.records)) == samples.tobytes()
    assert [record.detail for record in port.sink.records if record.type is RecordType.DTMF] == ["7"]


async def test_a_broken_connection_ends_the_stream(listening: Open, tmp_path: Path) -> None:
    """Breaks the connection without a hang-up: the log has the audio so far, and the end."""
    port = await listening("127.0.0.1")
    soundfile.write(tmp_path / "a.wav", np.ones(8000, np.int16), 8000, subtype="PCM_16")
    await play(
        tmp_path / "a.wav",
        carrier="audiosocket",
        url=port.url,
        auth_token="",
        public_url="https://calls.example.com",
        speed=50,
        faults=Faults(drop_at_ms=500),
    )
    assert await port.ended() is EosReason.SOCKET_CLOSED
    (ended,) = [event for event in port.sink.events if isinstance(event, StreamEnded)]
    assert 0 < ended.frames <= 24  # an aborted connection may lose what was not read yet


async def test_packets_may_come_in_any_pieces(listening: Open) -> None:
    """Sends a call byte by byte: TCP does not keep the borders of packets."""
    port = await listening("127.0.0.1")
    said = packet(0x01, IDENTITY.bytes) + packet(0x10, bytes(320)) + packet(0x00)
    async with connected(port) as (_, writer):
        for octet in said:
            writer.write(bytes([octet]))
            await writer.drain()
        assert await port.ended() is EosReason.CARRIER_STOP
    assert port.sink.records[0].call_id == str(IDENTITY)


@pytest.mark.parametrize("allowed", [(), ("10.0.0.0/8",), ("::1",)])
async def test_other_addresses_are_refused(listening: Open, allowed: tuple[str, ...]) -> None:
    """Connects without configured peers, and with other ones: the connection is closed unread, and counted.

    The protocol has no authentication, so an open port would let every client write recordings.
    """
    port = await listening(*allowed)
    async with connected(port) as (reader, writer):
        writer.write(packet(0x01, IDENTITY.bytes) + packet(0x10, bytes(320)))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    await port.refused("unauthorized")
    assert port.sink.items == []


async def test_an_unsupported_rate_closes_the_connection(listening: Open) -> None:
    """Sends 44.1 kHz: the connection is closed and counted, and not recorded at the wrong speed."""
    port = await listening("127.0.0.1")
    async with connected(port) as (reader, writer):
        writer.write(packet(0x01, IDENTITY.bytes) + packet(0x15, bytes(882)))
        assert await reader.read() == b""
    await port.refused("unsupported-codec")


async def test_silence_closes_the_connection(listening: Open) -> None:
    """Sends the UUID, then nothing: the connection is closed after the idle time.

    If this fails, a client can hold connections without cost.
    """
    port = await listening("127.0.0.1", idle_timeout_s=0.2)
    async with connected(port) as (reader, writer):
        writer.write(packet(0x01, IDENTITY.bytes))
        assert await asyncio.wait_for(reader.read(), 5) == b""
    await port.refused("idle")


async def test_draining_ends_every_stream(listening: Open) -> None:
    """Drains during a call: its audio and its end are emitted, and the port is closed."""
    port = await listening("127.0.0.1")
    async with connected(port) as (reader, writer):
        writer.write(packet(0x01, IDENTITY.bytes) + packet(0x10, bytes(320)))
        await until(lambda: bool(port.sink.items))
        await port.server.drain()
        assert await reader.read() == b""
    assert await port.ended() is EosReason.GATEWAY_DRAINING
    assert len(media_of(port.sink.records)) == 1
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", port.number)


async def test_without_a_port_nothing_listens() -> None:
    """Starts with the default settings: no port is opened."""
    server = AudioSocketServer(
        Settings(), load_carriers()["audiosocket"], StreamAuthorizer(Settings()), MemorySink(), Metrics()
    )
    await server.start()
    await server.drain()


async def test_a_taken_port_is_an_error(listening: Open) -> None:
    """Starts a second server on the same port: the error names the setting."""
    port = await listening("127.0.0.1")
    settings = Settings(audiosocket=AudioSocketSettings(port=port.number))
    second = AudioSocketServer(
        settings, load_carriers()["audiosocket"], StreamAuthorizer(settings), MemorySink(), Metrics()
    )
    with pytest.raises(SystemExit, match="AUDIOTEXT_AUDIOSOCKET__PORT"):
        await second.start()


async def test_the_simulator_reports_what_audiosocket_lacks(tmp_path: Path) -> None:
    """Requests an invalid call id, lost frames, mu-law, and a closed port: one clear error each."""
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.int16), 8000)
    common = {"carrier": "audiosocket", "auth_token": "", "public_url": "https://calls.example.com"}
    for asked, text in (
        ({"call_id": "CA1"}, "UUID"),
        ({"faults": Faults(loss=0.1)}, "no numbers"),
        ({"rate_hz": 44100}, "L16 at 8000 Hz"),
    ):
        with pytest.raises(UnsupportedPlayError, match=text):
            await play(tmp_path / "a.wav", url="tcp://127.0.0.1:9", **common, **asked)  # type: ignore[arg-type]  # any
    with pytest.raises(CallRefusedError, match=r"127\.0\.0\.1:9"):
        await play(tmp_path / "a.wav", url="tcp://127.0.0.1:9", **common)  # type: ignore[arg-type]  # of the keywords


async def test_tcp_probes_silent_connections() -> None:
    """Reads the options of an accepted connection: TCP probes it every 30 s and closes it after two failed probes.

    AudioSocket has no pings, and Asterisk on hold may send nothing.
    """
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0)
    async with server:
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer = await accepted
        enable_keepalive(writer, 30)
        connection = writer.get_extra_info("socket")
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [30, 30, 2]
        writer.close()
        client.close()
