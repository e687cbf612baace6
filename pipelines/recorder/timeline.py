"""Where each sample of a part belongs: a pure function of the part's records.

Samples are placed by the carrier's timestamps. A stream's timeline begins at the wall clock of its start record, so
streams that follow each other (hold and resume) or run beside each other (one per track) lie on one call timeline.
Its zero is the part's earliest audio. A part has the rate of its best stream; all positions and lengths are samples
at that rate unless named `_ms`.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipelines.recorder.codecs import decodable
from schemas.codecs import samples_of
from schemas.events import Gap, TrackReport
from schemas.media import MediaRecord, RecordType, ended_stream

TRACKS = ("inbound", "outbound")  # left, right

DEFAULT_RATE_HZ = 8000
# Carriers' clocks are off by a millisecond or two from frame to frame. Half a frame cannot be another frame.
SNAP_MS = 10
# A timestamp further away from its stream's clock than this is a clock that was set, not a hole: streams that say
# nothing for minutes are closed. It also bounds the file a broken carrier can make us write.
CLOCK_SET_MS = 600_000
MIN_GAP_MS = 20  # a frame
MIN_EDGE_GAP_MS = 100  # tracks never start and end in the same instant

MISSING = "missing"
NO_AUDIO = "no-audio"


@dataclass(frozen=True, slots=True)
class Segment:
    """Samples [skip, skip + length) of the part's record number `record` belong at `start`."""

    start: int
    length: int
    record: int
    skip: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A part, laid out. segments: per track of TRACKS, ordered, without overlap. length: of the whole recording."""

    rate_hz: int
    length: int
    segments: tuple[tuple[Segment, ...], ...]
    tracks: tuple[TrackReport, ...]

    @property
    def duration_ms(self) -> int:
        return self.length * 1000 // self.rate_hz


@dataclass(frozen=True, slots=True)
class _Run:
    record: int
    stream: int
    track: str
    start: int
    length: int
    frames: int


@dataclass(frozen=True, slots=True)
class _ReceivedRun:
    """A run before the part's rate is known. samples: at the run's own rate."""

    record: int
    stream: int
    track: str
    start_ms: int
    samples: int
    rate_hz: int
    frames: int

    def at(self, rate_hz: int) -> _Run:
        start, length = self.start_ms * rate_hz // 1000, self.samples * rate_hz // self.rate_hz
        return _Run(self.record, self.stream, self.track, start, length, self.frames)


@dataclass(frozen=True, slots=True)
class _ReportedGap:
    """What is known about a hole. Before the part's rate is known, its places are in ms: see `at`."""

    track: str
    start: int
    end: int
    reason: str

    def at(self, rate_hz: int, origin: int) -> "_ReportedGap":
        start, end = (ms * rate_hz // 1000 - origin for ms in (self.start, self.end))
        return replace(self, start=start, end=end)


def lay_out(records: Iterable[MediaRecord]) -> Layout:
    """The layout of a part whose records these are, in log order. Payloads are only measured, never kept."""
    timeline = _Timeline()
    for number, record in enumerate(records):
        timeline.add(number, record)
    rate = max((heard.rate_hz for heard in timeline.heard), default=DEFAULT_RATE_HZ)
    runs = _snapped([heard.at(rate) for heard in timeline.heard], rate)
    origin = min((run.start for run in runs), default=0)
    runs = [replace(run, start=run.start - origin) for run in runs]
    notes = [note.at(rate, origin) for note in timeline.notes]
    segments = tuple(_uncovered([run for run in runs if run.track == track]) for track in TRACKS)
    length = max((run.start + run.length for run in runs), default=0)
    reports = tuple(
        _report(track, placed, length, rate, [note for note in notes if note.track == track])
        for track, placed in zip(TRACKS, segments, strict=True)
        if placed or track in timeline.announced
    )
    return Layout(rate, length, segments, reports)


class _Timeline:
    """Gives each run its place on the call's clock, in log order."""

    def __init__(self) -> None:
        self.heard: list[_ReceivedRun] = []
        self.notes: list[_ReportedGap] = []
        self.announced: set[str] = set()
        self._clocks: dict[str, _Clock] = {}
        self._streams = 0
        self._first_ms: int | None = None

    def add(self, number: int, record: MediaRecord) -> None:
        if record.type is RecordType.START:
            self.announced |= _announced(record.payload)
            clock = self._clocks.get(record.stream_id)
            # A second start while the stream runs is the same stream; after its end it begins anew.
            if clock is None or clock.ended:
                clock = self._new_clock(record.stream_id, record.at_ms)
            clock.gateway = record.gateway
        elif record.type is RecordType.EOS:
            if record.stream_id:  # else the call's own end, which moves no clock
                clock = self._clock(record)
                clock.ended = clock.ended or ended_stream(record, clock.gateway)
        elif record.type is RecordType.GAP:
            start_ms = self._clock(record).at(record.track, record.ts_ms, record.duration_ms)
            self._note(record.track, start_ms, record.duration_ms, record.detail)
        elif record.type is RecordType.MEDIA:
            self._media(number, record)

    def _media(self, number: int, record: MediaRecord) -> None:
        if not decodable(record.codec, record.rate_hz):
            duration_ms = record.frames * MIN_GAP_MS
            start_ms = self._clock(record).at(record.track, record.ts_ms, duration_ms)
            self._note(record.track, start_ms, duration_ms, f"unsupported-codec {record.codec}/{record.rate_hz}")
            return
        samples = samples_of(record.codec, record.rate_hz)(record.payload)
        clock = self._clock(record)
        start_ms = clock.at(record.track, record.ts_ms, samples * 1000 // record.rate_hz)
        frames = max(1, record.frames)
        self.heard.append(_ReceivedRun(number, clock.number, record.track, start_ms, samples, record.rate_hz, frames))

    def _note(self, track: str, start_ms: int, duration_ms: int, reason: str) -> None:
        self.notes.append(_ReportedGap(track, start_ms, start_ms + duration_ms, reason))

    def _clock(self, record: MediaRecord) -> "_Clock":
        clock = self._clocks.get(record.stream_id)
        # Late audio: its start lies in an earlier part, but the gateway said when it came.
        return clock or self._new_clock(record.stream_id, record.at_ms - record.ts_ms)

    def _new_clock(self, stream_id: str, zero_ms: int) -> "_Clock":
        if self._first_ms is None:
            self._first_ms = zero_ms
        clock = self._clocks[stream_id] = _Clock(self._streams, zero_ms - self._first_ms)
        self._streams += 1
        return clock


class _Clock:
    """One stream's clock. zero_ms: where its timestamp 0 lies on the call's timeline. gateway: who was the last to
    start the stream."""

    def __init__(self, number: int, zero_ms: int) -> None:
        self.number = number
        self.gateway = ""
        self.ended = False
        self._zero_ms = zero_ms
        # Furthest timestamp that each track has reached: a long hole of one is on the log before that of the other.
        self._furthest_ms: dict[str, int] = {}

    def at(self, track: str, ts_ms: int, duration_ms: int) -> int:
        """Place on the call's timeline (ms). A timestamp that cannot be true goes on where the stream was."""
        reached = self._furthest_ms.values() or (0,)
        if min(abs(ts_ms - furthest_ms) for furthest_ms in reached) > CLOCK_SET_MS:
            self._zero_ms += max(reached) - ts_ms
            self._furthest_ms = {}
        self._furthest_ms[track] = max(self._furthest_ms.get(track, ts_ms), ts_ms + duration_ms)
        return self._zero_ms + ts_ms


def _announced(payload: bytes) -> set[str]:
    """The tracks a start record's JSON names; whatever else it holds is the carrier's business."""
    try:
        content = json.loads(payload)
    except ValueError:
        return set()
    tracks = content.get("tracks") if isinstance(content, dict) else None
    return {track for track in TRACKS if track in tracks} if isinstance(tracks, list) else set()


def _snapped(runs: Sequence[_Run], rate_hz: int) -> list[_Run]:
    """The runs, in the order given, each moved onto the frame grid of the run before it in time, if that is at most
    SNAP_MS away. The end of that run is on its grid too. No run is ever moved further than SNAP_MS from its own
    timestamp, so errors do not add up; and a frame that comes again lands exactly on itself.
    """
    reach = SNAP_MS * rate_hz // 1000
    placed: dict[int, _Run] = {}
    previous: dict[tuple[int, str], _Run] = {}
    for run in sorted(runs, key=lambda run: (run.start, run.record)):
        key = (run.stream, run.track)
        before = previous.get(key)
        if before is not None:
            step = before.length / before.frames
            frame = min(max(round((run.start - before.start) / step), 0), before.frames) if step else 0
            grid = before.start + round(frame * step)
            if abs(grid - run.start) <= reach:
                run = replace(run, start=grid)  # noqa: PLW2901  (the run, placed)
        placed[run.record] = run
        if before is None or run.start + run.length >= before.start + before.length:
            previous[key] = run
    return [placed[run.record] for run in runs]


def _uncovered(runs: Iterable[_Run]) -> tuple[Segment, ...]:
    """What each run adds to those before it on the log: the first audio at a place stays."""
    taken: list[Segment] = []  # ordered by start, without overlap
    for run in runs:
        position, end = run.start, run.start + run.length
        index = bisect_right(taken, position, key=lambda segment: segment.start)
        if index and taken[index - 1].start + taken[index - 1].length > position:
            position = taken[index - 1].start + taken[index - 1].length
        while position < end:
            free_until = min(end, taken[index].start) if index < len(taken) else end
            if free_until > position:
                taken.insert(index, Segment(position, free_until - position, run.record, position - run.start))
                index += 1
            if index == len(taken) or taken[index].start >= end:
                break
            position = taken[index].start + taken[index].length
            index += 1
    return tuple(taken)


def _report(
    track: str, segments: Sequence[Segment], length: int, rate_hz: int, notes: Sequence[_ReportedGap]
) -> TrackReport:
    gaps: list[Gap] = []

    def hole(start: int, end: int, reason: str, least_ms: int) -> None:
        if (end - start) * 1000 >= least_ms * rate_hz:
            known = max(notes, key=lambda note: min(note.end, end) - max(note.start, start), default=None)
            if known is not None and min(known.end, end) > max(known.start, start):
                reason = known.reason
            gaps.append(Gap(start_ms=start * 1000 // rate_hz, end_ms=end * 1000 // rate_hz, reason=reason))

    if not segments:
        gaps.append(Gap(start_ms=0, end_ms=length * 1000 // rate_hz, reason=NO_AUDIO))
        return TrackReport(name=track, audio_ms=0, gaps=gaps)
    position = 0
    for segment in segments:
        edge = position == 0
        hole(position, segment.start, NO_AUDIO if edge else MISSING, MIN_EDGE_GAP_MS if edge else MIN_GAP_MS)
        position = segment.start + segment.length
    hole(position, length, NO_AUDIO, MIN_EDGE_GAP_MS)
    audio = sum(segment.length for segment in segments)
    return TrackReport(name=track, audio_ms=audio * 1000 // rate_hz, gaps=gaps)
