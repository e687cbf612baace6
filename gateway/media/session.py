"""One media socket: messages in, records and events out. No I/O: the socket is app.py's, the log is the sink's.

Of a call's messages nearly all are frames, so their path is kept short: decode, remember, and every half second
hand on. Everything is counted in plain integers and told to the metrics in the same rhythm.
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

log = logging.getLogger(__name__)

EARLY_MESSAGES = 500
"""Messages before `start`, whatever they are: 5 s of both tracks. A socket that sends more is no media stream."""

PARKED_BYTES = 256 * 1024
"""Audio bytes kept meanwhile, whatever the frames' size."""

EARLY_WORDS = 20
"""Of those, messages that are neither audio nor keypad nor mark: carriers say hello, once, if anything."""

# Audio that may come at once: what a carrier has kept from before the stream. What is held up later comes later, and
# time has gone by for all of it.
_BURST_S = 10.0
_MESSAGES_PER_S = 200  # of a stream in real time: two tracks in frames of 10 ms
_TRACKS = 2
_MARK_CHARS = 4096  # of a mark's name, which is a header on the log
_COMPLAINTS = 3  # malformed and repaired messages of one socket that are logged; metrics count the others

StreamKey = tuple[str, str, str]
"""tenant, call id, stream id"""


Admit = Callable[[StreamStart], tuple[str, StreamStart]]
"""Whose call a stream is, and its start without what is nobody's business. Raises SessionClosedError."""


class Sink(Protocol):
    """Where records and events go; gateway.producer.log_producer.LogWriter."""

    def put(self, item: Item) -> None:
        """Takes an item and returns at once."""


class SessionClosedError(Exception):
    """The socket is to be closed with this code and text. label: for the metric of refused sockets."""

    def __init__(self, code: int, reason: str, label: str) -> None:
        super().__init__(reason)
        self.code = code
        self.label = label


class Session:
    """Follows one socket from its first message to `end`.

    admit: judges the stream's start; nothing is handed on before. streams: how many sockets each stream has at this
    moment, shared by all sessions: a carrier that reconnects may have two, and the stream ends with the last of them.
    gateway: this process' name on the log. alive_s: how often a stream that says nothing is said to be alive.
    max_speed: audio it may send, times real time, beyond ten seconds at once. clock: monotonic seconds.
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
        """Messages so far: who wants to know whether the socket is idle looks twice."""

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
        self._parked: deque[Frame | Dtmf | Mark] = deque()
        self._parked_bytes = 0
        self._frames = self._frames_told = 0
        self._bytes = self._bytes_told = 0
        self._bytes_per_s = 8000
        self._digits = 0
        self._malformed = 0
        self._repaired = 0
        self._repairs: dict[str, None] = {}
        self._max_speed = max_speed
        self._clock = clock
        self._began_s = self._start_s = clock()
        self._samples_of: SamplesOf = len
        self._rate_hz = 8000
        self._by_arrival = False
        self._allow()

    @property
    def started(self) -> bool:
        """Whether the stream has begun."""
        return self._start is not None

    def on_text(self, data: bytes) -> None:
        """A text message. Raises SessionClosedError when the socket must be closed."""
        self._count()
        try:
            messages = self._decoder.text(data)
        except CarrierError as error:
            self._refuse(error)
            return
        for message in messages:
            self._take(message)

    def on_binary(self, data: bytes) -> None:
        """A binary message. Raises SessionClosedError when the socket must be closed."""
        self._count()
        try:
            messages = self._decoder.binary(data)
        except CarrierError as error:
            self._refuse(error)
            return
        for message in messages:
            self._take(message)

    def tick(self, now_s: float) -> None:
        """Hands on what has waited long enough. now_s: time.monotonic()."""
        for merger in self._mergers.values():
            self._emit(merger.flush_if_old(now_s))
        if self._start is not None and not self._ended and now_s - self._put_at_s >= self._alive_s:
            self._put(RecordType.ALIVE)
        self._tell_metrics()

    def end(self, reason: EosReason) -> None:
        """The socket is done: everything held is handed on, then the stream's end. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        self._tell_metrics()
        if self._start is None:
            if self._parked:
                log.warning("%s: a socket ended without a start; %d frames dropped", self._name, len(self._parked))
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
            if self.messages > EARLY_MESSAGES or self.messages - len(self._parked) > EARLY_WORDS:
                raise SessionClosedError(1002, f"no start among the first {self.messages} messages", "no-start")
        elif self._is_beyond():
            self._allow()
            if self._is_beyond():
                text = f"more than {self._max_speed:g} times real time: AUDIOTEXT_GATEWAY__MAX_SPEED"
                raise SessionClosedError(1008, text, "too-fast")

    def _is_beyond(self) -> bool:
        return self.messages > self._most_messages or self._bytes > self._most_bytes

    def _allow(self) -> None:
        """What may have come by now. Asked for only by who has used it up: a message costs two comparisons."""
        allowed_s = _BURST_S + self._max_speed * (self._clock() - self._began_s)
        self._most_messages = int(allowed_s * _MESSAGES_PER_S)
        self._most_bytes = int(allowed_s * self._bytes_per_s * _TRACKS)

    def _take(self, message: Message) -> None:
        if self._ended:
            return  # after stop: a carrier may still empty its buffers, but the stream is over
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
                self._refuse(CarrierError(f"a mark's name of {len(message.name)} characters"))
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
            self._refuse(CarrierError("a second start"))
            return
        self._tenant, start = self._admit(with_parties(start))
        self._start = start
        self._bytes_per_s = bytes_per_s(start.codec, start.rate_hz)
        self._allow()
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
        # One time for both: a start that is all the log ever has of a stream must not lie before what is told of it,
        # or the call would seem to go on after its recording.
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
        parked, self._parked, self._parked_bytes = self._parked, deque(), 0
        for message in parked:
            if isinstance(message, Frame):
                self._merge(message)
            else:
                self._take(message)

    def _on_repaired(self, repaired: Repaired) -> None:
        self._repaired += 1
        self._repairs |= dict.fromkeys(repaired.kinds)
        for kind in repaired.kinds:
            self._metrics.repaired.labels(self._name, kind).inc()
        if self._repaired <= _COMPLAINTS:
            call = self._start.call_id if self._start else "no call yet"
            log.warning("%s: damaged text repaired (%s): %s", self._name, call, ", ".join(repaired.kinds))

    def _on_dtmf(self, dtmf: Dtmf) -> None:
        self._put(RecordType.DTMF, track=dtmf.track, detail=dtmf.digit, seq=dtmf.seq, ts_ms=self._reached_ms())
        start = self._started()
        self._digits += 1
        self._sink.put(
            DtmfReceived(
                **self._event("dtmf.received", dtmf.seq or -self._digits),  # digits without a number are several, too
                stream_id=start.stream_id,
                track=dtmf.track,
                digit=dtmf.digit,
                seq=dtmf.seq,
                number=self._digits,
            )
        )

    def _buffer_before_start(self, message: Frame | Dtmf | Mark) -> None:
        self._parked.append(message)
        self._parked_bytes += len(message.payload) if isinstance(message, Frame) else 0
        if self._parked_bytes > PARKED_BYTES:
            raise SessionClosedError(1002, f"no start within {PARKED_BYTES} bytes of audio", "no-start")

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
        """Where the audio taken in so far ends, on the stream's clock."""
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
        """The fields all events have. The id is the fact's, so that telling it twice is telling it once."""
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
        """Counts a message that cannot be used; a start that cannot be used ends the session."""
        self._malformed += 1
        self._metrics.malformed.labels(self._name).inc()
        if self._malformed <= _COMPLAINTS:
            call = self._start.call_id if self._start else "no call yet"
            log.warning("%s: message passed over (%s): %.200s", self._name, call, error)
        if isinstance(error, StartError) and self._start is None:
            raise SessionClosedError(error.close_code, str(error), error.label) from None

    def _tell_metrics(self) -> None:
        if self._frames == self._frames_told:
            return
        self._metrics.frames.labels(self._name).inc(self._frames - self._frames_told)
        self._metrics.bytes.labels(self._name).inc(self._bytes - self._bytes_told)
        self._frames_told, self._bytes_told = self._frames, self._bytes


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
