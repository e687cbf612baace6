"""Binary record of `call.media`: raw audio in the carrier's codec as value, everything else in headers.

No JSON and no base64: reading a record parses only a dozen short header strings. One record carries a chunk:
consecutive frames of one track without a gap (500 ms by default). Its bytes are the carrier's with two exceptions, so
that readers do not depend on carriers: L16 is little-endian, and each Opus packet is preceded by its length in 16 bits,
big-endian (schemas.codecs). The recorder's decisions (`close`, `recorded`, `forget`) are on the same topic and
partition as the audio that they concern, so that a process that reads the topic again makes the same decisions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

Headers = list[tuple[str, bytes]]


class MediaError(ValueError):
    """Invalid record of `call.media`."""


OVERLAP = "overlap"
"""`detail` of a media record that begins before the previous audio ends, since the carrier's clock is slower than its
audio: both are audible. Overlapping audio of one stream without this detail is a repetition."""


class RecordType(StrEnum):
    """Type of a `call.media` record."""

    START = "start"  # a stream begins; value = JSON object of the other fields in the carrier's start message
    MEDIA = "media"  # a chunk of frames; value = audio bytes
    DTMF = "dtmf"  # detail = the digit
    MARK = "mark"  # detail = the mark's name
    ALIVE = "alive"  # the stream is open but has sent nothing else for some time: a call on hold
    GAP = "gap"  # audio that was dropped on purpose; ts_ms + duration_ms = position, detail = reason
    EOS = "eos"  # a stream has ended, or all streams if there is no stream id; detail = EosReason
    CLOSE = "close"  # the recorder decided that the part is complete; detail = CloseReason
    RECORDED = "recorded"  # recording.ready is on the log for this part: its spool may be deleted
    RETRY = "retry"  # the part's dead letter was replayed: the recorder makes the recording again
    FORGET = "forget"  # no record of this call is left on the log: the recorder may delete its state


class EosReason(StrEnum):
    """Reason for the end of a stream."""

    CARRIER_STOP = "carrier-stop"
    SOCKET_CLOSED = "socket-closed"
    GATEWAY_DRAINING = "gateway-draining"
    PROTOCOL_ERROR = "protocol-error"
    CALL_ENDED = "call-ended"  # the carrier reported it by a webhook
    IDLE = "idle"  # the gateway closed the socket: it was alive but sent nothing for the idle time
    PEER_GONE = "peer-gone"  # the gateway closed the socket: the peer did not answer pings


class CloseReason(StrEnum):
    """Reason for closing a part."""

    ENDED = "ended"  # all streams ended and the grace time passed without a new stream
    IDLE = "idle"  # nothing arrived for the idle time: the gateway is gone


class GapReason(StrEnum):
    """Reason for missing audio in a track. Readers must accept unknown values of newer producers."""

    MISSING = "missing"  # audio that did not arrive
    NO_AUDIO = "no-audio"  # the track has no audio at its start or end, or none at all
    NOT_SENT = "not-sent"  # a pause, hold or mute of a carrier without timestamps
    BUFFER_FULL = "gateway-buffer-full"  # dropped by the gateway, since the log was unavailable for too long


class Codec(StrEnum):
    """Audio codecs by their RTP names."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    G722 = "G722"
    L16 = "L16"
    OPUS = "OPUS"


@dataclass(frozen=True, slots=True)
class MediaRecord:
    """Record of `call.media`. Fields that do not apply to a type keep their defaults.

    call_id: the carrier's call id; the record's key on the log.
    stream_id: the carrier's stream id; "" on the recorder's decisions, and on an `eos` of the whole call.
    at_ms: wall clock of the gateway (or of the decision) in ms since the epoch.
    track: "inbound" or "outbound" on media and gap.
    codec, rate_hz: of the payload; the sample rate of the audio, for G.722 16000 and not RTP's 8000.
    seq: the carrier's sequence number of the first frame; frames: number of frames in the payload.
    ts_ms: the carrier's timestamp of the first frame, ms since the stream's start.
    duration_ms: on gap, the duration of the missing audio.
    detail: reason, digit, mark name: see RecordType. On media, "" or OVERLAP.
    gateway: on `start` and `eos`, the gateway process that wrote the record: see `ended_stream`. "" on older records.
    seen: on `close` and `forget`, the log offset of the call's last record that the decision took into account.
    part: on `close` and `recorded`, the number of the part from 1; on `forget`, of the last part.
    payload: audio bytes on media, JSON on start, otherwise empty.
    """

    type: RecordType
    call_id: str
    tenant: str
    carrier: str
    stream_id: str
    at_ms: int
    track: str = ""
    codec: Codec = Codec.PCMU
    rate_hz: int = 8000
    seq: int = 0
    ts_ms: int = 0
    frames: int = 0
    duration_ms: int = 0
    detail: str = ""
    gateway: str = ""
    seen: int = -1
    part: int = 0
    payload: bytes = b""


def ended_stream(eos: MediaRecord, began_at: str) -> bool:
    """True if `eos` ends the stream that the gateway `began_at` ("": unknown) was the last to start.

    A carrier may reconnect to another gateway before the first gateway notices the broken connection: the first
    gateway's late `eos` concerns its own socket only.
    """
    return not eos.gateway or not began_at or eos.gateway == began_at


# Header name of each field except key and value. Short, since every record repeats them.
_TEXT = {
    "tenant": "tenant",
    "carrier": "carrier",
    "stream_id": "stream",
    "track": "track",
    "detail": "detail",
    "gateway": "gateway",
}
_INT = {
    "at_ms": "at",
    "rate_hz": "rate",
    "seq": "seq",
    "ts_ms": "ts",
    "frames": "frames",
    "duration_ms": "dur",
    "seen": "seen",
    "part": "part",
}
_DEFAULTS = {
    "track": "",
    "detail": "",
    "gateway": "",
    "seq": 0,
    "ts_ms": 0,
    "frames": 0,
    "duration_ms": 0,
    "seen": -1,
    "part": 0,
}


def to_headers(record: MediaRecord) -> Headers:
    """Returns the Kafka headers of a record: all fields except its key (`call_id`) and its value (`payload`)."""
    headers: Headers = [("type", record.type.encode()), ("codec", record.codec.encode())]
    for field, name in _TEXT.items():
        text: str = getattr(record, field)
        if field not in _DEFAULTS or text != _DEFAULTS[field]:
            headers.append((name, text.encode()))
    for field, name in _INT.items():
        number: int = getattr(record, field)
        if field not in _DEFAULTS or number != _DEFAULTS[field]:
            headers.append((name, b"%d" % number))
    return headers


def from_headers(
    key: str | bytes, headers: Iterable[tuple[str, bytes | str | None]] | None, value: bytes | None
) -> MediaRecord:
    """Returns the record with this key, headers and value. Raises MediaError if it is invalid.

    Ignores unknown headers, so that an old consumer reads the records of a newer gateway.
    """
    got: dict[str, bytes] = {}
    for name, content in headers or ():
        got[name] = content.encode() if isinstance(content, str) else (content or b"")
    try:
        fields: dict[str, str | int] = {}
        for field, name in _TEXT.items():
            if name in got or field not in _DEFAULTS:
                fields[field] = got[name].decode()
        for field, name in _INT.items():
            if name in got or field not in _DEFAULTS:
                fields[field] = int(got[name])
        return MediaRecord(
            type=RecordType(got["type"].decode()),
            codec=Codec(got["codec"].decode()),
            call_id=key.decode() if isinstance(key, bytes) else key,
            payload=value or b"",
            **fields,  # type: ignore[arg-type]  # the two tables above give each field its type
        )
    except KeyError as missing:
        raise MediaError(f"header {missing} is missing") from None
    except ValueError as wrong:
        raise MediaError(f"invalid header: {wrong}") from None


def header_fields() -> list[tuple[str, bool, bool]]:
    """Returns every header except `type` and `codec`: name, True if it is an integer, True if it is required."""
    text = [(name, False, field not in _DEFAULTS) for field, name in _TEXT.items()]
    return text + [(name, True, field not in _DEFAULTS) for field, name in _INT.items()]


def total_bytes(records: Sequence[MediaRecord]) -> int:
    """Returns the number of payload bytes of all records together."""
    return sum(len(record.payload) for record in records)
