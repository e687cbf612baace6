"""Tests of the frame merger: no byte is lost, repeated, or moved to a wrong position."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.base import Frame
from gateway.media.frame_merger import EXTRA_WAIT_MS, TrackMerger
from gateway.media.placing import TOLERANCE_MS, Run

RATE_HZ = 8000


def frame(number: int, ts_ms: int | None = None, payload: bytes | None = None) -> Frame:
    """Returns 20 ms frame number `number`. Its bytes differ from those of its neighbours."""
    return Frame("inbound", number, number * 20 if ts_ms is None else ts_ms, payload or number.to_bytes(2, "big") * 80)


def merged(frames: Sequence[Frame], merge_ms: int = 500) -> list[Run]:
    """Returns all runs of a merger for these arrivals, without any time between them."""
    merger = TrackMerger(merge_ms=merge_ms, samples_of=len, rate_hz=RATE_HZ)
    pieces = [piece for one in frames for piece in merger.add(one, 0.0)] + list(merger.flush())
    return [piece for piece in pieces if isinstance(piece, Run)]


def test_frames_in_order_become_runs_of_half_a_second() -> None:
    """Adds 60 frames in order: runs of 25, 25 and 10 frames, each with the first frame's number and time."""
    runs = merged([frame(number) for number in range(60)])
    assert [(run.seq, run.ts_ms, run.frames) for run in runs] == [(0, 0, 25), (25, 500, 25), (50, 1000, 10)]
    assert b"".join(run.payload for run in runs) == b"".join(frame(number).payload for number in range(60))


def test_a_hole_splits() -> None:
    """Omits 400 ms: the audio before and after are two runs, so that the silence keeps its position."""
    runs = merged([frame(number) for number in range(40) if not 10 <= number < 30])
    assert [(run.ts_ms, run.frames) for run in runs] == [(0, 10), (600, 10)]


def test_jitter_does_not_split_and_does_not_add_up() -> None:
    """Adds jitter, and a fast clock: the audio stays in one run, near its own time.

    A jitter of 2 ms does not split a run. With a clock that is 5 % fast for 10 s, no frame is more than 60 ms from its
    own time. If this fails, errors add up and shift the recording.
    """
    jittery = [frame(number, number * 20 + (-2, 0, 2)[number % 3]) for number in range(25)]
    assert len(merged(jittery)) == 1
    for run in merged([frame(number, number * 21) for number in range(500)]):
        assert abs(run.ts_ms - run.seq * 21) <= 60


def test_duration_comes_from_the_audio() -> None:
    """Adds 100 ms frames: they join by their own length, not by an assumed 20 ms."""
    runs = merged([frame(number, number * 100, bytes(800)) for number in range(5)])
    assert [(run.ts_ms, run.frames, len(run.payload)) for run in runs] == [(0, 5, 4000)]


def test_two_frames_with_one_timestamp_are_both_kept() -> None:
    """Adds two different frames with one timestamp: both are kept, in the order of their numbers."""
    (run,) = merged([frame(0), frame(1, ts_ms=0)])
    assert run.payload == frame(0).payload + frame(1).payload


def test_wrong_timestamps_among_right_ones_move_nothing() -> None:
    """Adds frames of which every second timestamp is an hour ahead: the numbers show one run without a hole."""
    runs = merged([frame(0), frame(1, 3_600_000), frame(2, 40), frame(3, 3_600_020)])
    assert [(run.ts_ms, run.frames) for run in runs] == [(0, 4)]


def test_a_single_frame_is_emitted_after_its_time() -> None:
    """Adds one frame and lets time pass: the merger keeps it while others may come, then emits it."""
    merger = TrackMerger(merge_ms=500, samples_of=len, rate_hz=RATE_HZ)
    assert not merger.add(frame(0), 100.0)
    assert not merger.flush_if_old(100.5)
    assert len(merger.flush_if_old(100.501 + EXTRA_WAIT_MS / 1000)) == 1
    assert not merger.flush_if_old(200.0)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Frame], list[Frame]]:
    """Draws distinct frames with holes and clock jitter, and their arrivals: up to 200 ms late, some repeated."""
    chance = random.Random(draw(st.integers()))
    count = draw(st.integers(1, 120))
    numbers = [number for number in range(count) if chance.random() > draw(st.sampled_from([0.0, 0.1]))]
    frames = [frame(number, max(0, number * 20 + chance.randint(-2, 2))) for number in numbers]
    late = sorted(frames, key=lambda one: one.ts_ms + chance.uniform(0, draw(st.sampled_from([0, 200]))))
    twice = [copy for one in late for copy in [one] * (2 if chance.random() < 0.2 else 1)]
    return frames, twice


@given(arrivals(), st.sampled_from([20, 100, 500, 2000]))
def test_every_octet_once_and_in_its_place(case: tuple[list[Frame], list[Frame]], merge_ms: int) -> None:
    """Feeds shuffled, repeated, holed arrivals and takes the runs apart again: every distinct frame is in them, within
    tolerance of its own time, in ascending order within a run; once, unless its repetition came a window later (the
    recorder drops those, they have the same place and octets)."""
    frames, arrived = case
    runs = merged(arrived, merge_ms)
    found: list[tuple[int, bytes]] = []
    for run in runs:
        pieces = [run.payload[start : start + 160] for start in range(0, len(run.payload), 160)]
        assert len(pieces) == run.frames
        numbers = [int.from_bytes(piece[:2], "big") for piece in pieces]
        assert numbers == sorted(set(numbers))
        assert run.seq == numbers[0]
        found += [(run.ts_ms + index * 20, piece) for index, piece in enumerate(pieces)]
    by_payload = {one.payload: one for one in frames}
    assert {piece for _, piece in found} == set(by_payload)
    assert all(abs(at - by_payload[piece].ts_ms) <= TOLERANCE_MS for at, piece in found)
    whole_window = merged(arrived, 10_000)
    assert sum(run.frames for run in whole_window) == len(frames)
    assert [run.ts_ms for run in whole_window] == sorted(run.ts_ms for run in whole_window)
