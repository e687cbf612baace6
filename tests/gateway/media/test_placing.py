"""Where frames belong, on made-up clocks: whatever a clock does, no audio is lost, doubled, or put on other audio."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.carriers.base import Frame
from gateway.media.arrival_placing import ARRIVAL_TOLERANCE_MS, ArrivalPlacer
from gateway.media.placing import STEP_MS, Hole, Piece, Placer, Run
from gateway.media.timestamp_placing import TimestampPlacer
from schemas.media import GapReason

RATE_HZ = 8000
FRAME_MS = 20
FRAME = 160
WINDOW = 25


def frame(number: int, ts_ms: int, seq: int | None = None) -> Frame:
    """The number-th frame of 20 ms; its octets tell it from all others."""
    return Frame("inbound", number if seq is None else seq, ts_ms, number.to_bytes(4, "big") * 40)


@dataclass(frozen=True)
class Heard:
    """A frame in the recording. end_ms: where it ends; overlap: its run may begin before the audio before it ends."""

    number: int
    at_ms: int
    overlap: bool

    @property
    def end_ms(self) -> int:
        return self.at_ms + FRAME_MS


def placed(placer: Placer, frames: Sequence[Frame], now_s: Sequence[float] | None = None) -> list[Piece]:
    """All pieces of these frames, which come in windows of half a second; the last is the end."""
    pieces: list[Piece] = []
    window: list[Frame] = []
    for index, one in enumerate(frames):
        window.append(one)
        final = index == len(frames) - 1
        if len(window) >= WINDOW or final:
            more, window = placer.place(window, now_s[index] if now_s else index / 50, final=final)
            pieces += more
    return pieces


def heard(pieces: Sequence[Piece]) -> list[Heard]:
    """The frames of the runs, in their order."""
    return [
        Heard(int.from_bytes(run.payload[start : start + 4], "big"), run.ts_ms + start // 8, run.overlap and start == 0)
        for run in pieces
        if isinstance(run, Run)
        for start in range(0, len(run.payload), FRAME)
    ]


def assert_nothing_overlaps(found: Sequence[Heard]) -> None:
    """In the order of time each frame begins where the one before it ends, or later."""
    ordered = sorted(found, key=lambda one: one.at_ms)
    for before, after in pairwise(ordered):
        slack = STEP_MS if after.overlap else 0
        assert after.at_ms >= before.end_ms - slack - 1, (before, after)  # a run's time is cut to whole ms


@st.composite
def odd_clocks(draw: st.DrawFn) -> list[int]:
    """Timestamps of 50 to 500 frames that follow each other: right at first, then whatever clocks have been seen to do,
    one thing after the other."""
    chance = random.Random(draw(st.integers()))
    stamps: list[int] = []
    offset = draw(st.sampled_from([0, 0, 7, 1_790_000_000_000]))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["right", "late", "reset", "still", "stall", "epoch", "drift"]))
        length = draw(st.integers(25, 150))
        begin = len(stamps) * FRAME_MS
        stall_ms = draw(st.integers(50, 3000))
        if kind == "reset":
            offset = -begin
        elif kind == "epoch":
            offset = 1_790_000_000_000
        for number in range(length):
            at_ms = begin + number * FRAME_MS
            late_ms = {
                "late": chance.randint(0, 30),
                "still": begin - at_ms,
                "stall": max(0, stall_ms - number * FRAME_MS),
                "drift": number // 25,
            }.get(kind, 0)
            stamps.append(offset + at_ms + late_ms)
    return stamps


@settings(deadline=None)
@given(odd_clocks())
def test_no_clock_loses_audio_whose_numbers_have_no_hole(stamps: list[int]) -> None:
    """Frames come in order, numbered in a row, with timestamps that do anything.

    Each frame is in the recording once, in its order, and none lies on another. What fails here loses words.
    """
    found = heard(placed(TimestampPlacer(len, RATE_HZ), [frame(n, max(0, at)) for n, at in enumerate(stamps)]))
    assert [one.number for one in found] == list(range(len(stamps)))
    assert_nothing_overlaps(found)


@pytest.mark.parametrize("stand_ms", [0, 500, 1010, 2000])
@pytest.mark.parametrize("clock", ["still", "reset"])
def test_silence_by_an_odd_clock_is_no_repetition(stand_ms: int, clock: str) -> None:
    """A stream is silent, so that its frames are all alike, and its clock stands still or begins at 0 again: the
    silence keeps its length. Taken for repetitions of each other, the frames would vanish, and move what follows."""
    stamps = [
        at if at < stand_ms else stand_ms if clock == "still" else at - stand_ms for at in range(0, 4000, FRAME_MS)
    ]
    frames = [Frame("inbound", n, at, b"\xff" * FRAME) for n, at in enumerate(stamps)]
    assert len(heard(placed(TimestampPlacer(len, RATE_HZ), frames))) == len(frames)


_ANY = st.one_of(st.integers(0, 300), st.integers(0, 20_000), st.integers(0, 2**53))


@settings(deadline=None)
@given(
    st.lists(st.tuples(_ANY, _ANY, st.integers(1, 400)), max_size=200),
    st.sampled_from([TimestampPlacer, ArrivalPlacer]),
)
def test_whatever_is_sent_is_heard(
    sent: list[tuple[int, int, int]], kind: type[TimestampPlacer | ArrivalPlacer]
) -> None:
    """Numbers, timestamps and lengths are anything at all: each frame's octets are in some run, wherever it lies."""
    frames = [
        Frame("inbound", seq, ts_ms, number.to_bytes(4, "big") * length)
        for number, (seq, ts_ms, length) in enumerate(sent)
    ]
    runs = [piece for piece in placed(kind(len, RATE_HZ), frames) if isinstance(piece, Run)]
    assert sum(len(run.payload) for run in runs) == sum(len(frame.payload) for frame in frames)
    assert sum(run.frames for run in runs) == len(frames)


def test_a_clock_that_jumps_with_each_of_many_small_frames_costs_little() -> None:
    """A window of 4,000 frames of one sample, whose stamps go up and down by a second: placed in a moment. Looked at
    one by one, each with all that follow, they would hold up every other call of the gateway for seconds."""
    frames = [Frame("inbound", n, n % 2 * 1000, bytes([n % 251])) for n in range(4000)]
    before_s = time.process_time()
    (run,) = TimestampPlacer(len, RATE_HZ).place(frames, 0.0, final=True)[0]
    assert time.process_time() - before_s < 0.5
    assert run == Run("inbound", 0, 0, 4000, b"".join(frame.payload for frame in frames))


@st.composite
def bad_networks(draw: st.DrawFn) -> tuple[list[Frame], list[Frame]]:
    """The frames that come, and how: late by up to a second, some twice, some never, numbered as they were made or as
    they came."""
    chance = random.Random(draw(st.integers()))
    numbers = [n for n in range(draw(st.integers(1, 200))) if chance.random() > draw(st.sampled_from([0.0, 0.1]))]
    late_ms = draw(st.sampled_from([0, 100, 1000]))
    order = sorted(numbers, key=lambda n: n * FRAME_MS + chance.uniform(0, late_ms))
    twice = [copy for n in order for copy in [n] * (2 if chance.random() < 0.2 else 1)]
    as_they_came = draw(st.booleans())
    arrived = [frame(n, n * FRAME_MS, seq if as_they_came else n) for seq, n in enumerate(twice)]
    return [frame(n, n * FRAME_MS) for n in numbers], arrived


@settings(deadline=None)
@given(bad_networks())
def test_a_right_clock_places_every_frame(network: tuple[list[Frame], list[Frame]]) -> None:
    """Timestamps are right, and the network is bad: each frame that came is once where its timestamp says."""
    sent, arrived = network
    found = heard(placed(TimestampPlacer(len, RATE_HZ), arrived))
    assert sorted((one.number, one.at_ms) for one in found) == [(one.seq, one.ts_ms) for one in sent]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_a_lost_frame_keeps_its_place_among_late_stamps(stride: int, seed: int) -> None:
    """Timestamps are late by 0 to 30 ms, one frame in fifty is lost, and numbers count one track or both: each frame
    is within 20 ms of its place."""
    chance = random.Random(seed)
    kept = [n for n in range(500) if n in {0, 499} or chance.random() > 0.02]
    frames = [frame(n, n * FRAME_MS + chance.randint(0, 30), n * stride) for n in kept]
    found = heard(placed(TimestampPlacer(len, RATE_HZ), frames))
    assert [one.number for one in found] == kept
    assert max(abs(one.at_ms - one.number * FRAME_MS) for one in found) <= 20
    assert_nothing_overlaps(found)


@pytest.mark.parametrize("pause_ms", [60, 300, 1000, 10_000, 3_600_000])
def test_a_timestamp_that_jumps_with_the_time_is_a_pause(pause_ms: int) -> None:
    """The carrier sends nothing for a while, up to an hour, and its timestamps count on: what follows lies there."""
    stamps = [n * FRAME_MS + (pause_ms if n >= 110 else 0) for n in range(200)]
    frames = [frame(n, at) for n, at in enumerate(stamps)]
    found = heard(placed(TimestampPlacer(len, RATE_HZ), frames, [at / 1000 for at in stamps]))
    assert [one.at_ms for one in found] == stamps


@st.composite
def arrivals(draw: st.DrawFn) -> list[int]:
    """When frames arrive (ms): at their pace with jitter, in bursts, after stalls and pauses."""
    chance = random.Random(draw(st.integers()))
    jitter_ms = draw(st.sampled_from([0, 30, 150]))
    times: list[int] = []
    spoken = 0
    for _ in range(draw(st.integers(1, 5))):
        spoken += draw(st.sampled_from([0, 0, 100, 700, 5000]))  # a pause
        held_ms = draw(st.sampled_from([0, 0, 400, 2000]))  # by a network that stalls
        free = spoken + held_ms
        for _ in range(draw(st.integers(1, 150))):
            spoken += FRAME_MS
            times.append(max(spoken + chance.randint(0, jitter_ms), free, times[-1] if times else 0))
    return times


@settings(deadline=None)
@given(arrivals())
def test_audio_without_timestamps_is_all_there(times: list[int]) -> None:
    """Frames arrive at any time, in order. Each is in the recording once, in its order, none on another, and each hole
    is exactly what lies between two of them."""
    pieces = placed(ArrivalPlacer(len, RATE_HZ), [frame(n, at) for n, at in enumerate(times)])
    found = heard(pieces)
    assert [one.number for one in found] == list(range(len(times)))
    assert_nothing_overlaps(found)
    for before, hole, after in zip(pieces, pieces[1:], pieces[2:], strict=False):
        if isinstance(hole, Hole):
            assert isinstance(before, Run)
            assert isinstance(after, Run)
            assert (hole.ts_ms, hole.reason) == (before.ts_ms + len(before.payload) // 8, GapReason.NOT_SENT)
            assert after.ts_ms == hole.ts_ms + hole.duration_ms
            assert hole.duration_ms > 0


@pytest.mark.parametrize("pause_ms", [ARRIVAL_TOLERANCE_MS + 20, 500, 5000])
@pytest.mark.parametrize("at", [7, 20, 24, 25, 26, 40])
def test_a_pause_lies_where_it_was_wherever_windows_end(pause_ms: int, at: int) -> None:
    """A pause begins at any place of a window of 25 frames: one hole of its length, right there."""
    times = [(n + 1) * FRAME_MS + (pause_ms if n >= at else 0) for n in range(100)]
    pieces = placed(ArrivalPlacer(len, RATE_HZ), [frame(n, time) for n, time in enumerate(times)])
    assert [piece for piece in pieces if isinstance(piece, Hole)] == [
        Hole("inbound", at * FRAME_MS, pause_ms, GapReason.NOT_SENT)
    ]


@pytest.mark.parametrize("pause_ms", [40, 60, 100, 180])
@pytest.mark.parametrize("jitter_ms", [0, 5, 15])
def test_a_short_pause_on_a_steady_line_is_placed(pause_ms: int, jitter_ms: int) -> None:
    """Audio arrives evenly for 4 s, then nothing is sent for a moment. All of it must be placed to 20 ms.

    A failure means that the audio after a short pause is early by the length of the pause.
    """
    chance = random.Random(pause_ms)
    true = [(n + 1) * FRAME_MS + (pause_ms if n >= 200 else 0) for n in range(600)]
    times = list(accumulate((at + chance.randint(0, jitter_ms) for at in true), max))
    pieces = placed(ArrivalPlacer(len, RATE_HZ), [frame(n, time) for n, time in enumerate(times)])
    if pause_ms > 2 * jitter_ms + FRAME_MS:
        (hole,) = [piece for piece in pieces if isinstance(piece, Hole)]
        assert abs(hole.duration_ms - pause_ms) <= FRAME_MS
    assert max(abs(one.end_ms - true[one.number]) for one in heard(pieces)) <= max(FRAME_MS, 2 * jitter_ms)


@pytest.mark.parametrize("jitter_ms", [30, 100])
def test_jitter_makes_no_gap(jitter_ms: int) -> None:
    """Audio arrives for a minute with jitter, with a stall of 150 ms every 2 s, and with a clock that is 0.02 % slow.

    It must stay in one piece. A failure means that a gap interrupts audio of which nothing is missing.
    """
    chance = random.Random(jitter_ms)
    times: list[int] = []
    for n in range(2950):
        sent = round((n + 1) * FRAME_MS * 1.0002)
        stalled = sent // 2000 * 2000 + 150
        arrived = max(sent + chance.randint(0, jitter_ms), stalled if sent > 2000 else 0)
        times.append(max(arrived, times[-1] if times else 0))
    pieces = placed(ArrivalPlacer(len, RATE_HZ), [frame(n, time) for n, time in enumerate(times)])
    assert [piece for piece in pieces if isinstance(piece, Hole)] == []
    assert [one.number for one in heard(pieces)] == list(range(2950))


def test_many_small_pauses_are_not_forgotten() -> None:
    """Nothing comes for 150 ms after each second: each pause is within the tolerance, but the audio may not fall behind
    the call for ever."""
    times = [(n + 1) * FRAME_MS + n // 50 * 150 for n in range(50 * 60)]
    found = heard(placed(ArrivalPlacer(len, RATE_HZ), [frame(n, time) for n, time in enumerate(times)]))
    assert max(abs(one.end_ms - times[one.number]) for one in found) <= 700


def test_audio_that_was_kept_before_the_stream_comes_at_once() -> None:
    """A carrier sends two seconds that it kept at once and then goes on at the pace of speech: no hole, and no overlap
    with which the clock would be followed."""
    times = [max(20, (n - 99) * FRAME_MS) for n in range(1000)]
    pieces = placed(ArrivalPlacer(len, RATE_HZ), [frame(n, time) for n, time in enumerate(times)])
    assert [one.at_ms for one in heard(pieces)] == [n * FRAME_MS for n in range(1000)]
