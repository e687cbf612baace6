"""Session of one media socket: turns its messages into records and events. No I/O: servers read, the sink writes.

Nearly all messages of a call are frames, so their path is short: decode, collect, and emit every half second. Counters
are plain integers; the same half-second rhythm adds them to the metrics.
"""

import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.carriers.base import (
    CarrierError,
    Decoder,
    Dtmf,
    Frame,
    Ignored,
    Mark,
    Message,
    Repaired,
    StartError,
    Stop,
    StreamStart,
)
from gateway.carriers.common.media_format import Normalise, bytes_per_s, normaliser
from gateway.carriers.common.parties import with_parties
from gateway.media.frame_merger import TrackMerger
from gateway.media.placing import Hole, Piece
from gateway.metrics import Metrics
from gateway.producer.send_buffer import Item
from schemas.codecs import PayloadError, SamplesOf, samples_of
from schemas.events import DtmfReceived, StreamEnded, StreamStarted
from schemas.ids import uuid_of
from schemas.media import OVERLAP, EosReason, MediaRecord, RecordType

logger = logging.getLogger(__name__)

EARLY_MESSAGES = 500
"""Limit of messages before `start`, of any kind: 5 s of both tracks. More than that is not a media stream."""

EARLY_BYTES = 256 * 1024
"""Limit of audio bytes kept before `start`, whatever the size of the frames."""

EARLY_OTHER_MESSAGES = 20
"""Limit of messages before `start` that are not audio, digits or marks. Carriers send at most one greeting."""

# Audio that may come at once: a carrier may have kept it from before the stream. Audio that is delayed later does not
# count here, because time has passed for all of it.
_BURST_S = 10.0
_MESSAGES_PER_S = 200  # of a stream in real time: two tracks in frames of 10 ms
_TRACKS = 2
_MARK_CHARS = 4096  # limit of a mark's name, which becomes a header on the log
_LOGGED_PROBLEMS = 3  # limit of malformed, and of repaired, messages in the log for one socket; metrics count all

StreamKey = tuple[str, str, str]
"""Tenant, call id, stream id."""


Admit = Callable[[StreamStart], tuple[str, StreamStart]]
"""Returns a stream's tenant, and its start without secrets. Raises SessionClosedError if it is refused."""


class Sink(Protocol):
    """Receiver of records and events: gateway.producer.log_producer.LogWriter."""

    def put(self, item: Item) -> None:
        """Accepts an item and returns at once."""


class SessionClosedError(Exception):
    """Order to close the socket with this code and text. label: for the metric of refused sockets."""

    def __init__(self, code: int, reason: str, label: str) -> None:
        super().__init__(reason)
        self.code = code
        self.label = label


class Session:
    """Session of one socket, from its first message to `end`.

    admit: accepts or refuses the stream's start; nothing is emitted before it. streams: the current number of sockets
    of each stream, shared by all sessions. A carrier that reconnects may have two, and the stream ends with the last of
    them. gateway: the name of this process on the log. alive_s: the interval at which a silent stream is reported to be
    alive. max_speed: limit of audio as a multiple of real time, beyond ten seconds at once. clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        name: str,
        decoder: Decoder,
        admit: Admit,
        sink: Sink,
        metrics: Metrics,
        streams: Counter[StreamKey],
        gateway: str = "",
        merge_ms: int,
        alive_s: float,
        max_speed: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.messages = 0
        """Number of messages so far. If it does not change, the socket is idle."""

        self._name = name
        self._admit = admit
        self._tenant = ""
        self._sink = sink
        self._metrics = metrics
        self._streams = streams
        self._gateway = gateway
        self._merge_ms = merge_ms
        self._alive_s = alive_s
        self._put_at_s = clock()
        self._decoder = decoder
        self._normalise: Normalise | None = None
        self._start: StreamStart | None = None
        self._ended = False
        self._mergers: dict[str, TrackMerger] = {}
        self._early: deque[Frame | Dtmf | Mark] = deque()
        self._early_bytes = 0
        self._frames = self._frames_reported = 0
        self._bytes = self._bytes_reported = 0
        self._bytes_per_s = 8000
        self._digits = 0
        self._malformed = 0
        self._repaired = 0
        self._repairs: dict[str, None] = {}
        self._max_speed = max_speed
        self._clock = clock
        self._opened_s = self._start_s = clock()
        self._samples_of: SamplesOf = len
        self._rate_hz = 8000
        self._by_arrival = False
        self._raise_limits()

    @property
    def started(self) -> bool:
        """True if the stream has begun."""
        return self._start is not None

    def on_text(self, data: bytes) -> None:
        """Handles a text message. Raises SessionClosedError if the socket must be closed."""
        self._count()
        try:
            messages = self._decoder.text(data)
        except CarrierError as error:
            self._refuse(error)
            return
        for message in messages:
            self._take(message)

    def on_binary(self, data: bytes) -> None:
        """Handles a binary message. Raises SessionClosedError if the socket must be closed."""
        self._count()
        try:
            messages = self._decoder.binary(data)
        except CarrierError as error:
            self._refuse(error)
            return
        for message in messages:
            self._take(message)

    def tick(self, now_s: float) -> None:
        """Emits the audio that has waited long enough. now_s: time.monotonic()."""
        for merger in self._mergers.values():
            self._emit(merger.flush_if_old(now_s))
        if self._start is not None and not self._ended and now_s - self._put_at_s >= self._alive_s:
            self._put(RecordType.ALIVE)
        self._update_metrics()

    def end(self, reason: EosReason) -> None:
        """Ends the session: emits the audio it holds, then the stream's end. Does nothing the second time."""
        if self._ended:
            return
        self._ended = True
        self._update_metrics()
        if self._start is None:
            if self._early:
                logger.warning("%s: a socket ended without a start; %d messages dropped", self._name, len(self._early))
            return
        for merger in self._mergers.values():
            self._emit(merger.flush())
        self._metrics.streams_live.dec()
        key = self._key(self._start)
        self._streams[key] -= 1
        if self._streams[key] > 0:
            return
        del self._streams[key]
        self._metrics.ended.labels(reason).inc()
        self._put(RecordType.EOS, detail=reason)
        self._sink.put(
            StreamEnded(
                **self._event("stream.ended"),
                stream_id=self._start.stream_id,
                reason=reason,
                frames=self._frames,
                repaired=self._repaired,
            )
        )

    def _count(self) -> None:
        self.messages += 1
        if self._start is None:
            if self.messages > EARLY_MESSAGES or self.messages - len(self._early) > EARLY_OTHER_MESSAGES:
                raise SessionClosedError(1002, f"no start among the first {self.messages} messages", "no-start")
        elif self._over_limit():
            self._raise_limits()
            if self._over_limit():
                text = (
                    f"the stream is faster than {self._max_speed:g} times real time: raise AUDIOTEXT_GATEWAY__MAX_SPEED"
                )
                raise SessionClosedError(1008, text, "too-fast")

    def _over_limit(self) -> bool:
        return self.messages > self._most_messages or self._bytes > self._most_bytes

    def _raise_limits(self) -> None:
        """Computes the limits for now. Invoked only when the last ones are reached: a message costs two comparisons."""
        allowed_s = _BURST_S + self._max_speed * (self._clock() - self._opened_s)
        self._most_messages = int(allowed_s * _MESSAGES_PER_S)
        self._most_bytes = int(allowed_s * self._bytes_per_s * _TRACKS)

    def _take(self, message: Message) -> None:
        if self._ended:
            return  # after stop: a carrier may still send its buffers, but the stream is over
        if type(message) is Frame:
            self._frames += 1
            self._bytes += len(message.payload)
            if self._start is None:
                self._buffer_before_start(message)
            else:
                self._merge(message)
            return
        match message:
            case StreamStart():
                self._begin(message)
            case Mark() if len(message.name) > _MARK_CHARS:
                self._refuse(CarrierError(f"a mark's name is longer than {_MARK_CHARS} characters"))
            case Dtmf() | Mark() if self._start is None:
                self._buffer_before_start(message)
            case Dtmf():
                self._on_dtmf(message)
            case Mark():
                self._put(RecordType.MARK, detail=message.name, seq=message.seq, ts_ms=self._reached_ms())
            case Stop():
                self.end(EosReason.CARRIER_STOP)
            case Repaired():
                self._on_repaired(message)
            case Ignored():
                pass

    def _begin(self, start: StreamStart) -> None:
        if self._start is not None:
            self._refuse(CarrierError("a second start in one stream"))
            return
        self._tenant, start = self._admit(with_parties(start))
        self._start = start
        self._bytes_per_s = bytes_per_s(start.codec, start.rate_hz)
        self._raise_limits()
        self._normalise = normaliser(start.codec, start.byte_order)
        self._samples_of = samples_of(start.codec, start.rate_hz)
        self._rate_hz = start.rate_hz
        self._by_arrival = not start.timed
        self._streams[self._key(start)] += 1
        self._metrics.streams_live.inc()
        details = {
            "account": start.account,
            "tracks": start.tracks,
            "from_number": start.from_number,
            "to_number": start.to_number,
            "custom": start.custom,
        }
        # Both have one time. If the start is the only record of a stream, it must not be older than the event about it:
        # otherwise the call would seem to continue after its recording.
        at_ms = _now_ms()
        self._start_s = self._clock()
        self._put(RecordType.START, at_ms=at_ms, payload=json.dumps(details, ensure_ascii=False).encode())
        self._sink.put(
            StreamStarted(
                **self._event("stream.started", at_ms=at_ms),
                carrier=self._name,
                stream_id=start.stream_id,
                tracks=list(start.tracks),
                codec=start.codec,
                rate_hz=start.rate_hz,
                from_number=start.from_number,
                to_number=start.to_number,
                custom=start.custom,
                repairs=list(self._repairs),
            )
        )
        early, self._early, self._early_bytes = self._early, deque(), 0
        for message in early:
            if isinstance(message, Frame):
                self._merge(message)
            else:
                self._take(message)

    def _on_repaired(self, repaired: Repaired) -> None:
        self._repaired += 1
        self._repairs |= dict.fromkeys(repaired.kinds)
        for kind in repaired.kinds:
            self._metrics.repaired.labels(self._name, kind).inc()
        if self._repaired <= _LOGGED_PROBLEMS:
            call = self._start.call_id if self._start else "no call yet"
            logger.warning("%s: damaged text repaired (%s): %s", self._name, call, ", ".join(repaired.kinds))

    def _on_dtmf(self, dtmf: Dtmf) -> None:
        self._put(RecordType.DTMF, track=dtmf.track, detail=dtmf.digit, seq=dtmf.seq, ts_ms=self._reached_ms())
        start = self._started()
        self._digits += 1
        self._sink.put(
            DtmfReceived(
                **self._event("dtmf.received", dtmf.seq or -self._digits),  # without a number, digits are counted
                stream_id=start.stream_id,
                track=dtmf.track,
                digit=dtmf.digit,
                seq=dtmf.seq,
                number=self._digits,
            )
        )

    def _buffer_before_start(self, message: Frame | Dtmf | Mark) -> None:
        self._early.append(message)
        self._early_bytes += len(message.payload) if isinstance(message, Frame) else 0
        if self._early_bytes > EARLY_BYTES:
            raise SessionClosedError(1002, f"no start within {EARLY_BYTES} bytes of audio", "no-start")

    def _merge(self, frame: Frame) -> None:
        now_s = self._clock()
        payload = frame.payload
        if self._normalise is not None:
            try:
                payload = self._normalise(payload)
            except PayloadError as error:
                self._refuse(CarrierError(str(error)))
                return
        if self._by_arrival:
            frame = Frame(frame.track, frame.seq, int((now_s - self._start_s) * 1000 + 0.5), payload)
        elif payload is not frame.payload:
            frame = Frame(frame.track, frame.seq, frame.ts_ms, payload)
        merger = self._mergers.get(frame.track)
        if merger is None:
            merger = self._mergers[frame.track] = TrackMerger(
                merge_ms=self._merge_ms,
                samples_of=self._samples_of,
                rate_hz=self._rate_hz,
                by_arrival=self._by_arrival,
            )
        pieces = merger.add(frame, now_s)
        if pieces:
            self._emit(pieces)

    def _reached_ms(self) -> int:
        """Returns the end of the audio so far, on the stream's clock (ms)."""
        return max(
            (merger.reached_ms + merger.pending_samples * 1000 // self._rate_hz for merger in self._mergers.values()),
            default=0,
        )

    def _emit(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Hole):
                self._put(
                    RecordType.GAP,
                    track=piece.track,
                    ts_ms=piece.ts_ms,
                    duration_ms=piece.duration_ms,
                    detail=piece.reason,
                )
                continue
            self._put(
                RecordType.MEDIA,
                track=piece.track,
                seq=piece.seq,
                ts_ms=piece.ts_ms,
                frames=piece.frames,
                detail=OVERLAP if piece.overlap else "",
                payload=piece.payload,
            )

    def _put(
        self,
        kind: RecordType,
        *,
        track: str = "",
        seq: int = 0,
        ts_ms: int = 0,
        frames: int = 0,
        duration_ms: int = 0,
        detail: str = "",
        payload: bytes = b"",
        at_ms: int | None = None,
    ) -> None:
        start = self._started()
        self._put_at_s = self._clock()
        self._sink.put(
            MediaRecord(
                type=kind,
                call_id=start.call_id,
                tenant=self._tenant,
                carrier=self._name,
                stream_id=start.stream_id,
                at_ms=_now_ms() if at_ms is None else at_ms,
                track=track,
                codec=start.codec,
                rate_hz=start.rate_hz,
                seq=seq,
                ts_ms=ts_ms,
                frames=frames,
                duration_ms=duration_ms,
                detail=detail,
                gateway=self._gateway if kind in (RecordType.START, RecordType.EOS) else "",
                payload=payload,
            )
        )

    def _event(self, kind: str, *more: int, at_ms: int | None = None) -> dict[str, object]:
        """Returns the fields that all events have. The id follows from the fact, so a repeated event is a duplicate."""
        start = self._started()
        return {
            "event_id": uuid_of(kind, self._tenant, start.call_id, start.stream_id, *more),
            "call_id": start.call_id,
            "tenant": self._tenant,
            "occurred_at_ms": _now_ms() if at_ms is None else at_ms,
        }

    def _started(self) -> StreamStart:
        assert self._start is not None
        return self._start

    def _key(self, start: StreamStart) -> StreamKey:
        return self._tenant, start.call_id, start.stream_id

    def _refuse(self, error: CarrierError) -> None:
        """Counts and logs an invalid message. An invalid start ends the session."""
        self._malformed += 1
        self._metrics.malformed.labels(self._name).inc()
        if self._malformed <= _LOGGED_PROBLEMS:
            call = self._start.call_id if self._start else "no call yet"
            logger.warning("%s: message ignored (%s): %.200s", self._name, call, error)
        if isinstance(error, StartError) and self._start is None:
            raise SessionClosedError(error.close_code, str(error), error.label) from None

    def _update_metrics(self) -> None:
        if self._frames == self._frames_reported:
            return
        self._metrics.frames.labels(self._name).inc(self._frames - self._frames_reported)
        self._metrics.bytes.labels(self._name).inc(self._bytes - self._bytes_reported)
        self._frames_reported, self._bytes_reported = self._frames, self._bytes


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
