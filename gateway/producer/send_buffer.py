"""Queue of items that wait for the log, with the policy for a full buffer. Pure: no I/O, no clock.

The order is first in, first out. If the buffer is full, the oldest *audio* is discarded. The other records (start, eos,
keypad digits, marks, events) are small, and without them the audio of a call is useless. A `gap` record replaces the
discarded audio, so that the recording shows what is missing and why; adjacent gaps of one track are joined.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import replace

from schemas.codecs import samples_of
from schemas.events import Event
from schemas.media import GapReason, MediaRecord, RecordType

Item = MediaRecord | Event

# Memory of an item besides its payload: the object, its fields and its queue entry. Measured at about 600 bytes.
# Without it, a flood of tiny records would use far more memory than the limit.
OVERHEAD_BYTES = 640

# Gaps closer than this become one. Chunks of reordered frames arrive out of order by up to 200 ms.
_JOIN_DISTANCE_MS = 200

_TrackKey = tuple[str, str, str]


def size_of(item: Item) -> int:
    """Returns the number of bytes that an item counts for."""
    return OVERHEAD_BYTES + (len(item.payload) if isinstance(item, MediaRecord) else 0)


def audio_ms(record: MediaRecord) -> int:
    """Returns the duration of a media record's payload in ms."""
    return samples_of(record.codec, record.rate_hz)(record.payload) * 1000 // record.rate_hz


class SendBuffer:
    """The queue. It keeps the order, also of restored items."""

    def __init__(self) -> None:
        self.bytes = 0
        self._items: OrderedDict[int, Item] = OrderedDict()
        self._head = self._tail = 0  # number of the first item, and the number after the last
        self._media: deque[int] = deque()  # numbers of the media records, in order
        self._gaps: dict[_TrackKey, int] = {}  # number of each track's latest gap in the queue

    def __len__(self) -> int:
        return len(self._items)

    def append(self, item: Item) -> None:
        """Adds an item at the end."""
        self._items[self._tail] = item
        if _is_media(item):
            self._media.append(self._tail)
        self._tail += 1
        self.bytes += size_of(item)

    def popleft(self) -> Item:
        """Removes and returns the first item. Raises KeyError if the queue is empty."""
        number, item = self._items.popitem(last=False)
        self._head = number + 1
        if self._media and self._media[0] == number:
            self._media.popleft()
        if isinstance(item, MediaRecord) and self._gaps.get(_track_key(item)) == number:
            del self._gaps[_track_key(item)]
        self.bytes -= size_of(item)
        return item

    def restore(self, items: Iterable[Item]) -> None:
        """Puts removed items back before all others, in their order."""
        for item in reversed(list(items)):
            self._head -= 1
            self._items[self._head] = item
            self._items.move_to_end(self._head, last=False)
            if _is_media(item):
                self._media.appendleft(self._head)
            self.bytes += size_of(item)

    def shrink_to(self, allowed_bytes: int) -> list[MediaRecord]:
        """Discards audio, oldest first, until this size is reached or no audio is left; returns what it discarded."""
        dropped = []
        while self.bytes > allowed_bytes and self._media:
            number = self._media.popleft()
            record = self._items[number]
            assert isinstance(record, MediaRecord)
            dropped.append(record)
            self._replace_by_gap(number, record)
        return dropped

    def _replace_by_gap(self, number: int, record: MediaRecord) -> None:
        key = _track_key(record)
        gap = gap_for(record)
        self.bytes -= size_of(record)
        earlier_number = self._gaps.get(key)
        earlier = self._items.get(earlier_number) if earlier_number is not None else None
        if earlier_number is not None and isinstance(earlier, MediaRecord) and _are_close(earlier, gap):
            self._items[earlier_number] = _joined(earlier, gap)
            del self._items[number]
            return
        self._items[number] = gap
        self._gaps[key] = number
        self.bytes += size_of(gap)


def gap_for(record: MediaRecord) -> MediaRecord:
    """Returns the gap record that replaces discarded audio."""
    reason = GapReason.BUFFER_FULL
    return replace(record, type=RecordType.GAP, duration_ms=audio_ms(record), detail=reason, frames=0, payload=b"")


def _is_media(item: Item) -> bool:
    return isinstance(item, MediaRecord) and item.type is RecordType.MEDIA


def _track_key(record: MediaRecord) -> _TrackKey:
    return record.call_id, record.stream_id, record.track


def _end(gap: MediaRecord) -> int:
    return gap.ts_ms + gap.duration_ms


def _are_close(first: MediaRecord, second: MediaRecord) -> bool:
    return second.ts_ms - _end(first) <= _JOIN_DISTANCE_MS and first.ts_ms - _end(second) <= _JOIN_DISTANCE_MS


def _joined(first: MediaRecord, second: MediaRecord) -> MediaRecord:
    start = min(first.ts_ms, second.ts_ms)
    return replace(first, ts_ms=start, duration_ms=max(_end(first), _end(second)) - start)
