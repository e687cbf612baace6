"""A carrier, simulated: plays an audio file into a gateway exactly as Twilio Media Streams would.

Behind `audiotext call FILE`, the demo and the tests. It can also misbehave the way networks and carriers do
(`Faults`), always in the same way for the same seed, and it returns what it sent, so that a recording can be
compared with it sample by sample.
"""

import asyncio
import base64
import contextlib
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from gateway import telephone_audio
from gateway.carriers import TRACKS, Frame
from gateway.signatures import HEADER, sign, socket_url
from schemas.media import Codec

FRAME_MS = 20
_FRAME_BYTES = telephone_audio.RATE_HZ * FRAME_MS // 1000
_ENCODINGS = {Codec.PCMU: "audio/x-mulaw", Codec.PCMA: "audio/x-alaw"}

# A sender that is behind its schedule lets others run at least this often, in frames.
_BREATHE_EVERY = 50


class CallRefusedError(Exception):
    """The gateway did not take the call, or closed it before its end; the message says what it answered."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the way. All times are stream times in ms.

    shuffle_ms: each frame is late by a random part of this, so that frames overtake each other.
    clock_jitter_ms: each timestamp is off by up to this. duplicate: probability that a frame is sent twice.
    holes: (start, end) of frames that are never sent. drop_at_ms: the connection is cut there, without stop.
    """

    shuffle_ms: int = 0
    clock_jitter_ms: int = 0
    duplicate: float = 0.0
    holes: Sequence[tuple[int, int]] = ()
    drop_at_ms: int | None = None
    seed: int = 0


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Played:
    """What was sent. tracks: each track's distinct frames, in stream order (their seq counts per track, from 1).
    messages: how many media messages that took, repeats included."""

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
class _Sending:
    """A frame and the stream time at which it leaves."""

    due_ms: float
    frame: Frame


async def play(
    wav: Path,
    *,
    url: str,
    auth_token: str,
    public_url: str,
    call_id: str | None = None,
    stream_id: str | None = None,
    speed: float = 1.0,
    codec: Codec = Codec.PCMU,
    faults: Faults = NO_FAULTS,
    dtmf: Sequence[tuple[int, str]] = (),
    custom: dict[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Played:
    """Plays the file's first channel as inbound and its second, if any, as outbound.

    url: the media socket (ws://…/v1/media/twilio). public_url: what the gateway has as AUDIOTEXT_PUBLIC_URL, which
    the upgrade is signed for. speed: times real time, above 0. dtmf: digits by stream time in ms. Ids are made up
    where none is given. Raises AudioFileError and CallRefusedError.
    """
    call_id = call_id or f"CA{uuid.uuid4().hex}"
    stream_id = stream_id or f"MZ{uuid.uuid4().hex}"
    channels = await asyncio.to_thread(telephone_audio.read, wav, codec)
    plan = _plan(channels, codec, faults)
    messages = _Messages(call_id, stream_id)
    sent: list[Frame] = []
    async with _connected(url, public_url, auth_token) as (client, socket):
        answer = asyncio.ensure_future(_until_closed(socket))
        try:
            await socket.send_str(messages.connected())
            await socket.send_str(messages.start(TRACKS[: len(channels)], codec, custom or {}))
            started = time.monotonic()
            digits = sorted(dtmf, reverse=True)
            for number, sending in enumerate(plan):
                # Absolute deadlines: a frame that leaves late does not make the later ones late too.
                ahead_s = started + sending.due_ms / 1000 / speed - time.monotonic()
                if ahead_s > 0.001 or number % _BREATHE_EVERY == 0:
                    await asyncio.sleep(max(ahead_s, 0))
                if answer.done():
                    raise CallRefusedError(f"the gateway closed the call: {answer.result()}")
                while digits and digits[-1][0] <= sending.due_ms:
                    await socket.send_str(messages.dtmf(digits.pop()[1]))
                await socket.send_str(messages.media(sending.frame))
                sent.append(sending.frame)
                if on_progress is not None and number % _BREATHE_EVERY == 0:
                    on_progress(Progress(call_id, int(sending.due_ms), int(plan[-1].due_ms)))
            if faults.drop_at_ms is None:
                await socket.send_str(messages.stop())
            elif client.connector is not None:
                await client.connector.close()  # no close frame: the line is cut
        finally:
            # The reader must be out of the way before the socket waits for the close frame itself.
            answer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answer
    if on_progress is not None and plan:
        on_progress(Progress(call_id, int(plan[-1].due_ms), int(plan[-1].due_ms)))
    return Played(call_id, stream_id, _by_track(sent, len(channels)), len(sent))


def _plan(channels: Sequence[bytes], codec: Codec, faults: Faults) -> list[_Sending]:
    """Every media message, in the order in which they leave."""
    chance = random.Random(faults.seed)
    plan = []
    # A telephone has two directions; channels beyond that have no place in a call.
    for track, octets in zip(TRACKS, channels, strict=False):
        for number, payload in enumerate(telephone_audio.frames_of(octets, codec, _FRAME_BYTES)):
            at_ms = number * FRAME_MS
            if any(start <= at_ms < end for start, end in faults.holes):
                continue
            ts_ms = max(0, at_ms + chance.randint(-faults.clock_jitter_ms, faults.clock_jitter_ms))
            frame = Frame(track, number + 1, ts_ms, payload)
            for _ in range(2 if chance.random() < faults.duplicate else 1):
                # A frame cannot leave before its audio has been spoken.
                due_ms = at_ms + FRAME_MS + chance.uniform(0, faults.shuffle_ms)
                if faults.drop_at_ms is None or due_ms < faults.drop_at_ms:
                    plan.append(_Sending(due_ms, frame))
    # Stable: without shuffling the tracks alternate.
    return sorted(plan, key=lambda sending: sending.due_ms)


def _by_track(sent: Sequence[Frame], tracks: int) -> dict[str, list[Frame]]:
    distinct = {(frame.track, frame.seq): frame for frame in sent}
    return {
        track: sorted((frame for frame in distinct.values() if frame.track == track), key=lambda frame: frame.seq)
        for track in TRACKS[:tracks]
    }


@contextlib.asynccontextmanager
async def _connected(
    url: str, public_url: str, auth_token: str
) -> AsyncIterator[tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse[bool]]]:
    """A media socket with its upgrade signed. Raises CallRefusedError for whatever goes wrong with it."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {HEADER: sign(auth_token, socket_url(public_url.rstrip("/"), target))}
    timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
    try:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(url, headers=headers, timeout=timeout) as socket,
        ):
            yield client, socket
    except aiohttp.WSServerHandshakeError as error:
        raise CallRefusedError(f"the gateway refused the call: {error.status} {error.message}") from None
    except (aiohttp.ClientError, ConnectionError) as error:
        raise CallRefusedError(f"{url}: {error}") from None


async def _until_closed(socket: aiohttp.ClientWebSocketResponse[bool]) -> str:
    """Reads, and so answers pings, until the other side closes; what it gave as the reason."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.CLOSE:
            return f"{message.data} {message.extra or ''}".strip()
        if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            return f"{socket.close_code} without a reason"


class _Messages:
    """Twilio's messages of one stream: counters are strings, `sequenceNumber` counts all messages from `start`."""

    def __init__(self, call_id: str, stream_id: str) -> None:
        self._account = "AC" + "0" * 32
        self._call_id = call_id
        self._stream_id = stream_id
        self._sequence = 0

    def connected(self) -> str:
        return json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self, tracks: Sequence[str], codec: Codec, custom: Mapping[str, str]) -> str:
        media_format = {
            "encoding": _ENCODINGS[codec],
            "sampleRate": telephone_audio.RATE_HZ,
            "channels": 1,
        }
        return self._message(
            "start",
            {
                "accountSid": self._account,
                "streamSid": self._stream_id,
                "callSid": self._call_id,
                "tracks": list(tracks),
                "mediaFormat": media_format,
                "customParameters": dict(custom),
            },
        )

    def media(self, frame: Frame) -> str:
        return self._message(
            "media",
            {
                "track": frame.track,
                "chunk": str(frame.seq),
                "timestamp": str(frame.ts_ms),
                "payload": base64.b64encode(frame.payload).decode(),
            },
        )

    def dtmf(self, digit: str) -> str:
        return self._message("dtmf", {"track": "inbound_track", "digit": digit})

    def stop(self) -> str:
        return self._message("stop", {"accountSid": self._account, "callSid": self._call_id})

    def _message(self, event: str, body: Mapping[str, object]) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequenceNumber": str(self._sequence), "streamSid": self._stream_id, event: body}
        )
