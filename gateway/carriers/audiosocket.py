"""Asterisk AudioSocket: TCP packets, each with a kind (1 byte), a length (2 bytes, big-endian) and its content.

Source: https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket/
The first packet is the call's UUID; there is no other metadata. The kind of the first audio packet gives the sampling
rate, so the stream begins with that packet.
"""

import struct
import uuid
from collections.abc import Sequence

from core.settings import Settings
from gateway.carriers.base import (
    Authorization,
    CallReport,
    Carrier,
    CarrierError,
    Decoder,
    Dtmf,
    Ignored,
    IncomingRequest,
    Message,
    Stop,
    StreamInstructions,
    StreamStart,
    VoiceResponse,
)
from gateway.carriers.common.auth import deny
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.raw_pcm import PcmStream
from schemas.media import Codec

HEADER = struct.Struct(">BH")
"""Header of a packet: kind and length."""

HANG_UP, UUID, DTMF, ERROR = 0x00, 0x01, 0x03, 0xFF
RATES_HZ = {
    0x10: 8000,
    0x11: 12000,
    0x12: 16000,
    0x13: 24000,
    0x14: 32000,
    0x15: 44100,
    0x16: 48000,
    0x17: 96000,
    0x18: 192000,
}
"""Sampling rate (Hz) by the kind of an audio packet."""

_TRACK = "inbound"  # AudioSocket carries one direction


class AudioSocketDecoder:
    """Decodes one connection, which is one stream. stream_id: a random one, because AudioSocket has none."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._call_id = ""
        self._audio_kind = 0
        self._audio: PcmStream | None = None
        self._digits = 0

    def text(self, data: bytes) -> Sequence[Message]:
        """Raises CarrierError: AudioSocket has no text messages."""
        raise CarrierError("unexpected text message")

    def binary(self, data: bytes) -> Sequence[Message]:
        """Decodes one complete packet, with its header. Raises CarrierError."""
        if len(data) < HEADER.size or len(data) != HEADER.size + HEADER.unpack_from(data)[1]:
            raise CarrierError("incomplete packet")
        kind, content = data[0], data[HEADER.size :]
        if kind == UUID:
            return self._read_uuid(content)
        if kind in RATES_HZ:
            return self._read_audio(kind, content)
        if kind == DTMF:
            if len(content) != 1 or not content.isascii() or not content.decode().isprintable():
                raise CarrierError("dtmf without a digit")
            self._digits += 1
            return (Dtmf(_TRACK, content.decode(), self._digits),)
        if kind == HANG_UP:
            # A call without audio is still a call.
            return (Stop(),) if self._audio or not self._call_id else (self._start(RATES_HZ[0x10]), Stop())
        return (Ignored("error" if kind == ERROR else f"kind {kind:#04x}"),)

    def _read_uuid(self, content: bytes) -> Sequence[Message]:
        if self._call_id or len(content) != 16:
            raise CarrierError("a second UUID" if self._call_id else "a UUID that is not 16 bytes")
        self._call_id = str(uuid.UUID(bytes=content))
        return ()

    def _read_audio(self, kind: int, content: bytes) -> Sequence[Message]:
        if not self._call_id:
            raise CarrierError("audio before the UUID")
        start: tuple[Message, ...] = ()
        if self._audio is None:
            start = (self._start(RATES_HZ[kind]),)
            self._audio_kind = kind
            self._audio = PcmStream(RATES_HZ[kind], (_TRACK,))
        elif kind != self._audio_kind:
            raise CarrierError(f"audio of kind {kind:#04x} in a stream of {self._audio_kind:#04x}")
        return (*start, *self._audio.frames(content))

    def _start(self, rate_hz: int) -> StreamStart:
        audio = media_format(Codec.L16, rate_hz)
        return StreamStart(
            call_id=self._call_id,
            stream_id=self._stream_id,
            account="",
            tracks=(_TRACK,),
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            timed=False,
        )


class AudioSocket:
    """Adapter for Asterisk. gateway.media.audiosocket_server handles its connections; it sends no HTTP requests."""

    subprotocols: Sequence[str] = ()
    token_at_start = False

    def authorize_socket(self, _request: IncomingRequest, _settings: Settings) -> Authorization:
        """Refuses every request: AudioSocket does not use WebSockets."""
        return deny("audiosocket over a WebSocket")

    def authorize_webhook(self, _request: IncomingRequest, _settings: Settings) -> Authorization:
        """Refuses every request: Asterisk has no webhooks."""
        return deny("audiosocket over HTTP")

    def decoder(self, _settings: Settings) -> Decoder:
        """Returns a decoder for one connection."""
        return AudioSocketDecoder(uuid.uuid4().hex)

    def requested_call_id(self, _request: IncomingRequest) -> str:
        """Returns "": there are no voice requests."""
        return ""

    def answer(self, _instructions: StreamInstructions, _settings: Settings) -> VoiceResponse | None:
        """Returns None: Asterisk's dial plan has `AudioSocket(uuid,host:port)` instead."""
        return None

    def report(self, _request: IncomingRequest) -> CallReport | None:
        """Returns None: there are no webhooks."""
        return None


CARRIER: Carrier = AudioSocket()
