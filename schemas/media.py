"""The binary record of `call.media`: raw audio in the carrier's codec as value, everything else in headers.

No JSON and no base64: a record is read without parsing more than a dozen short header strings. One record
carries a *run*: consecutive frames of one track without a hole (500 ms by default). Its octets are the carrier's but
for two things, so that no reader has to know carriers: L16 is little-endian, and each Opus packet is preceded by its
length in 16 bits, big-endian (schemas.codecs). The recorder's decisions (`close`, `recorded`, `forget`) travel on the
same topic and partition as the audio they are about, so that whoever reads the topic again decides the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

Headers = list[tuple[str, bytes]]


class MediaError(ValueError):
    """A record of `call.media` that does not follow this module."""


OVERLAP = "overlap"
"""`detail` of a media record that begins before the audio before it ends, since the carrier's clock is slower than its
audio: both sound. Audio of one stream that overlaps without this is a repetition."""


class RecordType(StrEnum):
    """What a `call.media` record is."""

    START = "start"  # a stream begins; value = JSON object of what else the carrier said in `start`
    MEDIA = "media"  # a run of frames; value = audio bytes
    DTMF = "dtmf"  # detail = the digit
    MARK = "mark"  # detail = the mark's name
    ALIVE = "alive"  # the stream is open, but nothing else was said for a while: a call on hold
    GAP = "gap"  # audio that was given up on purpose; ts_ms + duration_ms say where, detail says why
    EOS = "eos"  # a stream has ended, or without a stream id all of them; detail = EosReason
    CLOSE = "close"  # the recorder decided that the part is complete; detail = CloseReason
    RECORDED = "recorded"  # recording.ready is on the log for this part: its spool may go
    FORGET = "forget"  # nothing of this call is on the log any more: what the recorder knows of it may go


class EosReason(StrEnum):
    """Why a stream ended."""

    CARRIER_STOP = "carrier-stop"
    SOCKET_CLOSED = "socket-closed"
    GATEWAY_DRAINING = "gateway-draining"
    PROTOCOL_ERROR = "protocol-error"
    CALL_ENDED = "call-ended"  # the carrier said so by a webhook
    IDLE = "idle"  # the gateway closed the socket: it was alive, but said nothing for the idle time
    PEER_GONE = "peer-gone"  # the gateway closed the socket: the other side did not answer pings


class CloseReason(StrEnum):
    """Why a part was closed."""

    ENDED = "ended"  # all streams ended and the grace time passed without a new one
    IDLE = "idle"  # nothing came for the idle time: the gateway is gone


class Codec(StrEnum):
    """Audio codecs by their RTP names."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    G722 = "G722"
    L16 = "L16"
    OPUS = "OPUS"


@dataclass(frozen=True, slots=True)
class MediaRecord:
    """One record of `call.media`. Fields that do not apply to a type keep their defaults.

    call_id: the carrier's call id; the record's key on the log.
    stream_id: the carrier's stream id; "" on the recorder's decisions, and on an `eos` of the whole call.
    at_ms: wall clock of the gateway (or of the decision) in ms since the epoch.
    track: "inbound" or "outbound" on media and gap.
    codec, rate_hz: of the payload; the rate is the audio's, which for G.722 is 16000 and not RTP's 8000.
    seq: the carrier's sequence number of the first frame; frames: how many frames are in the payload.
    ts_ms: the carrier's timestamp of the first frame, ms since the stream's start.
    duration_ms: on gap, how much audio is missing.
    detail: reason, digit, mark name: see RecordType. On media, "" or OVERLAP.
    gateway: on `start` and `eos`, the process that tells: see `ends`. "" on records of before.
    seen: on `close` and `forget`, the log offset of the call's last record the decision took into account.
    part: on `close` and `recorded`, the part's number from 1; on `forget`, the last part's.
    payload: audio bytes on media, JSON on start, empty else.
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
    """Whether the stream is over that the gateway `began_at` ("": nobody knows) was the last to start. Its carrier may
    have come back to another gateway before the first one found out: what that says then is about its own socket."""
    return not eos.gateway or not began_at or eos.gateway == began_at


# Header name of each field but key and value. Short, since they are repeated in every record.
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
    """Kafka headers of a record: everything but its key (`call_id`) and its value (`payload`)."""
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
    """The record with this key, headers and value. Raises MediaError, saying what is wrong, for anything else.

    Unknown headers are passed over, so that an old consumer reads the records of a newer gateway.
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
        raise MediaError(f"bad header: {wrong}") from None


def header_fields() -> list[tuple[str, bool, bool]]:
    """Every header but `type` and `codec`: its name, whether it holds a whole number, whether no record lacks it."""
    text = [(name, False, field not in _DEFAULTS) for field, name in _TEXT.items()]
    return text + [(name, True, field not in _DEFAULTS) for field, name in _INT.items()]


def total_bytes(records: Sequence[MediaRecord]) -> int:
    """Payload bytes of the records together."""
    return sum(len(record.payload) for record in records)
