"""Types of every carrier module: the decoded messages, the requests to authorize, and the protocol `Carrier`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from core.settings import Settings
from schemas.media import Codec

TRACKS = ("inbound", "outbound")
"""Directions of a call: the caller's audio, and the audio that the caller hears."""

ByteOrder = Literal["big", "little"]
"""Byte order of 16-bit samples in a carrier's messages."""

MAX_ID_LENGTH = 256
"""Limit of characters in a call or stream id. Carriers use about 40; ids become parts of keys and object names."""


FROM_PARAMETER, TO_PARAMETER = "audiotext_from", "audiotext_to"
"""Stream parameters in which the answer to a voice request repeats the parties. `with_parties` removes them."""


class CarrierError(ValueError):
    """Message that breaks its carrier's protocol. The gateway counts and ignores it."""


class StartError(CarrierError):
    """Invalid start of a stream. The socket is closed with this WebSocket close code and text.

    label: for the metric of refused sockets.
    """

    def __init__(self, reason: str, close_code: int = 1002, label: str = "bad-start") -> None:
        super().__init__(reason)
        self.close_code = close_code
        self.label = label


class UnsupportedCodecError(StartError):
    """Stream with a codec that the gateway cannot record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, close_code=1003, label="unsupported-codec")


class UnauthorizedError(Exception):
    """Request without proof that it comes from the carrier. The text is for the log; `public` is for the client."""

    def __init__(self, reason: str, public: str = "forbidden") -> None:
        super().__init__(reason)
        self.public = public


class StreamStart(msgspec.Struct, frozen=True):
    """Begin of a media stream.

    account: the carrier's account id. custom: parameters that the customer attached to the stream. byte_order: of L16
    in the frames. tracks: as announced, empty if the carrier does not announce them. timed: the frames have timestamps
    from the carrier; frames without timestamps are placed by their arrival.
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
    """Audio of one track, usually 20 ms, as the carrier's bytes.

    ts_ms: since the stream's start, by its clock. `gateway.media.placing` handles a wrong clock, for example one that
    counts from another epoch.
    """

    track: str
    seq: int
    ts_ms: int
    payload: bytes


class Dtmf(msgspec.Struct, frozen=True):
    """Keypad digit."""

    track: str
    digit: str
    seq: int


class Mark(msgspec.Struct, frozen=True):
    """Named point in the stream."""

    name: str
    seq: int


class Stop(msgspec.Struct, frozen=True):
    """End of the stream, from the carrier."""


class Ignored(msgspec.Struct, frozen=True):
    """Message without information for a recording."""

    event: str


class Repaired(msgspec.Struct, frozen=True):
    """Notice that the messages after this one are from damaged text that was repaired.

    kinds: the kinds of repairs, from gateway.carriers.common.text_repair.
    """

    kinds: tuple[str, ...]


Message = StreamStart | Frame | Dtmf | Mark | Stop | Ignored | Repaired


class Decoder(Protocol):
    """Decoder of one socket's messages, in order. It keeps the state that later messages need.

    Both methods raise CarrierError for invalid input, and no other exception.
    """

    def text(self, data: bytes) -> Sequence[Message]:
        """Returns the messages in a text frame. data: its bytes, which may not be valid UTF-8."""

    def binary(self, data: bytes) -> Sequence[Message]:
        """Returns the messages in a binary frame."""


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """Parts of an HTTP request that can prove its origin.

    target: path and query string, as on the request line. form: fields of a POST that is a form, else empty. body: the
    bytes received. peer: the client's address. at_s: the time of arrival, seconds since the epoch.
    """

    target: str
    headers: Mapping[str, str]
    form: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    peer: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Authorization:
    """Tenant and account of an authenticated request.

    account: the carrier's account that authenticated it, "" for the only one. The gateway refuses a stream that names
    another account.
    """

    tenant: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class StreamInstructions:
    """Addresses and token with which a carrier streams a call.

    stream_url: of the media socket (wss://…). status_url: for webhooks about the call. token: a stream token that is
    valid for this call. call_id, from_number, to_number: from the voice request.
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
    """Body of the answer to a voice request."""

    text: str
    content_type: str = "application/xml"


@dataclass(frozen=True, slots=True)
class CallReport:
    """Content of a status webhook.

    status: the carrier's word. over: the status means that the call has ended. key: distinguishes this report from
    others with the same status, and stays the same when the carrier repeats it; "" if there is no such field. reason:
    the carrier's reason, or "". from_number, to_number: the parties, "" if the webhook does not name them.
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
    """Adapter for one carrier.

    subprotocols: WebSocket subprotocols to accept when the carrier offers them. token_at_start: the upgrade request
    cannot carry a proof, so a socket may present its stream token in the stream's start.
    """

    subprotocols: Sequence[str]
    token_at_start: bool

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Authenticates the upgrade request of a media socket. Raises UnauthorizedError."""

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Authenticates a voice or status request. Raises UnauthorizedError."""

    def decoder(self, settings: Settings) -> Decoder:
        """Returns a decoder for one new socket."""

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns the id that the call of a voice request has in its stream, or "" if it is still unknown."""

    def answer(self, instructions: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Returns the answer with which the carrier streams and continues the call. None: it takes no answer."""

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of a status request, or None if it is not about a call. Raises CarrierError."""


def checked_id(name: str, value: str) -> str:
    """Returns a valid call or stream id. name: for the error. Raises StartError."""
    if not value:
        raise StartError(f"{name} is empty")
    if len(value) > MAX_ID_LENGTH:
        raise StartError(f"{name} is longer than {MAX_ID_LENGTH} characters")
    return value
