"""Tests of every encoder over real WebSockets, with the gateway's socket handler and a sink in memory."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aiohttp import web
from aiohttp.test_utils import TestServer

from core.settings import Settings
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers import load_carriers
from gateway.carriers.base import (
    Authorization,
    CallReport,
    Carrier,
    Decoder,
    IncomingRequest,
    StreamInstructions,
    VoiceResponse,
)
from gateway.carriers.common.media_format import MediaFormat, normaliser
from gateway.media.websocket_server import MediaSockets
from gateway.metrics import Metrics
from gateway.simulator import CallRefusedError, Faults, Played, UnsupportedPlayError, play
from gateway.simulator.encoders import Shape, load_dialects
from schemas.codecs import packets
from schemas.events import DtmfReceived, StreamStarted
from schemas.media import Codec, EosReason, RecordType
from tests.support.carrier_messages import FORMATS
from tests.support.twilio_messages import PUBLIC_URL, MemorySink, media_of

ON_WEBSOCKETS = [(name, audio) for name, audio in FORMATS if name != "audiosocket"]


class _Open:
    """A carrier whose sockets are all let in: who may come in is another test's affair."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.subprotocols = carrier.subprotocols
        self.token_at_start = False

    def authorize_socket(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        return Authorization("default")

    def authorize_webhook(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        return Authorization("default")

    def decoder(self, settings: Settings) -> Decoder:
        return self._carrier.decoder(settings)

    def requested_call_id(self, proof: IncomingRequest) -> str:
        return ""

    def answer(self, offer: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        return None

    def report(self, proof: IncomingRequest) -> CallReport | None:
        return None


class Gateway:
    """The media sockets alone."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.metrics = Metrics()
        carriers = {name: _Open(carrier) for name, carrier in load_carriers().items()}
        self.sockets = MediaSockets(Settings(), carriers, StreamAuthorizer(Settings()), self.sink, self.metrics)
        app = web.Application()
        app.add_routes([web.get("/v1/media/{carrier}", self.sockets.handle)])
        self.server = TestServer(app)

    def url(self, carrier: str) -> str:
        return str(self.server.make_url(f"/v1/media/{carrier}")).replace("http", "ws", 1)

    async def played(self, wav: Path, carrier: str, **more: object) -> Played:
        return await play(
            wav,
            carrier=carrier,
            url=self.url(carrier),
            auth_token="any",
            public_url=PUBLIC_URL,
            **{"speed": 40.0, **more},  # type: ignore[arg-type]  # keywords of play
        )


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway without a log."""
    one = Gateway()
    await one.server.start_server()
    yield one
    await one.sockets.drain()
    await one.server.close()


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of noise in two channels, at 16 kHz."""
    path = tmp_path_factory.mktemp("calls") / "call.wav"
    samples = np.random.default_rng(7).integers(-9000, 9000, (32_000, 2), dtype=np.int16)
    soundfile.write(path, samples, 16000, subtype="PCM_16")
    return path


@pytest.mark.parametrize(("name", "audio"), ON_WEBSOCKETS, ids=str)
async def test_what_is_sent_is_handed_on(gateway: Gateway, wav: Path, name: str, audio: MediaFormat) -> None:
    """Plays a call in every format of every carrier, with a digit: each frame that was said to be sent is handed on,
    octet by octet, on its track, and the stream ends as that carrier's streams end."""
    codec, rate_hz = audio.codec, audio.rate_hz
    played = await gateway.played(wav, name, codec=codec, rate_hz=rate_hz, dtmf=[(500, "5")], custom={"k": "v"})
    await gateway.sockets.drain()
    dialect = load_dialects()[name]
    records = gateway.sink.records
    assert {record.call_id for record in records} == {played.call_id}
    assert {(record.codec, record.rate_hz) for record in records} == {(codec, rate_hz)}
    assert list(played.tracks) == (["inbound"] if dialect.shape is Shape.MONO else ["inbound", "outbound"])
    normalise = normaliser(codec, "little")
    for track, frames in played.tracks.items():
        assert frames[0].ts_ms == 0
        sent = [frame.payload if normalise is None else normalise(frame.payload) for frame in frames]
        assert b"".join(record.payload for record in media_of(records, track)) == b"".join(sent)
        if codec is Codec.OPUS:
            found = [one for record in media_of(records, track) for one in packets(record.payload)]
            assert found == [frame.payload for frame in frames]
    assert [record.detail for record in records if record.type is RecordType.DTMF] == ["5"]
    closes_only = name in ("vonage", "jambonz")
    ends = [record.detail for record in records if record.type is RecordType.EOS]
    assert set(ends) == {EosReason.SOCKET_CLOSED if closes_only else EosReason.CARRIER_STOP}
    assert len(ends) == (2 if dialect.shape is Shape.LEGS else 1)
    (custom, *_) = [record.payload for record in records if record.type is RecordType.START]
    assert b'"k": "v"' in custom


async def test_lost_frames_match_the_probability(gateway: Gateway, wav: Path) -> None:
    """Loses a fifth of the frames, twice with one seed: about that many are missing, and both times the same."""
    faults = Faults(loss=0.2, seed=3)
    first, second = [await gateway.played(wav, "telnyx", faults=faults) for _ in range(2)]
    assert first.tracks == second.tracks
    assert 120 < first.messages < 190


async def test_late_frames_of_a_bare_carrier_do_not_overtake(gateway: Gateway, wav: Path) -> None:
    """Plays jambonz with jitter: all audio is there in order; its messages carry nothing to sort them by."""
    played = await gateway.played(wav, "jambonz", faults=Faults(shuffle_ms=200, seed=1))
    await gateway.sockets.drain()
    sent = b"".join(frame.payload for frame in played.tracks["outbound"])
    assert b"".join(record.payload for record in media_of(gateway.sink.records, "outbound")) == sent


@pytest.mark.slow
@pytest.mark.parametrize("carrier", ["twilio", "jambonz"])
async def test_pauses_and_stalls_are_heard_as_they_are(gateway: Gateway, wav: Path, carrier: str) -> None:
    """Plays a call in real time that pauses for a second and stalls for half a second: all audio is there, and the only
    hole is the pause."""
    faults = Faults(pauses=[(600, 1000)], stalls=[(2000, 500)])
    played = await gateway.played(wav, carrier, faults=faults, speed=1.0)
    await gateway.sockets.drain()
    records = gateway.sink.records
    runs = media_of(records)
    assert b"".join(run.payload for run in runs) == b"".join(frame.payload for frame in played.tracks["inbound"])
    width = 2 * runs[0].rate_hz if runs[0].codec is Codec.L16 else runs[0].rate_hz
    holes = [(before.ts_ms + len(before.payload) * 1000 // width, after.ts_ms) for before, after in pairwise(runs)]
    ((begin_ms, end_ms),) = [(begin, end) for begin, end in holes if abs(end - begin) > 20]
    assert abs(begin_ms - 600) <= 50
    assert abs(end_ms - begin_ms - 1000) <= 50


async def test_a_clock_that_is_reset_and_late_costs_nothing(gateway: Gateway, wav: Path) -> None:
    """Plays a call whose timestamps are late by up to 30 ms and begin at 0 again after a second: all audio is there,
    one piece behind the other."""
    played = await gateway.played(wav, "telnyx", faults=Faults(late_stamps_ms=30, clock_reset_ms=1000, seed=2))
    await gateway.sockets.drain()
    runs = media_of(gateway.sink.records)
    normalise = normaliser(runs[0].codec, "little")
    sent = [frame.payload if normalise is None else normalise(frame.payload) for frame in played.tracks["inbound"]]
    assert b"".join(run.payload for run in runs) == b"".join(sent)
    assert [run.ts_ms for run in runs] == sorted({run.ts_ms for run in runs})


async def test_what_a_carrier_does_not_do_is_said(gateway: Gateway, wav: Path) -> None:
    """Asks for Opus over Twilio and for lost frames over Vonage: an error that says what there is."""
    with pytest.raises(UnsupportedPlayError, match="PCMU at 8000 Hz, PCMA"):
        await gateway.played(wav, "twilio", codec=Codec.OPUS)
    with pytest.raises(UnsupportedPlayError, match="no numbers"):
        await gateway.played(wav, "vonage", faults=Faults(duplicate=0.5))


async def test_jambonz_insists_on_its_subprotocol(gateway: Gateway, wav: Path) -> None:
    """Dials a socket that does not agree to audio.jambonz.org: jambonz hangs up, and so does the simulator."""
    with pytest.raises(CallRefusedError, match=r"audio\.jambonz\.org"):
        await play(wav, carrier="jambonz", url=gateway.url("vonage"), auth_token="", public_url=PUBLIC_URL, speed=40)


async def test_a_codec_nobody_decodes_is_refused_and_counted(gateway: Gateway, wav: Path) -> None:
    """Plays L16 to Twilio's socket as SignalWire would: closed with a reason, and counted as what it is."""
    with pytest.raises(CallRefusedError, match="1003 cannot record audio/x-l16"):
        await play(
            wav, carrier="signalwire", url=gateway.url("twilio"), auth_token="", public_url=PUBLIC_URL,
            codec=Codec.L16, speed=2,
        )  # fmt: skip
    assert b'refused_sockets_total{reason="unsupported-codec"} 1.0' in gateway.metrics.render()


@pytest.mark.parametrize("name", sorted(load_dialects().keys() - {"audiosocket"}))
async def test_a_call_has_the_numbers_that_it_is_given(gateway: Gateway, wav: Path, name: str) -> None:
    """Plays a call of every carrier with numbers: its streams have them, and no metadata of their own making."""
    await gateway.played(wav, name, from_number="+1 555 0123", to_number="+15550199", custom={"k": "v"})
    await gateway.sockets.drain()
    started = [event for event in gateway.sink.events if isinstance(event, StreamStarted)]
    assert {(event.from_number, event.to_number) for event in started} == {("+1 555 0123", "+15550199")}
    assert all(not any(key.startswith("audiotext") for key in event.custom) for event in started)


def test_audiosocket_has_no_numbers(wav: Path) -> None:
    """Plays a call with a number over AudioSocket: refused, since its packets have no place for one."""
    with pytest.raises(UnsupportedPlayError, match="--from"):
        asyncio.run(
            play(wav, carrier="audiosocket", url="tcp://127.0.0.1:9", auth_token="", public_url="", from_number="+1555")
        )


@pytest.mark.parametrize("name", sorted(load_dialects().keys() - {"audiosocket"}))
async def test_digits_at_one_moment_keep_their_order(gateway: Gateway, wav: Path, name: str) -> None:
    """Presses nine keys at one moment: the gateway hands them on, and counts them, in that order."""
    await gateway.played(wav, name, dtmf=[(500, digit) for digit in "918273645"])
    await gateway.sockets.drain()
    assert "".join(record.detail for record in gateway.sink.records if record.type is RecordType.DTMF) == "918273645"
    events = [event for event in gateway.sink.events if isinstance(event, DtmfReceived)]
    assert [(event.digit, event.number) for event in events] == [(digit, n) for n, digit in enumerate("918273645", 1)]
    assert len({event.event_id for event in events}) == 9
