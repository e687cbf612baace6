"""Timeline of a part: the position of each sample, as a pure function of the part's records.

Samples are placed by the timestamps on the log (gateway.media.placing sets them). The timeline of a stream begins at
the wall-clock time of its start record, so consecutive streams (hold and resume) and parallel streams (one per track)
share the timeline of the call. Streams of one track that have audio at the same time are mixed. The zero of the
timeline is the part's earliest audio. A part has the highest rate of its streams; all positions and lengths are samples
at that rate unless their name ends with `_ms`.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pipelines.recorder.codecs import is_decodable
from schemas.codecs import samples_of
from schemas.events import Gap, TrackReport
from schemas.media import OVERLAP, GapReason, MediaRecord, RecordType

TRACKS = ("inbound", "outbound")  # left, right

DEFAULT_RATE_HZ = 8000
# Carriers' timestamps deviate by a millisecond or two from frame to frame. Half a frame cannot be another frame.
SNAP_MS = 10
# A larger distance between a timestamp and its stream's clock means that the carrier set its clock, not that audio is
# missing. The gateway detects smaller steps. The limit bounds the size of a file that a faulty carrier can cause; a
# call on hold for hours is below it.
CLOCK_SET_MS = 24 * 3_600_000
# A carrier that reconnects repeats less audio than this. If its timestamps go back further, its clock restarted at 0.
REPEATED_MS = 2_000
MIN_GAP_MS = 20  # one frame
MIN_EDGE_GAP_MS = 100  # the tracks of a call never start and end at exactly the same time

Copies = Mapping[tuple[str, str], str]
"""Maps the track and stream of copied audio to the stream that carries the same audio at the same time."""

NO_COPIES: Copies = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Segment:
    """Places the samples [skip, skip + length) of the part's record number `record` at `start`."""

    start: int
    length: int
    record: int
    skip: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of a part.

    Attributes:
        rate_hz: Rate of the recording.
        length: Length of the recording in samples.
        segments: Per track of TRACKS, its segments in order, without overlap.
        tracks: Reports about the tracks.
        overlays: Audio to mix with those segments: the index of a track in TRACKS, and segments in order.
    """

    rate_hz: int
    length: int
    segments: tuple[tuple[Segment, ...], ...]
    tracks: tuple[TrackReport, ...]
    overlays: tuple[tuple[int, tuple[Segment, ...]], ...] = ()

    @property
    def duration_ms(self) -> int:
        """Duration of the recording in ms."""
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
    """Continuous audio of one record, before the part's rate is known. samples: at the audio's own rate."""

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
    """Gap with a known reason. start, end: in ms until `at` converts them to samples of the recording."""

    track: str
    start: int
    end: int
    reason: str

    def at(self, rate_hz: int, origin: int) -> "_ReportedGap":
        start, end = (ms * rate_hz // 1000 - origin for ms in (self.start, self.end))
        return replace(self, start=start, end=end)


def lay_out(records: Iterable[MediaRecord], copies: Copies = NO_COPIES) -> Layout:
    """Returns the layout of a part.

    Args:
        records: The part's records in log order. Their payloads are measured and not kept.
        copies: Streams that only fill the gaps of their originals.
    """
    timeline = _Timeline()
    for number, record in enumerate(records):
        timeline.add(number, record)
    rate = max((run.rate_hz for run in timeline.runs), default=DEFAULT_RATE_HZ)
    runs = _snap_to_frames([run.at(rate) for run in timeline.runs], rate)
    origin = min((run.start for run in runs), default=0)
    runs = [replace(run, start=run.start - origin) for run in runs]
    reported = [gap.at(rate, origin) for gap in timeline.gaps]
    length = max((run.end for run in runs), default=0)
    tracks = [
        _layers_of([run for run in runs if run.track == track], timeline.groups(track, copies)) for track in TRACKS
    ]
    reports = tuple(
        _report(track, layers, length, rate, [gap for gap in reported if gap.track == track])
        for track, layers in zip(TRACKS, tracks, strict=True)
        if layers.main or track in timeline.announced
    )
    overlays = tuple(
        (number, tuple(overlay)) for number, layers in enumerate(tracks) for overlay in layers.overlays if overlay
    )
    return Layout(rate, length, tuple(tuple(layers.main) for layers in tracks), reports, overlays)


class _Timeline:
    """Places the audio of each record, in log order, on the call's timeline."""

    def __init__(self) -> None:
        self.runs: list[_ReceivedRun] = []
        self.gaps: list[_ReportedGap] = []
        self.announced: set[str] = set()
        self._clocks: dict[str, _Clock] = {}
        self._streams = 0
        self._first_ms: int | None = None

    def add(self, number: int, record: MediaRecord) -> None:
        """Adds the part's record with this number."""
        if record.type is RecordType.START:
            self.announced |= _announced(record.payload)
            clock = self._clocks.get(record.stream_id)
            if clock is None:
                self._new_clock(record.stream_id, record.at_ms)
            else:
                clock.restart(record.at_ms)
        elif record.type is RecordType.GAP:
            start_ms = self._place(record, record.duration_ms)
            self._report_gap(record.track, start_ms, record.duration_ms, record.detail)
        elif record.type is RecordType.MEDIA:
            self._media(number, record)

    def groups(self, track: str, copies: Copies) -> Mapping[int, int]:
        """Maps the numbers of the track's copied streams to the numbers of their originals."""
        return {
            self._clocks[stream].number: self._clocks[original].number
            for (of, stream), original in copies.items()
            if of == track
        }

    def _media(self, number: int, record: MediaRecord) -> None:
        if not is_decodable(record.codec, record.rate_hz):
            duration_ms = record.frames * MIN_GAP_MS
            start_ms = self._place(record, duration_ms)
            self._report_gap(record.track, start_ms, duration_ms, f"unsupported-codec {record.codec}/{record.rate_hz}")
            return
        samples = samples_of(record.codec, record.rate_hz)(record.payload)
        start_ms = self._place(record, samples * 1000 // record.rate_hz)
        stream, frames, overlap = self._clock(record).number, max(1, record.frames), record.detail == OVERLAP
        self.runs.append(_ReceivedRun(number, stream, record.track, start_ms, samples, record.rate_hz, frames, overlap))

    def _place(self, record: MediaRecord, duration_ms: int) -> int:
        """Returns the position of the record's audio on the timeline, which begins with the first stream (ms)."""
        clock = self._clock(record)
        assert self._first_ms is not None
        return clock.at(record.track, record.ts_ms, duration_ms, record.at_ms) - self._first_ms

    def _report_gap(self, track: str, start_ms: int, duration_ms: int, reason: str) -> None:
        self.gaps.append(_ReportedGap(track, start_ms, start_ms + duration_ms, reason))

    def _clock(self, record: MediaRecord) -> "_Clock":
        clock = self._clocks.get(record.stream_id)
        # Late audio: its start record is in an earlier part, but the gateway recorded the time of the audio.
        return clock or self._new_clock(record.stream_id, record.at_ms - record.ts_ms)

    def _new_clock(self, stream_id: str, zero_ms: int) -> "_Clock":
        if self._first_ms is None:
            self._first_ms = zero_ms
        clock = self._clocks[stream_id] = _Clock(self._streams, zero_ms)
        self._streams += 1
        return clock


class _Clock:
    """Clock of one stream. zero_ms: wall-clock time of its timestamp 0.

    A stream may restart: its carrier reconnects after an interruption, to this gateway or another, or after a hold.
    Then its timestamps either have continued, and the interruption is a gap of its real length, or they restart at 0.
    The wall-clock time of the next audio shows which.
    """

    def __init__(self, number: int, zero_ms: int) -> None:
        self.number = number
        self._zero_ms = zero_ms
        self._restarted_ms: int | None = None  # time of a restart, until the stream has audio again
        # Highest timestamp of each track. The log may have a long gap of one track before that of the other.
        self._furthest_ms: dict[str, int] = {}

    def restart(self, at_ms: int) -> None:
        """Records that the stream restarted at this time."""
        self._restarted_ms = at_ms

    def at(self, track: str, ts_ms: int, duration_ms: int, at_ms: int) -> int:
        """Returns the wall-clock time of the audio. Audio with an impossible timestamp follows the audio before it.

        Args:
            track: Track of the audio.
            ts_ms: Timestamp of the audio.
            duration_ms: Duration of the audio.
            at_ms: Time at which the audio was written to the log.
        """
        if self._restarted_ms is not None:
            if self._starts_at_zero(self._restarted_ms, ts_ms, at_ms - duration_ms):
                # Never place it over the stream's earlier audio: a carrier that plays faster than real time needs this.
                end_ms = self._zero_ms + max(self._furthest_ms.values(), default=0)
                self._zero_ms = max(self._restarted_ms, end_ms)
                self._furthest_ms = {}
            self._restarted_ms = None
        reached = self._furthest_ms.values() or (0,)
        if min(abs(ts_ms - furthest_ms) for furthest_ms in reached) > CLOCK_SET_MS:
            self._zero_ms += max(reached) - ts_ms
            self._furthest_ms = {}
        self._furthest_ms[track] = max(self._furthest_ms.get(track, ts_ms), ts_ms + duration_ms)
        return self._zero_ms + ts_ms

    def _starts_at_zero(self, restarted_ms: int, ts_ms: int, heard_ms: int) -> bool:
        """True if the timestamps of a restarted stream count from its restart. heard_ms: time of its audio."""
        if ts_ms + REPEATED_MS < max(self._furthest_ms.values(), default=ts_ms):
            return True
        return abs(restarted_ms + ts_ms - heard_ms) < abs(self._zero_ms + ts_ms - heard_ms)


def _announced(payload: bytes) -> set[str]:
    """Returns the tracks that a start record names in its JSON. Its other content is specific to the carrier."""
    try:
        content = json.loads(payload)
    except ValueError:
        return set()
    tracks = content.get("tracks") if isinstance(content, dict) else None
    return {track for track in TRACKS if track in tracks} if isinstance(tracks, list) else set()


def _snap_to_frames(runs: Sequence[_Run], rate_hz: int) -> list[_Run]:
    """Moves each run onto the frame grid of the previous run in time, if the grid is at most SNAP_MS away.

    The end of a run is on its grid too. No run moves further than SNAP_MS from its own timestamp, so errors do not add
    up, and a repeated frame is placed exactly on its first copy. The order of the runs stays.
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
    """Audio of one track.

    Attributes:
        main: Segments in order, without overlap.
        overlays: Further layers of segments, each in order and without overlap.
        mixed: Number of the track's samples that come from several streams.
    """

    main: list[Segment]
    overlays: list[list[Segment]]
    mixed: int = 0

    @property
    def all(self) -> list[list[Segment]]:
        return [self.main, *self.overlays]


def _layers_of(runs: Sequence[_Run], groups: Mapping[int, int]) -> _Layers:
    """Distributes a track's runs, in log order, to layers.

    All audio of a stream is in one layer, so that a stateful codec is not interrupted: the first layer in which no
    other stream has audio at the same time. groups: maps streams to the stream with which they count as one.
    """
    streams: dict[int, list[_Run]] = {}
    for run in runs:
        streams.setdefault(groups.get(run.stream, run.stream), []).append(run)
    layers = _Layers([], [])
    overlaps: list[Segment] = []
    for of_stream in streams.values():
        segments = _new_audio(of_stream, overlaps)
        _add_to_layer(layers, segments)
    layers.mixed = sum(end - start for start, end in _audible_ranges(layers.all, 2))
    for segment in overlaps:
        _add_to_layer(layers, [segment])
    return layers


def _add_to_layer(layers: _Layers, segments: list[Segment]) -> None:
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


def _audible_ranges(layers: Sequence[Sequence[Segment]], min_layers: int) -> list[tuple[int, int]]:
    """Returns the start and end of the ranges in which at least `min_layers` layers have audio, in order."""
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
        if falls < 0 and depth == min_layers:
            begin = position
        elif falls > 0 and depth == min_layers - 1 and position > begin:
            found.append((begin, position))
    return found


def _new_audio(runs: Iterable[_Run], overlaps: list[Segment]) -> list[Segment]:
    """Returns the audio that each run of a stream adds to the runs before it on the log.

    The first audio at a position stays, and later audio there is a repetition. If the gateway marked later audio as no
    repetition, it is appended to `overlaps`.
    """
    taken: list[Segment] = []  # ordered by start, without overlap
    for run in runs:
        position, end = run.start, run.end
        index = bisect_right(taken, position, key=_start_of)
        if index and taken[index - 1].start + taken[index - 1].length > position:
            covered = taken[index - 1].start + taken[index - 1].length
            if run.overlap:
                length = min(covered, end) - position
                overlaps.append(Segment(position, length, run.record, position - run.start))
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


def _report(track: str, layers: _Layers, length: int, rate_hz: int, reported: Sequence[_ReportedGap]) -> TrackReport:
    gaps: list[Gap] = []

    def add_gap(start: int, end: int, reason: str, least_ms: int) -> None:
        if (end - start) * 1000 >= least_ms * rate_hz:
            known = max(reported, key=lambda gap: min(gap.end, end) - max(gap.start, start), default=None)
            if known is not None and min(known.end, end) > max(known.start, start):
                reason = known.reason
            gaps.append(Gap(start_ms=start * 1000 // rate_hz, end_ms=end * 1000 // rate_hz, reason=reason))

    audible = _audible_ranges(layers.all, 1)
    if not audible:
        gaps.append(Gap(start_ms=0, end_ms=length * 1000 // rate_hz, reason=GapReason.NO_AUDIO))
        return TrackReport(name=track, audio_ms=0, gaps=gaps)
    position = 0
    for start, end in audible:
        edge = position == 0
        add_gap(
            position, start, GapReason.NO_AUDIO if edge else GapReason.MISSING, MIN_EDGE_GAP_MS if edge else MIN_GAP_MS
        )
        position = end
    add_gap(position, length, GapReason.NO_AUDIO, MIN_EDGE_GAP_MS)
    audio = sum(end - start for start, end in audible)
    return TrackReport(name=track, audio_ms=audio * 1000 // rate_hz, gaps=gaps, mixed_ms=layers.mixed * 1000 // rate_hz)
