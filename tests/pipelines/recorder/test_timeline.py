"""Where samples go. The reference is the dullest possible: an array of silence that each frame is copied into."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audio.g711 import decode_alaw, encode_alaw
from pipelines.recorder.decoding import EncodedAudio, Load, samples_of
from pipelines.recorder.timeline import Layout, lay_out
from schemas.events import Gap
from schemas.media import Codec, MediaRecord, RecordType
from tests.pipelines.recorder.calls import EPOCH_MS, FRAME, FRAME_MS, Call, audio, call, pcm, stereo


def placed(layout: Layout, load: Load) -> npt.NDArray[np.int16]:
    """The samples of a plan, int16[samples, 2]."""
    samples = np.zeros((layout.length, 2), np.int16)
    for channel, segments in enumerate(layout.segments):
        for segment, part in zip(segments, samples_of(segments, load, layout.rate_hz), strict=True):
            samples[segment.start : segment.start + segment.length, channel] = part
    return samples


def rendered(records: Sequence[MediaRecord]) -> npt.NDArray[np.int16]:
    """The samples of a part with these records."""

    def load(number: int) -> EncodedAudio:
        record = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    return placed(lay_out(records), load)


def gaps(layout: Layout) -> dict[str, list[Gap]]:
    return {track.name: track.gaps for track in layout.tracks}


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[Call, set[int], list[MediaRecord]]:
    """A call of 0.5 to 3 s whose frames come shuffled and twice, some of them never, in runs of any length."""
    frames = draw(st.integers(25, 150))
    source = call("CA", frames * FRAME_MS, seed=draw(st.integers(0, 99)))
    hole_at = draw(st.integers(1, frames - 22))
    hole = set(range(hole_at, hole_at + draw(st.integers(1, 20))))
    runs: list[MediaRecord] = []
    for track, octets in source.tracks.items():
        first = 0
        while first < frames:
            last = min(frames, first + draw(st.integers(1, 25)))
            runs += _without(source, track, octets, range(first, last), hole)
            first = last
        for _ in range(draw(st.integers(0, 5))):  # again, cut otherwise
            first = draw(st.integers(0, frames - 1))
            again = range(first, min(frames, first + draw(st.integers(1, 30))))
            runs += _without(source, track, octets, again, hole)
    return source, hole, draw(st.permutations(runs))


def _without(source: Call, track: str, octets: bytes, frames: range, hole: set[int]) -> list[MediaRecord]:
    """The frames in runs that leave the hole out."""
    runs, present = [], [frame for frame in frames if frame not in hole]
    while present:
        end = next((i for i in range(1, len(present)) if present[i] != present[i - 1] + 1), len(present))
        payload = octets[present[0] * FRAME : (present[end - 1] + 1) * FRAME]
        runs.append(source.run(track, present[0] * FRAME_MS, payload))
        present = present[end:]
    return runs


@settings(max_examples=150, deadline=None)
@given(arrivals())
def test_every_sample_is_where_the_carrier_said(arrival: tuple[Call, set[int], list[MediaRecord]]) -> None:
    """Frames come in any order, some twice and in other company, some never.

    The rendered samples are compared with the frames copied one by one. A difference would be audio lost, doubled,
    or moved; a wrong gap would be a recording that lies about what is missing.
    """
    source, hole, runs = arrival
    expected = stereo(list(source.tracks.values())).copy()
    for frame in hole:
        expected[frame * FRAME : (frame + 1) * FRAME] = 0
    records = [source.start(), *runs, source.eos()]
    assert np.array_equal(rendered(records), expected)
    missing = Gap(start_ms=min(hole) * FRAME_MS, end_ms=(max(hole) + 1) * FRAME_MS, reason="missing")
    assert gaps(lay_out(records)) == {"inbound": [missing], "outbound": [missing]}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=50, max_size=50), st.randoms(use_true_random=False))
def test_a_jittering_clock_makes_no_holes_and_repetitions_vanish(jitter: list[int], random: object) -> None:
    """Each 20 ms frame's timestamp is up to 2 ms off, and every third frame comes again.

    Without snapping there would be clicks of silence between frames, or samples written over; with snapping that is
    not bounded, the recording would drift away from the carrier's clock.
    """
    octets = audio(7, 50 * FRAME_MS)
    source = Call("CA", {"inbound": octets})
    runs = [
        source.run("inbound", max(0, frame * FRAME_MS + off), octets[frame * FRAME : (frame + 1) * FRAME])
        for frame, off in enumerate([0, *jitter[1:]])
    ]
    assert np.array_equal(rendered([source.start(), *runs, *runs[::3]])[:, 0], pcm(octets))


def test_a_slow_clock_does_not_make_the_recording_drift() -> None:
    """The carrier's timestamps say 21 ms a frame for 20 ms of audio, for 100 frames.

    No frame may lie more than 10 ms from its timestamp; snapping each to the one before would be 100 ms off.
    """
    octets = audio(1, 100 * FRAME_MS)
    source = Call("CA", {"inbound": octets})
    runs = [source.run("inbound", frame * 21, octets[frame * FRAME : (frame + 1) * FRAME]) for frame in range(100)]
    for segment in lay_out([source.start(), *runs]).segments[0]:
        assert abs(segment.start - runs[segment.record - 1].ts_ms * 8) <= 80


def test_hold_and_resume_lie_on_one_timeline() -> None:
    """A second stream of the call starts 3 s after the first, which lasts 2 s: the second in between is a gap, not
    cut out, and the second stream's timestamps, which begin at 0 again, do not overwrite the first's."""
    first = call("CA", 2000, seed=1)
    second = call("CA", 1000, seed=5).stream("MZ2", after_ms=3000)
    records = [*first.records(), *second.records()]
    samples = rendered(records)
    assert np.array_equal(samples[:16000], stereo(list(first.tracks.values())))
    assert not samples[16000:24000].any()
    assert np.array_equal(samples[24000:], stereo(list(second.tracks.values())))
    hold = [Gap(start_ms=2000, end_ms=3000, reason="missing")]
    assert gaps(lay_out(records)) == {"inbound": hold, "outbound": hold}


def test_a_stream_that_moves_between_gateways_keeps_its_clock() -> None:
    """A stream of 3 s begins at one gateway and goes on at a second and a third, whose starts come 1 s and 2 s later;
    the first one's end comes in between. It is one stream: its timestamps go on, and so does its place. Begun anew by
    the third's start, its last second would lie 2 s too late."""
    source = call("CA", 3000, seed=3)
    media = source.media()
    third = len(media) // 3
    start, end = source.start(), source.eos()
    records = [
        replace(start, gateway="one"),
        *media[:third],
        replace(start, gateway="two", at_ms=start.at_ms + 1000),
        replace(end, gateway="one"),
        *media[third : 2 * third],
        replace(start, gateway="three", at_ms=start.at_ms + 2000),
        *media[2 * third :],
        replace(end, gateway="three"),
    ]
    assert np.array_equal(rendered(records), stereo(list(source.tracks.values())))


def test_a_stream_that_begins_anew_is_never_put_on_itself() -> None:
    """A stream of 3 s is sent in half a second, ends, and begins again with other audio and timestamps from 0, as tests
    play calls: the second audio follows the first. Both at one place would be one of them lost."""
    first, second = call("CA", 3000, seed=1), call("CA", 3000, seed=5)
    quick = [replace(record, at_ms=EPOCH_MS + 100) for record in first.records()]
    again = [replace(record, at_ms=EPOCH_MS + 600) for record in second.records()]
    samples = rendered([*quick, *again])
    assert np.array_equal(samples[: 3 * 8000], stereo(list(first.tracks.values())))
    assert np.array_equal(samples[3 * 8000 :], stereo(list(second.tracks.values())))


def test_the_call_s_own_end_moves_nothing() -> None:
    """A webhook said that the call is over while its last audio was on its way: it is recorded as without."""
    source = call("CA", 1000, seed=1)
    start, *media = source.media(500)
    over = source.record(RecordType.EOS, stream_id="")
    told = [source.start(), start, over, *media, source.eos()]
    assert np.array_equal(rendered(told), rendered(source.records()))


def test_one_stream_per_track_is_aligned_and_its_edges_reported() -> None:
    """Each direction comes as a stream of its own, the second 300 ms later and as long: what one lacks at the start
    and the other at the end is reported, and the leading silence both have is not part of the recording."""
    left = Call("CA", {"inbound": audio(1, 1000)})
    right = Call("CA", {"outbound": audio(2, 1000)}, stream_id="MZ2").stream("MZ2", after_ms=300)
    late = [
        run if run.type is not RecordType.MEDIA else left.run(run.track, run.ts_ms + 5000, run.payload)
        for run in left.records()
    ]
    also_late = [
        run if run.type is not RecordType.MEDIA else right.run(run.track, run.ts_ms + 5000, run.payload)
        for run in right.records()
    ]
    layout = lay_out([*late, *also_late])
    assert layout.duration_ms == 1300
    assert gaps(layout) == {
        "inbound": [Gap(start_ms=1000, end_ms=1300, reason="no-audio")],
        "outbound": [Gap(start_ms=0, end_ms=300, reason="no-audio")],
    }
    assert [track.audio_ms for track in layout.tracks] == [1000, 1000]


def test_a_gap_record_says_why() -> None:
    """The gateway gave audio up while the log was away and said so: the hole carries its reason."""
    source = call("CA", 2000)
    given_up = [
        source.record(RecordType.GAP, track=track, ts_ms=1000, duration_ms=500, detail="log-unavailable")
        for track in source.tracks
    ]
    layout = lay_out([source.start(), *source.media(holes=[(1000, 1500)]), *given_up, source.eos()])
    assert gaps(layout)["inbound"] == [Gap(start_ms=1000, end_ms=1500, reason="log-unavailable")]


@pytest.mark.parametrize("minutes", [5, 9, 11, 20])
def test_audio_given_up_for_long_is_one_hole_of_its_length(minutes: int) -> None:
    """A gateway gave up many minutes of both tracks, since the log was away: one gap of each, one after the other on
    the log, both from the same moment. The second is no clock that was set: it would be counted twice, and charged."""
    second = 1000
    source = call("CA", 2 * second)
    lost_ms = minutes * 60_000
    records = [source.start()]
    for track, octets in source.tracks.items():
        records.append(source.run(track, 0, octets[: second * 8]))
    for track in source.tracks:
        records.append(
            source.record(RecordType.GAP, track=track, ts_ms=second, duration_ms=lost_ms, detail="buffer-full")
        )
    for track, octets in source.tracks.items():
        records.append(source.run(track, second + lost_ms, octets[second * 8 :]))

    found = lay_out(records)

    assert found.duration_ms == 2 * second + lost_ms
    assert [track.gaps for track in found.tracks] == [
        [Gap(start_ms=second, end_ms=second + lost_ms, reason="buffer-full")]
    ] * 2


def test_an_announced_track_without_audio_is_reported_and_an_unheard_one_is_not() -> None:
    """Only what the carrier announced or sent is a track of the call; one that said nothing at all has one gap."""
    source = Call("CA", {"inbound": audio(1, 1000)})
    announced = source.record(RecordType.START, payload=b'{"tracks": ["inbound", "outbound"]}')
    assert gaps(lay_out([announced, *source.media()])) == {
        "inbound": [],
        "outbound": [Gap(start_ms=0, end_ms=1000, reason="no-audio")],
    }
    assert list(gaps(lay_out([source.start(), *source.media()]))) == ["inbound"]


def test_a_call_without_audio_is_an_empty_recording() -> None:
    """Two announced tracks and not one frame: nothing to hear, and the report says so."""
    source = call("CA", 0)
    layout = lay_out([source.start(), source.eos()])
    assert layout.length == 0
    assert [(track.name, track.audio_ms, len(track.gaps)) for track in layout.tracks] == [
        ("inbound", 0, 1),
        ("outbound", 0, 1),
    ]


def test_a_clock_that_is_set_does_not_make_an_endless_recording() -> None:
    """Timestamps jump ahead by a year, later back to nothing: the audio goes on where it was. Believed, the file
    would be a terabyte of silence, and what came after the jump back would be taken for repetitions."""
    source = Call("CA", {"inbound": audio(1, 3000)})
    year = 365 * 24 * 3600 * 1000
    jumps = {1000: year, 2000: -1000}
    runs, offset = [], 0
    for run in source.media(run_ms=500):
        offset = jumps.get(run.ts_ms, offset)
        runs.append(source.run("inbound", run.ts_ms + offset - (2000 if offset < 0 else 0), run.payload))
    ahead = lay_out([source.start(), *runs[:4]])
    assert ahead.duration_ms == 2000
    assert np.array_equal(rendered([source.start(), *runs])[:, 0], pcm(source.tracks["inbound"]))


def test_late_audio_without_a_start_is_recorded() -> None:
    """The start lies in an earlier part. The audio is placed by its own timestamps; malformed or missing start
    details change nothing."""
    source = Call("CA", {"inbound": audio(1, 1000)})
    odd = source.record(RecordType.START, payload=b"\xff not json")
    for records in (source.media(), [odd, *source.media()]):
        assert np.array_equal(rendered(records)[:, 0], pcm(source.tracks["inbound"]))


def test_a_law_and_unknown_codecs() -> None:
    """A-law is decoded by its own table. Audio nobody can decode is a gap that names the codec, not noise."""
    octets = encode_alaw(pcm(audio(3, 1000)))
    source = Call("CA", {"inbound": octets})
    known = [source.record(RecordType.MEDIA, track="inbound", codec=Codec.PCMA, frames=50, payload=octets)]
    assert np.array_equal(rendered(known)[:, 0], decode_alaw(octets))
    unknown = source.record(
        RecordType.MEDIA, track="inbound", codec=Codec.OPUS, rate_hz=44100, ts_ms=1000, frames=25, payload=b"?"
    )
    after = source.record(RecordType.MEDIA, track="inbound", codec=Codec.PCMA, ts_ms=1500, frames=50, payload=octets)
    layout = lay_out([*known, unknown, after])
    assert gaps(layout)["inbound"] == [Gap(start_ms=1000, end_ms=1500, reason="unsupported-codec OPUS/44100")]
