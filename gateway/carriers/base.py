"""The types every carrier module uses: the decoded messages, the requests to authorize, and the `Carrier` protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from core.settings import Settings
from schemas.media import Codec

TRACKS = ("inbound", "outbound")
"""The directions of a call: what the caller says, and what the caller hears."""

ByteOrder = Literal["big", "little"]
"""Of 16-bit samples on a carrier's wire."""

MAX_ID_LENGTH = 256
"""Characters in a call or stream id; carriers use some 40, and ids end up in keys and object names."""


FROM_PARAMETER, TO_PARAMETER = "audiotext_from", "audiotext_to"
"""Stream parameters in which our answer to a voice request repeats the call's parties. They are not shown."""


class CarrierError(ValueError):
    """A message that does not follow its carrier's protocol. It is counted and passed over."""


class StartError(CarrierError):
    """A stream cannot begin: its socket is closed with this WebSocket close code and this text.

    label: for the metric of refused sockets.
    """

    def __init__(self, reason: str, close_code: int = 1002, label: str = "bad-start") -> None:
        super().__init__(reason)
        self.close_code = close_code
        self.label = label


class UnsupportedCodecError(StartError):
    """A stream's audio is in a codec that nothing here decodes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, close_code=1003, label="unsupported-codec")


class UnauthorizedError(Exception):
    """A request that does not prove to come from the carrier. The text is for our log, never for the caller."""


class StreamStart(msgspec.Struct, frozen=True):
    """A media stream begins. account: the carrier's account id; custom: what the customer attached to the stream.

    byte_order: of L16 in the frames to come. tracks: as announced, empty if the carrier does not say.
    timed: the frames have timestamps of the carrier's; where they have none, their arrival places them.
    """

    call_id: str
    stream_id: str
    account: str
    tracks: tuple[str, ...]
    codec: Codec
    rate_hz: int
    byte_order: ByteOrder = "little"
    from_number: str = ""
    to_number: str = ""
    custom: dict[str, str] = {}
    timed: bool = True


class Frame(msgspec.Struct, frozen=True, gc=False):
    """Audio of one track, usually 20 ms, in the carrier's octets. ts_ms: since the stream's start, by its clock. A
    clock that cannot be right (one that counts from another epoch, say) is `gateway.media.placing`'s to recognise."""

    track: str
    seq: int
    ts_ms: int
    payload: bytes


class Dtmf(msgspec.Struct, frozen=True):
    """A keypad digit."""

    track: str
    digit: str
    seq: int


class Mark(msgspec.Struct, frozen=True):
    """A named point in the stream."""

    name: str
    seq: int


class Stop(msgspec.Struct, frozen=True):
    """The carrier says that the stream is over."""


class Ignored(msgspec.Struct, frozen=True):
    """A message that says nothing a recording needs."""

    event: str


class Repaired(msgspec.Struct, frozen=True):
    """The messages after this one came in text that was damaged and could be repaired. kinds: of
    gateway.carriers.common.text_repair."""

    kinds: tuple[str, ...]


Message = StreamStart | Frame | Dtmf | Mark | Stop | Ignored | Repaired


class Decoder(Protocol):
    """Reads one socket's messages, in order; holds what a later message needs of an earlier one.

    Both raise CarrierError, and nothing else, whatever they are given.
    """

    def text(self, data: bytes) -> Sequence[Message]:
        """The messages in a text frame (its octets, not yet known to be UTF-8)."""

    def binary(self, data: bytes) -> Sequence[Message]:
        """The messages in a binary frame."""


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """What a request brings to prove where it comes from.

    target: path and query string as on the request line. form: fields of a POST that is a form, else empty. body: as
    it came. peer: the client's address. at_s: when it came, seconds since the epoch.
    """

    target: str
    headers: Mapping[str, str]
    form: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    peer: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Authorization:
    """Whose calls a proven request may bring. account: the carrier's account that proved it, "" if only one is known:
    a stream that names another is refused."""

    tenant: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class StreamInstructions:
    """Where a call is to be streamed to. stream_url: of the media socket (wss://…); status_url: for webhooks about it.

    token: a stream token good for this call. call_id, from_number, to_number: as the voice request names them.
    """

    stream_url: str
    status_url: str
    tenant: str
    token: str
    call_id: str
    from_number: str = ""
    to_number: str = ""


@dataclass(frozen=True, slots=True)
class VoiceResponse:
    """The body of the answer to a voice request."""

    text: str
    content_type: str = "application/xml"


@dataclass(frozen=True, slots=True)
class CallReport:
    """What a status webhook tells. status: the carrier's word; over: whether it means that the call has ended.

    key: what tells this report from others of the same status, the same when the carrier repeats itself; "" if
    nothing does. reason: why, if the carrier says so. from_number, to_number: the parties, "" if it does not name them.
    """

    call_id: str
    status: str
    stream_id: str = ""
    over: bool = False
    key: str = ""
    reason: str = ""
    from_number: str = ""
    to_number: str = ""


class Carrier(Protocol):
    """One carrier's dialect.

    subprotocols: of its WebSocket, to be agreed to when it asks for them. token_at_start: its upgrade request can carry
    no proof, so a socket may wait for a stream token in the stream's start.
    """

    subprotocols: Sequence[str]
    token_at_start: bool

    def authorize_socket(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """Lets a media socket's upgrade request pass or raises UnauthorizedError."""

    def authorize_webhook(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """Lets a voice or status request pass or raises UnauthorizedError."""

    def decoder(self, settings: Settings) -> Decoder:
        """A decoder for one new socket."""

    def asked_for(self, proof: IncomingRequest) -> str:
        """The id that the call of a voice request will have in its stream; "" if that cannot be known yet."""

    def answer(self, offer: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """What makes the carrier stream the call and go on as configured; None if it takes no answer."""

    def report(self, proof: IncomingRequest) -> CallReport | None:
        """What a status request says; None if it is about no call. Raises CarrierError."""


def checked_id(what: str, value: str) -> str:
    """A call or stream id that can be worked with. Raises StartError."""
    if not value:
        raise StartError(f"{what} is empty")
    if len(value) > MAX_ID_LENGTH:
        raise StartError(f"{what} is longer than {MAX_ID_LENGTH} characters")
    return value
