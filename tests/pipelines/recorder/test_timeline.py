"""Tests of the timeline against a simple reference: an array of silence into which each frame is copied."""

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
from tests.support.media_records import EPOCH_MS, FRAME, FRAME_MS, Call, audio, call, pcm, stereo


def placed(layout: Layout, load: Load) -> npt.NDArray[np.int16]:
    """Returns the samples of a layout, int16[samples, 2]."""
    samples = np.zeros((layout.length, 2), np.int16)
    for channel, segments in enumerate(layout.segments):
        for segment, part in zip(segments, samples_of(segments, load, layout.rate_hz), strict=True):
            samples[segment.start : segment.start + segment.length, channel] = part
    return samples


def rendered(records: Sequence[MediaRecord]) -> npt.NDArray[np.int16]:
    """Returns the samples of a part with these records."""

    def load(number: int) -> EncodedAudio:
        record = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    return placed(lay_out(records), load)


def gaps(layout: Layout) -> dict[str, list[Gap]]:
    return {track.name: track.gaps for track in layout.tracks}


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[Call, set[int], list[MediaRecord]]:
    """Draws a call of 0.5 to 3 s: shuffled, repeated and lost frames, in runs of any length."""
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
    """Returns the frames as runs that omit the hole."""
    runs, present = [], [frame for frame in frames if frame not in hole]
    while present:
        end = next((i for i in range(1, len(present)) if present[i] != present[i - 1] + 1), len(present))
        payload = octets[present[0] * FRAME : (present[end - 1] + 1) * FRAME]
        runs.append(source.run(track, present[0] * FRAME_MS, payload))
        present = present[end:]
    return runs


@settings(max_examples=150, deadline=None)
@given(arrivals())
def test_every_sample_has_the_position_of_its_timestamp(arrival: tuple[Call, set[int], list[MediaRecord]]) -> None:
    """Renders frames in any order, some repeated in other runs, some lost: equal to copying them one by one.

    A difference means audio that is lost, doubled or moved. A wrong gap means a wrong report of what is missing.
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
def test_jitter_causes_no_holes_and_repetitions_vanish(jitter: list[int], random: object) -> None:
    """Renders frames with timestamps up to 2 ms off, every third frame repeated: no holes, no repetitions.

    Without snapping there would be clicks of silence between frames, or overwritten samples. Unlimited snapping would
    let the recording drift away from the carrier's clock.
    """
    octets = audio(7, 50 * FRAME_MS)
    source = Call("CA", {"inbound": octets})
    runs = [
        source.run("inbound", max(0, frame * FRAME_MS + off), octets[frame * FRAME : (frame + 1) * FRAME])
        for frame, off in enumerate([0, *jitter[1:]])
    ]
    assert np.array_equal(rendered([source.start(), *runs, *runs[::3]])[:, 0], pcm(octets))


def test_a_slow_clock_does_not_make_the_recording_drift() -> None:
    """Renders 100 frames of 20 ms with timestamps 21 ms apart: no frame is more than 10 ms from its timestamp.

    Snapping each frame to the one before it would end 100 ms off.
    """
    octets = audio(1, 100 * FRAME_MS)
    source = Call("CA", {"inbound": octets})
    runs = [source.run("inbound", frame * 21, octets[frame * FRAME : (frame + 1) * FRAME]) for frame in range(100)]
    for segment in lay_out([source.start(), *runs]).segments[0]:
        assert abs(segment.start - runs[segment.record - 1].ts_ms * 8) <= 80


def test_hold_and_resume_are_on_one_timeline() -> None:
    """Starts a second stream 3 s after the first, which lasts 2 s: the second between them is a gap.

    The gap is not cut out, and the second stream, whose timestamps begin at 0, does not overwrite the first.
    """
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
    """Moves a stream of 3 s to a second and a third gateway: it remains one stream with one clock.

    Their starts come 1 s and 2 s later, and the end of the first gateway comes in between. If the third start reset
    the clock, the last second would be 2 s too late.
    """
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


def test_a_restarted_stream_never_overwrites_itself() -> None:
    """Sends a stream of 3 s in half a second, ends it, and starts it again from 0: the audio follows the first.

    Tests play calls this way. If both had one position, one of them would be lost.
    """
    first, second = call("CA", 3000, seed=1), call("CA", 3000, seed=5)
    quick = [replace(record, at_ms=EPOCH_MS + 100) for record in first.records()]
    again = [replace(record, at_ms=EPOCH_MS + 600) for record in second.records()]
    samples = rendered([*quick, *again])
    assert np.array_equal(samples[: 3 * 8000], stereo(list(first.tracks.values())))
    assert np.array_equal(samples[3 * 8000 :], stereo(list(second.tracks.values())))


def test_the_end_of_the_call_moves_nothing() -> None:
    """Ends the call by a webhook before its last audio arrives: the recording is the same as without it."""
    source = call("CA", 1000, seed=1)
    start, *media = source.media(500)
    over = source.record(RecordType.EOS, stream_id="")
    told = [source.start(), start, over, *media, source.eos()]
    assert np.array_equal(rendered(told), rendered(source.records()))


def test_streams_per_track_are_aligned() -> None:
    """Renders one stream per direction, the second 300 ms later: the missing edges of both are reported.

    Silence at the beginning of both is not part of the recording.
    """
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


def test_a_gap_record_gives_the_reason() -> None:
    """Renders a part with a gap record of dropped audio: the hole has its reason."""
    source = call("CA", 2000)
    given_up = [
        source.record(RecordType.GAP, track=track, ts_ms=1000, duration_ms=500, detail="log-unavailable")
        for track in source.tracks
    ]
    layout = lay_out([source.start(), *source.media(holes=[(1000, 1500)]), *given_up, source.eos()])
    assert gaps(layout)["inbound"] == [Gap(start_ms=1000, end_ms=1500, reason="log-unavailable")]


@pytest.mark.parametrize("minutes", [5, 9, 11, 20])
def test_a_long_loss_is_one_hole_of_its_length(minutes: int) -> None:
    """Drops many minutes of both tracks: each track has one gap from the same time.

    The gap records follow each other on the log. The second must not look like a clock that was set: it would be
    counted and charged twice.
    """
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


def test_only_announced_or_sent_tracks_are_reported() -> None:
    """Announces a track without audio.

    It is reported with one gap. A track that is neither announced nor sent is not.
    """
    source = Call("CA", {"inbound": audio(1, 1000)})
    announced = source.record(RecordType.START, payload=b'{"tracks": ["inbound", "outbound"]}')
    assert gaps(lay_out([announced, *source.media()])) == {
        "inbound": [],
        "outbound": [Gap(start_ms=0, end_ms=1000, reason="no-audio")],
    }
    assert list(gaps(lay_out([source.start(), *source.media()]))) == ["inbound"]


def test_a_call_without_audio_is_an_empty_recording() -> None:
    """Announces two tracks and sends no frame: the recording is empty, and the report shows it."""
    source = call("CA", 0)
    layout = lay_out([source.start(), source.eos()])
    assert layout.length == 0
    assert [(track.name, track.audio_ms, len(track.gaps)) for track in layout.tracks] == [
        ("inbound", 0, 1),
        ("outbound", 0, 1),
    ]


def test_a_clock_that_is_set_does_not_extend_the_recording() -> None:
    """Sets the clock ahead by a year, then back to 0: the audio continues at its position.

    Otherwise the file would be a terabyte of silence, and the audio after the jump back would look like repetitions.
    """
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
    """Renders audio whose start is in an earlier part: its own timestamps give the position.

    Malformed or missing start details change nothing.
    """
    source = Call("CA", {"inbound": audio(1, 1000)})
    odd = source.record(RecordType.START, payload=b"\xff not json")
    for records in (source.media(), [odd, *source.media()]):
        assert np.array_equal(rendered(records)[:, 0], pcm(source.tracks["inbound"]))


def test_a_law_and_unknown_codecs() -> None:
    """Renders A-law with its own table, and an unknown codec as a gap that names the codec, not as noise."""
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
