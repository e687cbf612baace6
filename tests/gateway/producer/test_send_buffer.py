"""Tests of the buffer in front of the log: order, limit, and gap records for discarded audio."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.producer.send_buffer import OVERHEAD_BYTES, Item, SendBuffer, audio_ms, size_of
from schemas.media import GapReason, MediaRecord, RecordType


def record(
    kind: RecordType, *, number: int = 0, track: str = "inbound", call: str = "CA1", payload: bytes = b""
) -> MediaRecord:
    """A record at number half seconds into the stream."""
    return MediaRecord(
        type=kind,
        call_id=call,
        tenant="acme",
        carrier="twilio",
        stream_id="MZ1",
        at_ms=number,
        track=track,
        seq=number,
        ts_ms=number * 500,
        payload=payload,
    )


def run(number: int, track: str = "inbound", call: str = "CA1") -> MediaRecord:
    """Half a second of audio."""
    return record(RecordType.MEDIA, number=number, track=track, call=call, payload=bytes(4000))


def filled(items: Sequence[Item]) -> SendBuffer:
    backlog = SendBuffer()
    for item in items:
        backlog.append(item)
    return backlog


def emptied(backlog: SendBuffer) -> list[Item]:
    return [backlog.popleft() for _ in range(len(backlog))]


def test_oldest_audio_is_replaced_by_a_gap() -> None:
    """Shrinks start, five half seconds and eos to the size of three.

    The first three must be discarded and replaced by one gap with their time and duration; start and eos must stay.
    Discarding the newest audio would damage calls that can still be recorded completely.
    """
    items = [record(RecordType.START), *(run(number) for number in range(5)), record(RecordType.EOS)]
    backlog = filled(items)
    dropped = backlog.shrink_to(backlog.bytes - size_of(items[1]) - 4000 - 1)
    assert dropped == items[1:4]
    start, gap, *rest = emptied(backlog)
    assert start == items[0]
    assert rest == items[4:]
    assert isinstance(gap, MediaRecord)
    assert (gap.type, gap.ts_ms, gap.duration_ms, gap.detail) == (RecordType.GAP, 0, 1500, GapReason.BUFFER_FULL)
    assert gap.payload == b""
    assert backlog.bytes == 0


def test_gaps_are_per_track_and_not_joined_over_pauses() -> None:
    """Discards both tracks of a call with a pause of 10 s: each track must have one gap before and one after the pause.

    A longer gap would claim audio that was never sent.
    """
    items = [run(number, track) for number in (0, 1, 22) for track in ("inbound", "outbound")]
    backlog = filled(items)
    backlog.shrink_to(0)
    gaps = [gap for gap in emptied(backlog) if isinstance(gap, MediaRecord)]
    assert [(gap.track, gap.ts_ms, gap.duration_ms) for gap in gaps] == [
        ("inbound", 0, 1000),
        ("outbound", 0, 1000),
        ("inbound", 11000, 500),
        ("outbound", 11000, 500),
    ]


def test_only_audio_is_discarded() -> None:
    """Shrinks a buffer without audio to zero: all items must stay."""
    kinds = (RecordType.START, RecordType.DTMF, RecordType.MARK, RecordType.GAP, RecordType.EOS)
    backlog = filled([record(kind) for kind in kinds])
    assert backlog.shrink_to(0) == []
    assert len(backlog) == len(kinds)


def test_restoring_keeps_the_order() -> None:
    """Removes two items, appends one and restores the two.

    The order must be the original one, and restored audio must be discardable like all other audio.
    """
    items: list[Item] = [run(number) for number in range(4)]
    backlog = filled(items[:3])
    taken = [backlog.popleft(), backlog.popleft()]
    backlog.append(items[3])
    backlog.restore(taken)
    assert emptied(backlog) == items
    backlog.restore(items)
    assert backlog.shrink_to(2 * (4000 + OVERHEAD_BYTES) + OVERHEAD_BYTES) == items[:2]


STEPS = st.lists(
    st.sampled_from(["media-in", "media-out", "dtmf", "pop", "restore", "shrink"]), min_size=1, max_size=120
)


@given(STEPS, st.integers(0, 60_000))
def test_random_operations_keep_order_and_size(steps: list[str], allowed: int) -> None:
    """Runs random operations and checks the buffer after each.

    Its size must be the sum of its items, items must leave in their order, and each half second of audio must leave or
    be covered by a gap of its track.
    """
    backlog = SendBuffer()
    out: list[Item] = []
    dropped: list[MediaRecord] = []
    for number, step in enumerate(steps):
        if step in ("media-in", "media-out"):
            backlog.append(run(number, "inbound" if step == "media-in" else "outbound"))
        elif step == "dtmf":
            backlog.append(record(RecordType.DTMF, number=number))
        elif step == "pop" and len(backlog):
            out.append(backlog.popleft())
        elif step == "restore":
            backlog.restore(out[-2:])
            del out[-2:]
        elif step == "shrink":
            dropped += backlog.shrink_to(allowed)
    held = emptied(backlog)
    assert backlog.bytes == 0
    out += held
    records = [item for item in out if isinstance(item, MediaRecord)]
    assert [one.at_ms for one in records] == sorted(one.at_ms for one in records)
    gaps = [one for one in records if one.type is RecordType.GAP]
    for lost in dropped:
        assert any(
            gap.track == lost.track
            and gap.ts_ms <= lost.ts_ms
            and gap.ts_ms + gap.duration_ms >= lost.ts_ms + audio_ms(lost)
            for gap in gaps
        )
        assert lost not in records


def test_size_includes_the_overhead() -> None:
    """Reads the size of a record without payload.

    It must not be zero, or a flood of empty records would be unlimited.
    """
    assert size_of(record(RecordType.MARK)) == OVERHEAD_BYTES
