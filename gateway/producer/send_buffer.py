"""What waits for the log, and what is given up when there is too much of it. No I/O, no clock.

The policy: first in, first out. When more is held than may be, the oldest *audio* is given up, because whatever
knows how a call began and ended (start, eos, keypad digits, marks, events) is small and without it the audio that
did arrive would be worth nothing. Audio that is given up leaves a `gap` record in its place, adjacent gaps of one
track joined, so that the recording shows what is missing and why.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import replace

from schemas.codecs import samples_of
from schemas.events import Event
from schemas.media import MediaRecord, RecordType

Item = MediaRecord | Event

BUFFER_FULL = "gateway-buffer-full"
"""`detail` of the gap records that are left here."""

# What an item costs beyond its payload: the object, its numbers and strings, its place in the queue. Measured at
# about 600 bytes; without it a flood of tiny records would hold far more memory than allowed.
OVERHEAD_BYTES = 640

# Gaps this near to each other become one: runs of shuffled frames come out of order by up to 200 ms.
_REACH_MS = 200

_TrackKey = tuple[str, str, str]


def size_of(item: Item) -> int:
    """Bytes an item is counted as."""
    return OVERHEAD_BYTES + (len(item.payload) if isinstance(item, MediaRecord) else 0)


def audio_ms(record: MediaRecord) -> int:
    """Duration of a media record's payload."""
    return samples_of(record.codec, record.rate_hz)(record.payload) * 1000 // record.rate_hz


class SendBuffer:
    """The queue. Order is kept, also over `restore`."""

    def __init__(self) -> None:
        self.bytes = 0
        self._items: OrderedDict[int, Item] = OrderedDict()
        self._head = self._tail = 0  # number of the first item, and one beyond the last
        self._media: deque[int] = deque()  # numbers of the media records, in order
        self._gaps: dict[_TrackKey, int] = {}  # each track's latest gap that was left here

    def __len__(self) -> int:
        return len(self._items)

    def append(self, item: Item) -> None:
        """Takes an item in, last."""
        self._items[self._tail] = item
        if _is_media(item):
            self._media.append(self._tail)
        self._tail += 1
        self.bytes += size_of(item)

    def popleft(self) -> Item:
        """Takes the first item out. Raises KeyError when there is none."""
        number, item = self._items.popitem(last=False)
        self._head = number + 1
        if self._media and self._media[0] == number:
            self._media.popleft()
        if isinstance(item, MediaRecord) and self._gaps.get(_track_key(item)) == number:
            del self._gaps[_track_key(item)]
        self.bytes -= size_of(item)
        return item

    def restore(self, items: Iterable[Item]) -> None:
        """Puts items back to where they were taken from: before all others, in their order."""
        for item in reversed(list(items)):
            self._head -= 1
            self._items[self._head] = item
            self._items.move_to_end(self._head, last=False)
            if _is_media(item):
                self._media.appendleft(self._head)
            self.bytes += size_of(item)

    def shrink_to(self, allowed_bytes: int) -> list[MediaRecord]:
        """Gives up audio, oldest first, until no more than this is held or no audio is left; returns what it was."""
        dropped = []
        while self.bytes > allowed_bytes and self._media:
            number = self._media.popleft()
            record = self._items[number]
            assert isinstance(record, MediaRecord)
            dropped.append(record)
            self._leave_gap(number, record)
        return dropped

    def _leave_gap(self, number: int, record: MediaRecord) -> None:
        key = _track_key(record)
        gap = gap_for(record)
        self.bytes -= size_of(record)
        earlier_number = self._gaps.get(key)
        earlier = self._items.get(earlier_number) if earlier_number is not None else None
        if earlier_number is not None and isinstance(earlier, MediaRecord) and _near(earlier, gap):
            self._items[earlier_number] = _joined(earlier, gap)
            del self._items[number]
            return
        self._items[number] = gap
        self._gaps[key] = number
        self.bytes += size_of(gap)


def gap_for(record: MediaRecord) -> MediaRecord:
    """The gap record that stands for audio which was given up."""
    return replace(record, type=RecordType.GAP, duration_ms=audio_ms(record), detail=BUFFER_FULL, frames=0, payload=b"")


def _is_media(item: Item) -> bool:
    return isinstance(item, MediaRecord) and item.type is RecordType.MEDIA


def _track_key(record: MediaRecord) -> _TrackKey:
    return record.call_id, record.stream_id, record.track


def _end(gap: MediaRecord) -> int:
    return gap.ts_ms + gap.duration_ms


def _near(first: MediaRecord, second: MediaRecord) -> bool:
    return second.ts_ms - _end(first) <= _REACH_MS and first.ts_ms - _end(second) <= _REACH_MS


def _joined(first: MediaRecord, second: MediaRecord) -> MediaRecord:
    start = min(first.ts_ms, second.ts_ms)
    return replace(first, ts_ms=start, duration_ms=max(_end(first), _end(second)) - start)
