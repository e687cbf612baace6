"""Helpers: the messages of a carrier's socket, and the gateway's output for them, without a socket."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from core.settings import Settings
from gateway.carriers import load_carriers
from gateway.carriers.base import Decoder, Message
from gateway.carriers.common.media_format import MediaFormat
from gateway.media.session import Session
from gateway.metrics import Metrics
from gateway.simulator.encoders import CallPlan, Dialect, Shape, load_dialects
from gateway.simulator.faults import NO_FAULTS, Faults, numbered, unnumbered
from schemas.media import Codec, EosReason
from tests.support.twilio_messages import MemorySink

_LOADED = load_carriers()
_DEFAULTS = Settings()  # once: reading them takes longer than a call

CARRIERS = sorted(_LOADED)
FORMATS = [(name, audio) for name, dialect in sorted(load_dialects().items()) for audio in dialect.formats]

CALL_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"  # AudioSocket's must be a UUID
STREAM_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def new_decoder(name: str, settings: Settings = _DEFAULTS) -> Decoder:
    """Returns a decoder for one socket of the carrier."""
    return _LOADED[name].decoder(settings)


def decoded(decoder: Decoder, messages: Iterable[str | bytes]) -> list[Message]:
    """Returns all decoded messages."""
    found: list[Message] = []
    for message in messages:
        found += decoder.text(message.encode()) if isinstance(message, str) else decoder.binary(message)
    return found


def spoken(
    name: str,
    audio: MediaFormat,
    tracks: Mapping[str, Sequence[bytes]],
    *,
    faults: Faults = NO_FAULTS,
    custom: Mapping[str, str] | None = None,
    digit: str = "",
) -> list[list[str | bytes]]:
    """Returns the messages of each socket of a call with these frames."""
    dialect: Dialect = load_dialects()[name]
    groups = [{track: tracks[track]} for track in tracks] if dialect.shape is Shape.LEGS else [tracks]
    sockets = []
    for group in groups:
        encoder = dialect.encoder(CallPlan(CALL_ID, STREAM_ID, list(group), audio, custom or {}))
        plan = (numbered if dialect.numbered else unnumbered)(group, dialect.frame_ms, faults)
        digits = [encoder.dtmf(digit)] if digit else []
        media = [encoder.media(sending.frames) for sending in plan]
        sockets.append([*encoder.opening(), *media, *digits, *encoder.closing()])
    return sockets


def session_for(name: str, sink: MemorySink, metrics: Metrics | None = None) -> Session:
    """Returns a session of the carrier for tenant acme."""
    return Session(
        name=name,
        decoder=new_decoder(name),
        admit=lambda start: ("acme", start),
        sink=sink,
        metrics=metrics or Metrics(),
        streams=Counter(),
        merge_ms=500,
        alive_s=30,
        max_speed=100,
    )


def heard(name: str, sockets: Iterable[Sequence[str | bytes]]) -> MemorySink:
    """Returns the items on the log for these sockets."""
    sink = MemorySink()
    for messages in sockets:
        session = session_for(name, sink)
        for message in messages:
            hear(session, message)
        session.end(EosReason.SOCKET_CLOSED)
    return sink


def hear(session: Session, message: str | bytes) -> None:
    """Passes one message to the session."""
    if isinstance(message, str):
        session.on_text(message.encode())
    else:
        session.on_binary(message)


def frame_bytes(audio: MediaFormat, frame_ms: int) -> int:
    """Returns the length of a frame in bytes, for a codec without packets."""
    samples = audio.rate_hz * frame_ms // 1000
    return {Codec.L16: samples * 2, Codec.G722: samples // 2}.get(audio.codec, samples)
