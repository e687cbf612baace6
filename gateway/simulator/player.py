"""A call from a file: what is sent, when, and over which connections."""

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
from gateway.simulator.faults import NO_FAULTS, Faults, Sending, bare, numbered
from gateway.simulator.transport import CallRefusedError, Transport, dialled
from schemas.media import Codec

# A sender that is behind its schedule lets others run at least this often, in messages.
_BREATHE_EVERY = 50


@dataclass(frozen=True, slots=True)
class Played:
    """What was sent. tracks: each track's distinct frames, in stream order (their seq counts per track, from 1), in
    the octets of the codec, L16 little-endian. messages: how many media messages that took, repeats included."""

    call_id: str
    stream_id: str
    tracks: Mapping[str, Sequence[Frame]]
    messages: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call is, for `on_progress`: stream time sent, of all there is."""

    call_id: str
    sent_ms: int
    total_ms: int


@dataclass(frozen=True, slots=True)
class _Leg:
    """One socket of the call. digits: by stream time in ms."""

    speaker: CarrierEncoder
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
    """Plays the file's first channel as inbound and its second, if the carrier sends two, as outbound.

    url: the media socket (ws://…/v1/media/{carrier}; tcp://host:port for audiosocket). auth_token: what the carrier
    proves itself with. public_url: what the gateway has as AUDIOTEXT_PUBLIC_URL, which signatures are made for.
    speed: times real time, above 0. codec, rate_hz: the carrier's usual ones if not given. dtmf: digits by stream
    time in ms. Ids are made up where none is given; numbers are those of the dialect, if it has any. on_sent: told of
    every frame, repeats included, right after it left: all that is known of a call that fails.

    Raises AudioFileError, CallRefusedError, UnsupportedPlayError.
    """
    dialect = load_dialects()[carrier]
    audio = _format(carrier, dialect, codec, rate_hz)
    if faults.need_numbers and not dialect.numbered:
        raise UnsupportedPlayError(
            f"{carrier}'s frames carry no numbers or times: they can come late or be cut off, not be lost or repeated"
        )
    made_up = dialect.ids()
    call_id, stream_id = call_id or made_up[0], stream_id or made_up[1]
    channels = await asyncio.to_thread(telephone_audio.frames, wav, audio.codec, audio.rate_hz, dialect.frame_ms)
    # A telephone has two directions; channels beyond that have no place in a call.
    tracks = dict(zip(TRACKS[: 1 if dialect.shape is Shape.MONO else 2], channels, strict=False))
    groups = [{track: tracks[track]} for track in tracks] if dialect.shape is Shape.LEGS else [tracks]
    legs = []
    for group in groups:
        plan = numbered(group, dialect.frame_ms, faults) if dialect.numbered else bare(group, dialect.frame_ms, faults)
        speaker = dialect.speaker(
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
        legs.append(_Leg(speaker, plan, sorted(dtmf, key=lambda pressed: pressed[0]) if TRACKS[0] in group else ()))
    headers = dialect.headers(auth_token, _public_socket_url(url, public_url))

    total_ms = max((int(leg.sendings[-1].due_ms) for leg in legs if leg.sendings), default=0)

    def tell(sent_ms: float) -> None:
        if on_progress is not None:
            on_progress(Progress(call_id, int(sent_ms), total_ms))

    async def speak(leg: _Leg) -> None:
        async with dialled(url, headers, dialect.subprotocols) as line:
            await _speak(leg, line, speed, tell if leg is legs[0] else None, on_sent)
            if faults.drop_at_ms is None:
                for message in leg.speaker.closing():
                    await line.send(message)
            else:
                await line.cut()

    results = await asyncio.gather(*(speak(leg) for leg in legs), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    if total_ms:
        tell(total_ms)
    sent = [frame for leg in legs for sending in leg.sendings for frame in sending.frames]
    return Played(call_id, stream_id, _by_track(sent, tracks), sum(len(leg.sendings) for leg in legs))


async def _speak(
    leg: _Leg,
    line: Transport,
    speed: float,
    tell: Callable[[float], None] | None,
    on_sent: Callable[[Frame], None] | None,
) -> None:
    """Sends one socket's messages, each at its time. Raises CallRefusedError when the gateway hangs up."""
    answer = asyncio.ensure_future(line.closed())
    try:
        for message in leg.speaker.opening():
            await line.send(message)
        started = time.monotonic()
        digits = list(reversed(leg.digits))
        for number, sending in enumerate(leg.sendings):
            # Absolute deadlines: a message that leaves late does not make the later ones late too.
            ahead_s = started + sending.due_ms / 1000 / speed - time.monotonic()
            if ahead_s > 0.001 or number % _BREATHE_EVERY == 0:
                await asyncio.sleep(max(ahead_s, 0))
            if answer.done():
                raise CallRefusedError(f"the gateway closed the call: {answer.result()}")
            while digits and digits[-1][0] <= sending.due_ms:
                await line.send(leg.speaker.dtmf(digits.pop()[1]))
            await line.send(leg.speaker.media(sending.frames))
            if on_sent is not None:
                for frame in sending.frames:
                    on_sent(frame)
            if tell is not None and number % _BREATHE_EVERY == 0:
                tell(sending.due_ms)
    finally:
        # The reader must be out of the way before a socket waits for the close frame itself.
        answer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answer


def _format(carrier: str, dialect: Dialect, codec: Codec | None, rate_hz: int | None) -> MediaFormat:
    for known in dialect.formats:
        if codec in (None, known.codec) and rate_hz in (None, known.rate_hz):
            return known
    spoken = ", ".join(f"{known.codec} at {known.rate_hz} Hz" for known in dialect.formats)
    raise UnsupportedPlayError(f"{carrier} sends {spoken}")


def _public_socket_url(url: str, public_url: str) -> str:
    """The media socket's URL as the carrier was given it."""
    parts = urlsplit(url)
    return socket_url(public_url.rstrip("/"), parts.path + (f"?{parts.query}" if parts.query else ""))


def _by_track(sent: Sequence[Frame], tracks: Mapping[str, object]) -> dict[str, list[Frame]]:
    distinct = {(frame.track, frame.seq): frame for frame in sent}
    return {
        track: sorted((frame for frame in distinct.values() if frame.track == track), key=lambda frame: frame.seq)
        for track in tracks
    }
