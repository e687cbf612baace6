"""Where each sample of a part belongs: a pure function of the part's records.

Samples are placed by the timestamps on the log (gateway.media.placing decides them). A stream's timeline begins at
the wall
clock of its start record, so streams that follow each other (hold and resume) or run beside each other (one per track)
lie on one call timeline. Streams of one track that sound at the same time are mixed. The timeline's zero is the part's
earliest audio. A part has the rate of its best stream; all positions and lengths are samples at that rate unless named
`_ms`.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pipelines.recorder.codecs import decodable
from schemas.codecs import samples_of
from schemas.events import Gap, TrackReport
from schemas.media import OVERLAP, MediaRecord, RecordType

TRACKS = ("inbound", "outbound")  # left, right

DEFAULT_RATE_HZ = 8000
# Carriers' clocks are off by a millisecond or two from frame to frame. Half a frame cannot be another frame.
SNAP_MS = 10
# A timestamp further away from its stream's clock than this is a clock that was set, not a hole. The gateway notices
# smaller ones. It bounds the file a broken carrier can make us write; a call on hold for hours stays as it was.
CLOCK_SET_MS = 24 * 3_600_000
# A carrier that comes back repeats less than this of what it has sent. If it repeats more, its clock began anew.
REPEATED_MS = 2_000
MIN_GAP_MS = 20  # a frame
MIN_EDGE_GAP_MS = 100  # tracks never start and end in the same instant

Copies = Mapping[tuple[str, str], str]
"""Track and stream of audio that another stream carries at the same time, and that stream."""

NO_COPIES: Copies = MappingProxyType({})

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
    """A part, laid out. segments: per track of TRACKS, ordered, without overlap. length: of the whole recording.

    overlays: what sounds at the same time as those; each has the number of its track in TRACKS, and segments like them.
    """

    rate_hz: int
    length: int
    segments: tuple[tuple[Segment, ...], ...]
    tracks: tuple[TrackReport, ...]
    overlays: tuple[tuple[int, tuple[Segment, ...]], ...] = ()

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
    overlap: bool

    @property
    def end(self) -> int:
        return self.start + self.length


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
    overlap: bool

    def at(self, rate_hz: int) -> _Run:
        start, length = self.start_ms * rate_hz // 1000, self.samples * rate_hz // self.rate_hz
        return _Run(self.record, self.stream, self.track, start, length, self.frames, self.overlap)


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


def lay_out(records: Iterable[MediaRecord], copies: Copies = NO_COPIES) -> Layout:
    """The layout of a part whose records these are, in log order. Payloads are only measured, never kept.

    copies: they fill what their originals lack.
    """
    timeline = _Timeline()
    for number, record in enumerate(records):
        timeline.add(number, record)
    rate = max((heard.rate_hz for heard in timeline.heard), default=DEFAULT_RATE_HZ)
    runs = _snapped([heard.at(rate) for heard in timeline.heard], rate)
    origin = min((run.start for run in runs), default=0)
    runs = [replace(run, start=run.start - origin) for run in runs]
    notes = [note.at(rate, origin) for note in timeline.notes]
    length = max((run.end for run in runs), default=0)
    tracks = [_layered([run for run in runs if run.track == track], timeline.groups(track, copies)) for track in TRACKS]
    reports = tuple(
        _report(track, layers, length, rate, [note for note in notes if note.track == track])
        for track, layers in zip(TRACKS, tracks, strict=True)
        if layers.main or track in timeline.announced
    )
    overlays = tuple(
        (number, tuple(overlay)) for number, layers in enumerate(tracks) for overlay in layers.overlays if overlay
    )
    return Layout(rate, length, tuple(tuple(layers.main) for layers in tracks), reports, overlays)


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
            if clock is None:
                self._new_clock(record.stream_id, record.at_ms)
            else:
                clock.came_back(record.at_ms)
        elif record.type is RecordType.GAP:
            start_ms = self._place(record, record.duration_ms)
            self._note(record.track, start_ms, record.duration_ms, record.detail)
        elif record.type is RecordType.MEDIA:
            self._media(number, record)

    def groups(self, track: str, copies: Copies) -> Mapping[int, int]:
        """The numbers of the track's streams that are copies, with those of their originals."""
        return {
            self._clocks[stream].number: self._clocks[original].number
            for (of, stream), original in copies.items()
            if of == track
        }

    def _media(self, number: int, record: MediaRecord) -> None:
        if not decodable(record.codec, record.rate_hz):
            duration_ms = record.frames * MIN_GAP_MS
            start_ms = self._place(record, duration_ms)
            self._note(record.track, start_ms, duration_ms, f"unsupported-codec {record.codec}/{record.rate_hz}")
            return
        samples = samples_of(record.codec, record.rate_hz)(record.payload)
        start_ms = self._place(record, samples * 1000 // record.rate_hz)
        stream, frames, overlap = self._clock(record).number, max(1, record.frames), record.detail == OVERLAP
        self.heard.append(
            _ReceivedRun(number, stream, record.track, start_ms, samples, record.rate_hz, frames, overlap)
        )

    def _place(self, record: MediaRecord, duration_ms: int) -> int:
        """Place of the record's audio on the call's timeline, which begins with its first stream (ms)."""
        clock = self._clock(record)
        assert self._first_ms is not None
        return clock.at(record.track, record.ts_ms, duration_ms, record.at_ms) - self._first_ms

    def _note(self, track: str, start_ms: int, duration_ms: int, reason: str) -> None:
        self.notes.append(_ReportedGap(track, start_ms, start_ms + duration_ms, reason))

    def _clock(self, record: MediaRecord) -> "_Clock":
        clock = self._clocks.get(record.stream_id)
        # Late audio: its start lies in an earlier part, but the gateway said when it came.
        return clock or self._new_clock(record.stream_id, record.at_ms - record.ts_ms)

    def _new_clock(self, stream_id: str, zero_ms: int) -> "_Clock":
        if self._first_ms is None:
            self._first_ms = zero_ms
        clock = self._clocks[stream_id] = _Clock(self._streams, zero_ms)
        self._streams += 1
        return clock


class _Clock:
    """One stream's clock. zero_ms: when its timestamp 0 was, by the wall clock.

    A stream may start again: its carrier was cut off and comes back, to this gateway or another, or was on hold. Then
    either its timestamps went on meanwhile, and the outage is a gap of its real length, or they begin at 0 once more.
    The wall clock of the first audio that follows says which.
    """

    def __init__(self, number: int, zero_ms: int) -> None:
        self.number = number
        self._zero_ms = zero_ms
        self._again_ms: int | None = None  # when the stream started again, until audio of it comes
        # Furthest timestamp that each track has reached: a long hole of one is on the log before that of the other.
        self._furthest_ms: dict[str, int] = {}

    def came_back(self, at_ms: int) -> None:
        """Takes in that the stream started again then."""
        self._again_ms = at_ms

    def at(self, track: str, ts_ms: int, duration_ms: int, at_ms: int) -> int:
        """When the audio was, by the wall clock. A timestamp that cannot be true continues where the stream was.

        at_ms: when the audio was put on the log.
        """
        if self._again_ms is not None:
            if self._begins_anew(self._again_ms, ts_ms, at_ms - duration_ms):
                # Never on top of what the stream has sent: a carrier that plays faster than real time does that.
                end_ms = self._zero_ms + max(self._furthest_ms.values(), default=0)
                self._zero_ms = max(self._again_ms, end_ms)
                self._furthest_ms = {}
            self._again_ms = None
        reached = self._furthest_ms.values() or (0,)
        if min(abs(ts_ms - furthest_ms) for furthest_ms in reached) > CLOCK_SET_MS:
            self._zero_ms += max(reached) - ts_ms
            self._furthest_ms = {}
        self._furthest_ms[track] = max(self._furthest_ms.get(track, ts_ms), ts_ms + duration_ms)
        return self._zero_ms + ts_ms

    def _begins_anew(self, again_ms: int, ts_ms: int, heard_ms: int) -> bool:
        """Whether the timestamps of a stream that started again count from then on. heard_ms: when it was heard."""
        if ts_ms + REPEATED_MS < max(self._furthest_ms.values(), default=ts_ms):
            return True
        return abs(again_ms + ts_ms - heard_ms) < abs(self._zero_ms + ts_ms - heard_ms)


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
            if abs(grid - run.start) <= reach and not run.overlap:
                run = replace(run, start=grid)  # noqa: PLW2901  (the run, placed)
        placed[run.record] = run
        if before is None or run.start + run.length >= before.start + before.length:
            previous[key] = run
    return [placed[run.record] for run in runs]


@dataclass(slots=True)
class _Layers:
    """One track's audio. main, and each of the overlays: ordered, without overlap. mixed: how many samples of the
    track are of several streams."""

    main: list[Segment]
    overlays: list[list[Segment]]
    mixed: int = 0

    @property
    def all(self) -> list[list[Segment]]:
        return [self.main, *self.overlays]


def _layered(runs: Sequence[_Run], groups: Mapping[int, int]) -> _Layers:
    """A track's runs, in log order. Each stream is whole in one layer: the first in which no other stream sounds at
    the same time, so that a codec that remembers is not interrupted. groups: of streams that count as one."""
    streams: dict[int, list[_Run]] = {}
    for run in runs:
        streams.setdefault(groups.get(run.stream, run.stream), []).append(run)
    layers = _Layers([], [])
    doubled: list[Segment] = []
    for of_stream in streams.values():
        segments = _uncovered(of_stream, doubled)
        _put_in(layers, segments)
    layers.mixed = sum(end - start for start, end in _sounding(layers.all, 2))
    for segment in doubled:
        _put_in(layers, [segment])
    return layers


def _put_in(layers: _Layers, segments: list[Segment]) -> None:
    for layer in layers.all:
        if _fits(layer, segments):
            if not layer or not segments or layer[-1].start < segments[0].start:
                layer.extend(segments)
            else:
                layer[:] = sorted([*layer, *segments], key=_start_of)
            return
    layers.overlays.append(segments)


def _fits(layer: Sequence[Segment], segments: Iterable[Segment]) -> bool:
    for segment in segments:
        index = bisect_right(layer, segment.start, key=_start_of)
        if index and layer[index - 1].start + layer[index - 1].length > segment.start:
            return False
        if index < len(layer) and layer[index].start < segment.start + segment.length:
            return False
    return True


def _start_of(segment: Segment) -> int:
    return segment.start


def _sounding(layers: Sequence[Sequence[Segment]], least: int) -> list[tuple[int, int]]:
    """Where at least so many of the layers have audio: begin and end, ordered."""
    edges = sorted(
        edge
        for layer in layers
        for segment in layer
        for edge in ((segment.start, -1), (segment.start + segment.length, 1))
    )
    found: list[tuple[int, int]] = []
    depth, begin = 0, 0
    for position, falls in edges:
        depth -= falls
        if falls < 0 and depth == least:
            begin = position
        elif falls > 0 and depth == least - 1 and position > begin:
            found.append((begin, position))
    return found


def _uncovered(runs: Iterable[_Run], doubled: list[Segment]) -> list[Segment]:
    """The audio that each run of a stream adds to those before it on the log: the first audio at a place stays, and
    what comes again is a repetition. Audio that the gateway says is none is appended to `doubled`."""
    taken: list[Segment] = []  # ordered by start, without overlap
    for run in runs:
        position, end = run.start, run.end
        index = bisect_right(taken, position, key=_start_of)
        if index and taken[index - 1].start + taken[index - 1].length > position:
            covered = taken[index - 1].start + taken[index - 1].length
            if run.overlap:
                length = min(covered, end) - position
                doubled.append(Segment(position, length, run.record, position - run.start))
            position = covered
        while position < end:
            free_until = min(end, taken[index].start) if index < len(taken) else end
            if free_until > position:
                taken.insert(index, Segment(position, free_until - position, run.record, position - run.start))
                index += 1
            if index == len(taken) or taken[index].start >= end:
                break
            position = taken[index].start + taken[index].length
            index += 1
    return taken


def _report(track: str, layers: _Layers, length: int, rate_hz: int, notes: Sequence[_ReportedGap]) -> TrackReport:
    gaps: list[Gap] = []

    def hole(start: int, end: int, reason: str, least_ms: int) -> None:
        if (end - start) * 1000 >= least_ms * rate_hz:
            known = max(notes, key=lambda note: min(note.end, end) - max(note.start, start), default=None)
            if known is not None and min(known.end, end) > max(known.start, start):
                reason = known.reason
            gaps.append(Gap(start_ms=start * 1000 // rate_hz, end_ms=end * 1000 // rate_hz, reason=reason))

    sounding = _sounding(layers.all, 1)
    if not sounding:
        gaps.append(Gap(start_ms=0, end_ms=length * 1000 // rate_hz, reason=NO_AUDIO))
        return TrackReport(name=track, audio_ms=0, gaps=gaps)
    position = 0
    for start, end in sounding:
        edge = position == 0
        hole(position, start, NO_AUDIO if edge else MISSING, MIN_EDGE_GAP_MS if edge else MIN_GAP_MS)
        position = end
    hole(position, length, NO_AUDIO, MIN_EDGE_GAP_MS)
    audio = sum(end - start for start, end in sounding)
    return TrackReport(name=track, audio_ms=audio * 1000 // rate_hz, gaps=gaps, mixed_ms=layers.mixed * 1000 // rate_hz)
