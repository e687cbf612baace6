"""Player of a call from a file: plans the messages and sends each at its time."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.carriers.base import TRACKS, Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.carriers.common.signatures import socket_url
from gateway.simulator import telephone_audio
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, UnsupportedPlayError, load_dialects
from gateway.simulator.faults import NO_FAULTS, Faults, Sending, numbered, unnumbered
from gateway.simulator.transport import CallRefusedError, Transport, connect
from schemas.media import Codec

# A sender that is late yields to other tasks after this number of messages.
_YIELD_EVERY = 50


@dataclass(frozen=True, slots=True)
class Played:
    """Audio that was sent.

    tracks: the distinct frames of each track, in stream order (seq counts per track, from 1), as bytes of the codec;
    L16 is little-endian. messages: the number of media messages, repetitions included.
    """

    call_id: str
    stream_id: str
    tracks: Mapping[str, Sequence[Frame]]
    messages: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a call, for `on_progress`: the stream time that is sent, and the total."""

    call_id: str
    sent_ms: int
    total_ms: int


@dataclass(frozen=True, slots=True)
class _Leg:
    """One socket of the call. digits: with their stream times in ms."""

    encoder: CarrierEncoder
    sendings: Sequence[Sending]
    digits: Sequence[tuple[int, str]]


async def play(
    wav: Path,
    *,
    url: str,
    auth_token: str,
    public_url: str,
    call_id: str | None = None,
    from_number: str = "",
    to_number: str = "",
    stream_id: str | None = None,
    speed: float = 1.0,
    codec: Codec | None = None,
    rate_hz: int | None = None,
    faults: Faults = NO_FAULTS,
    dtmf: Sequence[tuple[int, str]] = (),
    custom: dict[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_sent: Callable[[Frame], None] | None = None,
    carrier: str = "twilio",
) -> Played:
    """Plays the first channel as inbound and, if the carrier sends two tracks, the second channel as outbound.

    url: the media socket (ws://…/v1/media/{carrier}; tcp://host:port for audiosocket). auth_token: the carrier's
    secret. public_url: the gateway's AUDIOTEXT_PUBLIC_URL, for which signatures are made. speed: multiple of real time,
    above 0. codec, rate_hz: by default the carrier's usual ones. dtmf: digits with their stream times in ms. By
    default ids are random, and the numbers are those of the encoder, if it has any. on_sent: invoked for every frame,
    repetitions included, directly after it is sent; it is the only result of a call that fails.

    Raises AudioFileError, CallRefusedError, UnsupportedPlayError.
    """
    dialect = load_dialects()[carrier]
    audio = _format(carrier, dialect, codec, rate_hz)
    if faults.need_numbers and not dialect.numbered:
        raise UnsupportedPlayError(
            f"{carrier}'s frames have no numbers or timestamps: it supports only pauses, delays and a broken connection"
        )
    random_ids = dialect.ids()
    call_id, stream_id = call_id or random_ids[0], stream_id or random_ids[1]
    channels = await asyncio.to_thread(telephone_audio.frames, wav, audio.codec, audio.rate_hz, dialect.frame_ms)
    # A call has two directions; other channels are ignored.
    tracks = dict(zip(TRACKS[: 1 if dialect.shape is Shape.MONO else 2], channels, strict=False))
    groups = [{track: tracks[track]} for track in tracks] if dialect.shape is Shape.LEGS else [tracks]
    legs = []
    for group in groups:
        plan_messages = numbered if dialect.numbered else unnumbered
        sendings = plan_messages(group, dialect.frame_ms, faults)
        encoder = dialect.encoder(
            CallPlan(
                call_id,
                stream_id,
                list(group),
                audio,
                custom or {},
                from_number=from_number,
                to_number=to_number,
            )
        )
        legs.append(_Leg(encoder, sendings, sorted(dtmf, key=lambda pressed: pressed[0]) if TRACKS[0] in group else ()))
    headers = dialect.headers(auth_token, _public_socket_url(url, public_url))

    total_ms = max((int(leg.sendings[-1].due_ms) for leg in legs if leg.sendings), default=0)

    def report(sent_ms: float) -> None:
        if on_progress is not None:
            on_progress(Progress(call_id, int(sent_ms), total_ms))

    async def play_leg(leg: _Leg) -> None:
        async with connect(url, headers, dialect.subprotocols) as transport:
            await _send_leg(leg, transport, speed, report if leg is legs[0] else None, on_sent)
            if faults.drop_at_ms is None:
                for message in leg.encoder.closing():
                    await transport.send(message)
            else:
                await transport.cut()

    results = await asyncio.gather(*(play_leg(leg) for leg in legs), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    if total_ms:
        report(total_ms)
    sent = [frame for leg in legs for sending in leg.sendings for frame in sending.frames]
    return Played(call_id, stream_id, _by_track(sent, tracks), sum(len(leg.sendings) for leg in legs))


async def _send_leg(
    leg: _Leg,
    transport: Transport,
    speed: float,
    report: Callable[[float], None] | None,
    on_sent: Callable[[Frame], None] | None,
) -> None:
    """Sends one socket's messages, each at its time. Raises CallRefusedError if the gateway closes the call."""
    closed = asyncio.ensure_future(transport.closed())
    try:
        for message in leg.encoder.opening():
            await transport.send(message)
        started = time.monotonic()
        digits = list(reversed(leg.digits))
        for number, sending in enumerate(leg.sendings):
            # Deadlines are absolute, so a late message does not delay the ones after it.
            ahead_s = started + sending.due_ms / 1000 / speed - time.monotonic()
            if ahead_s > 0.001 or number % _YIELD_EVERY == 0:
                await asyncio.sleep(max(ahead_s, 0))
            if closed.done():
                raise CallRefusedError(f"the gateway closed the call: {closed.result()}")
            while digits and digits[-1][0] <= sending.due_ms:
                await transport.send(leg.encoder.dtmf(digits.pop()[1]))
            await transport.send(leg.encoder.media(sending.frames))
            if on_sent is not None:
                for frame in sending.frames:
                    on_sent(frame)
            if report is not None and number % _YIELD_EVERY == 0:
                report(sending.due_ms)
    finally:
        # The reader must end before the socket itself waits for the close frame.
        closed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closed


def _format(carrier: str, dialect: Dialect, codec: Codec | None, rate_hz: int | None) -> MediaFormat:
    for known in dialect.formats:
        if codec in (None, known.codec) and rate_hz in (None, known.rate_hz):
            return known
    supported = ", ".join(f"{known.codec} at {known.rate_hz} Hz" for known in dialect.formats)
    raise UnsupportedPlayError(f"{carrier} sends {supported}")


def _public_socket_url(url: str, public_url: str) -> str:
    """Returns the URL of the media socket that the carrier knows."""
    parts = urlsplit(url)
    return socket_url(public_url.rstrip("/"), parts.path + (f"?{parts.query}" if parts.query else ""))


def _by_track(sent: Sequence[Frame], tracks: Mapping[str, object]) -> dict[str, list[Frame]]:
    distinct = {(frame.track, frame.seq): frame for frame in sent}
    return {
        track: sorted((frame for frame in distinct.values() if frame.track == track), key=lambda frame: frame.seq)
        for track in tracks
    }
