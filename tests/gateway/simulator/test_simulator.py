"""Tests of the simulator against the real gateway: the log has exactly the frames it reports as sent."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from core.settings import KafkaSettings, Settings, SignalWireSettings, TelnyxSettings
from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import normaliser
from gateway.simulator import CallRefusedError, Faults, Played, Progress, play
from schemas.media import Codec, EosReason, MediaRecord, RecordType
from tests.gateway.conftest import Client, Serve
from tests.support.ids import new_call
from tests.support.twilio_messages import PUBLIC_URL, TOKEN, media_of, records_on_log
from tests.support.wav_files import ulaw_wav


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """Three seconds of noise in two channels."""
    octets = np.random.default_rng(7).integers(0, 256, 2 * 24_000, dtype=np.uint8).tobytes()
    return ulaw_wav(tmp_path / "call.wav", 2, octets)


def url_of(client: Client) -> str:
    """The gateway's media socket."""
    return str(client.make_url("/v1/media/twilio")).replace("http", "ws", 1)


def pieces(records: Sequence[MediaRecord], track: str) -> set[tuple[int, bytes]]:
    """Every frame on the log as time and octets, repetitions being one."""
    return {
        (record.ts_ms + start // 8, record.payload[start : start + 160])
        for record in media_of(records, track)
        for start in range(0, len(record.payload), 160)
    }


def frames(played: Played, track: str) -> set[tuple[int, bytes]]:
    """Every frame that was sent, likewise."""
    return {(frame.ts_ms, frame.payload) for frame in played.tracks[track]}


@pytest.mark.parametrize(
    ("faults", "codec"),
    [
        (Faults(), Codec.PCMU),
        (Faults(), Codec.PCMA),
        (Faults(shuffle_ms=200, duplicate=0.3, holes=[(1000, 1400)], seed=3), Codec.PCMU),
    ],
)
async def test_every_sent_frame_is_on_the_log(
    serve: Serve, kafka: KafkaSettings, wav: Path, faults: Faults, codec: Codec
) -> None:
    """Plays a file at 20 times real time: each sent frame is on the log at its time, byte by byte, and no other.

    The frames are in order, then shuffled, repeated and with a hole.
    """
    _, client = await serve()
    played = await play(
        wav,
        url=url_of(client),
        auth_token=TOKEN,
        public_url=PUBLIC_URL,
        call_id=new_call(),
        speed=20,
        codec=codec,
        faults=faults,
    )
    records = await asyncio.to_thread(records_on_log, kafka, played.call_id)
    for track in ("inbound", "outbound"):
        assert pieces(records, track) == frames(played, track)
        assert len(played.tracks[track]) == (130 if faults.holes else 150)
    assert {record.codec for record in records} == {codec}
    assert records[-1].detail == EosReason.CARRIER_STOP


async def test_a_broken_connection(serve: Serve, kafka: KafkaSettings, wav: Path) -> None:
    """Breaks the connection in the middle: the log has the frames so far, and an end that is not the carrier's."""
    _, client = await serve()
    played = await play(
        wav,
        url=url_of(client),
        auth_token=TOKEN,
        public_url=PUBLIC_URL,
        call_id=new_call(),
        speed=20,
        faults=Faults(drop_at_ms=1500),
    )
    records = await asyncio.to_thread(records_on_log, kafka, played.call_id)
    assert records[-1].detail == EosReason.SOCKET_CLOSED
    assert len(played.tracks["inbound"]) == 74
    assert pieces(records, "inbound") == frames(played, "inbound")


async def test_a_call_takes_its_time_and_reports_progress(serve: Serve, wav: Path, kafka: KafkaSettings) -> None:
    """Plays three seconds at four times real time, with a digit: it takes three quarters of a second.

    The digit is on the log, and the last progress is the end of the call.
    """
    _, client = await serve()
    seen: list[Progress] = []
    before = time.monotonic()
    played = await play(
        wav,
        url=url_of(client),
        auth_token=TOKEN,
        public_url=PUBLIC_URL,
        call_id=new_call(),
        speed=4,
        dtmf=[(1000, "7")],
        on_progress=seen.append,
    )
    took = time.monotonic() - before
    assert 0.74 <= took < 3
    assert [one.sent_ms for one in seen] == sorted(one.sent_ms for one in seen)
    assert seen[-1].sent_ms == seen[-1].total_ms == 3000
    records = await asyncio.to_thread(records_on_log, kafka, played.call_id)
    assert [one.detail for one in records if one.type is RecordType.DTMF] == ["7"]


async def test_the_same_seed_gives_the_same_call(serve: Serve, wav: Path) -> None:
    """Plays twice with the same faults and seed: the frames and times are equal, so a failure can be repeated."""
    _, client = await serve()
    faults = Faults(shuffle_ms=100, clock_jitter_ms=2, duplicate=0.1, seed=11)
    sent: list[dict[str, list[Frame]]] = []
    for _ in range(2):
        played = await play(
            wav,
            url=url_of(client),
            auth_token=TOKEN,
            public_url=PUBLIC_URL,
            call_id=new_call(),
            speed=100,
            faults=faults,
        )
        sent.append({track: list(frames) for track, frames in played.tracks.items()})
    assert sent[0] == sent[1]


async def test_a_refusal_gives_the_reason(serve: Serve, wav: Path) -> None:
    """Connects with a wrong token, and to a missing gateway: the error has the answer, without a traceback."""
    _, client = await serve()
    with pytest.raises(CallRefusedError, match="403"):
        await play(wav, url=url_of(client), auth_token="wrong", public_url=PUBLIC_URL)
    with pytest.raises(CallRefusedError, match=r"127\.0\.0\.1:9"):
        await play(wav, url="ws://127.0.0.1:9/v1/media/twilio", auth_token=TOKEN, public_url=PUBLIC_URL)


@pytest.mark.parametrize(
    ("carrier", "codec"), [("telnyx", Codec.G722), ("telnyx", Codec.OPUS), ("signalwire", Codec.L16)]
)
async def test_other_carriers_reach_the_log(
    serve: Serve, kafka: KafkaSettings, wav: Path, carrier: str, codec: Codec
) -> None:
    """Plays the file as carriers with a bearer token: each payload is on the log as the recorder reads it.

    The call passes authorization, socket, merger and producer.
    """
    token = SecretStr(TOKEN)
    settings = Settings(
        public_url=PUBLIC_URL,
        kafka=kafka,
        telnyx=TelnyxSettings(stream_token=token),
        signalwire=SignalWireSettings(stream_token=token),
    )
    _, client = await serve(settings)
    url = str(client.make_url(f"/v1/media/{carrier}")).replace("http", "ws", 1)
    played = await play(
        wav,
        carrier=carrier,
        url=url,
        auth_token=TOKEN,
        public_url=PUBLIC_URL,
        call_id=new_call(),
        codec=codec,
        speed=20,
    )
    records = await asyncio.to_thread(records_on_log, kafka, played.call_id)
    normalise = normaliser(codec, "little")
    for track, sent in played.tracks.items():
        payloads = [frame.payload if normalise is None else normalise(frame.payload) for frame in sent]
        assert b"".join(record.payload for record in media_of(records, track)) == b"".join(payloads)
    assert {(record.codec, record.rate_hz) for record in records} == {(codec, 16000)}
