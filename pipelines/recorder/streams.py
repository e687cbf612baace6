"""Streams of a part, open and ended, as its records say. Pure: used for the state of calls and for recordings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.media import MediaRecord, RecordType, ended_stream

# Ended streams are kept, so that audio that arrives after its stream's end does not open the stream again. It arrives
# within moments. If all streams were kept, the state of a call with thousands of them would be too large for the
# changelog, and would block its partition.
_MAX_ENDED_STREAMS = 50


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams of a part after a record.

    Attributes:
        ended: By stream, in order of arrival: True if it has ended.
        gateways: By open stream, the gateway that started it last.
    """

    ended: Mapping[str, bool] = field(default_factory=dict)
    gateways: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_ended(self) -> bool:
        """True if all known streams have ended."""
        return bool(self.ended) and all(self.ended.values())

    def after(self, record: MediaRecord) -> "Streams":
        """Returns the streams after the part's next record."""
        stream = record.stream_id
        if record.type is RecordType.START:
            gateways = self._gateways_without(stream)
            return Streams(
                {**self.ended, stream: False}, {**gateways, stream: record.gateway} if record.gateway else gateways
            )
        if record.type is RecordType.EOS:
            if not stream:
                return Streams(_without_old(dict.fromkeys(self.ended, True)))
            if stream in self.ended and not ended_stream(record, self.gateways.get(stream, "")):
                return self
            return Streams(_without_old({**self.ended, stream: True}), self._gateways_without(stream))
        # Audio may belong to a stream that started in an earlier part. Audio after its stream's end changes nothing.
        return self if stream in self.ended else Streams({**self.ended, stream: False}, self.gateways)

    def _gateways_without(self, stream: str) -> dict[str, str]:
        return {name: gateway for name, gateway in self.gateways.items() if name != stream}


def _without_old(ended: Mapping[str, bool]) -> Mapping[str, bool]:
    """Drops the oldest ended streams if there are many."""
    old = set([name for name, has_ended in ended.items() if has_ended][:-_MAX_ENDED_STREAMS])
    return {name: has_ended for name, has_ended in ended.items() if name not in old}
