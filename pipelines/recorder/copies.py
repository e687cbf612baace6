"""Detects streams that carry the same audio at the same time.

A carrier sends such copies if two requests ask it to stream one direction of a call. Two voices are mixed, but the same
voice twice would be twice as loud, with an echo. So a copy only fills the gaps of its original.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from pipelines.recorder.decoding import EncodedAudio, Load
from pipelines.recorder.timeline import TRACKS, Copies, Layout, Segment
from schemas.codecs import packets, samples_of
from schemas.media import Codec

CHUNK_MS = 20
MAX_OFFSET_MS = 200
"""Maximum time between the starts of two copies: their sockets open one after the other."""

_MAX_CHUNKS = 500  # compared chunks of a stream: 10 s
_MIN_CHUNKS = 10  # audible chunks that a comparison needs: all silence is alike
_MIN_SHARE = 0.9


def find_copies(layout: Layout, load: Load, stream_of: Callable[[int], str]) -> Copies:
    """Returns the copies among the streams of a layout. stream_of: returns the stream of a record."""
    found: dict[tuple[str, str], str] = {}
    for number, overlay in layout.overlays:
        others = [layout.segments[number], *(one for track, one in layout.overlays if track == number)]
        by_stream: dict[str, list[Segment]] = defaultdict(list)
        for segment in overlay:
            by_stream[stream_of(segment.record)].append(segment)
        for stream, segments in by_stream.items():
            original = _original(segments, others, layout.rate_hz, load)
            if original:
                found[TRACKS[number], stream] = found.get((TRACKS[number], original), original)
    return found


def _original(segments: Sequence[Segment], others: Sequence[Sequence[Segment]], rate_hz: int, load: Load) -> str:
    """Returns the stream that carries the same audio as these segments of one stream, or ""."""
    slack = MAX_OFFSET_MS * rate_hz // 1000
    stream = load(segments[0].record).stream_id
    compared: list[tuple[int, bytes]] = []
    for segment in segments:
        compared += _audible_chunks(segment, load(segment.record), rate_hz)
        if len(compared) >= _MAX_CHUNKS:
            break
    if len(compared) < _MIN_CHUNKS:
        return ""
    begin, end = compared[0][0] - slack, compared[-1][0] + slack
    places: dict[bytes, list[tuple[int, str]]] = defaultdict(list)
    for layer in others:
        for segment in layer:
            if segment.start < end and segment.start + segment.length > begin:
                encoded = load(segment.record)
                if encoded.stream_id != stream:
                    for place, chunk in _audible_chunks(segment, encoded, rate_hz):
                        places[chunk].append((place, encoded.stream_id))
    same = Counter(
        other
        for at, chunk in compared
        for other in {other for place, other in places[chunk] if abs(place - at) <= slack}
    )
    other, count = same.most_common(1)[0] if same else ("", 0)
    return other if count >= _MIN_SHARE * len(compared) else ""


def _audible_chunks(segment: Segment, encoded: EncodedAudio, rate_hz: int) -> Iterator[tuple[int, bytes]]:
    """Yields the position and content of the segment's chunks that are not silent."""
    start = segment.start - segment.skip
    for offset, chunk in _chunks(encoded):
        at = start + offset * rate_hz // encoded.rate_hz
        if len(set(chunk)) > 2 and segment.start <= at < segment.start + segment.length:
            yield at, chunk


def _chunks(encoded: EncodedAudio) -> Iterator[tuple[int, bytes]]:
    """Yields the first sample and the content of each chunk of a record, in the size that carriers send."""
    measure = samples_of(encoded.codec, encoded.rate_hz)
    if encoded.codec is Codec.OPUS:
        offset = 0
        for packet in packets(encoded.payload):
            yield offset, packet
            offset += measure(len(packet).to_bytes(2, "big") + packet)
        return
    samples = encoded.rate_hz * CHUNK_MS // 1000
    size = samples * len(encoded.payload) // max(1, measure(encoded.payload))
    for index in range(len(encoded.payload) // max(1, size)):
        yield index * samples, encoded.payload[index * size : (index + 1) * size]
