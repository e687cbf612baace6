"""Tests of the gateway with real sockets on one side and a real embedded log on the other."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType

from core.settings import GatewaySettings, KafkaSettings, RecorderSettings, Settings, TwilioSettings
from gateway.app import run
from gateway.carriers.common.signatures import HEADER, sign
from schemas.events import StreamEnded, StreamStarted
from schemas.media import EosReason, RecordType
from tests.gateway.conftest import Client, Serve, settings_for
from tests.support import log_variables
from tests.support.ids import new_call
from tests.support.twilio_messages import (
    PUBLIC_URL,
    TOKEN,
    dtmf,
    events_on_log,
    media,
    media_of,
    records_on_log,
    start,
    stop,
)

MEDIA = "/v1/media/twilio"
SIGNED = {HEADER: sign(TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)}
Socket = aiohttp.ClientWebSocketResponse[bool]


async def dial(client: Client, *messages: bytes) -> Socket:
    """Opens a media socket and sends these messages."""
    media_socket = await client.ws_connect(MEDIA, headers=SIGNED)
    for message in messages:
        await media_socket.send_str(message.decode())
    return media_socket


async def closing(media_socket: Socket) -> tuple[int, str]:
    """Returns code and text of the server's close frame."""
    while True:
        message = await media_socket.receive(timeout=5)
        if message.type is WSMsgType.CLOSE:
            return message.data, message.extra or ""
        assert message.type is WSMsgType.TEXT, message


async def figures(client: Client) -> Mapping[str, float]:
    """Returns the gateway's metrics."""
    text = await (await client.get("/metrics")).text()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def until_ended(client: Client) -> None:
    """Returns when no stream is live and the log has all records."""
    async with asyncio.timeout(10):
        while True:
            now = await figures(client)
            if now["audiotext_gateway_streams_live"] == now["audiotext_gateway_buffer_bytes"] == 0:
                return
            await asyncio.sleep(0.02)


async def test_a_call_reaches_the_log(serve: Serve, kafka: KafkaSettings) -> None:
    """Sends a call of two tracks with a digit and reads it back from the log.

    The start must be first, all audio bytes must be there in order, and the events must be complete. A record that is
    missing here is missing for every service that follows.
    """
    _, client = await serve()
    call = new_call()
    async with await dial(client, b'{"event":"connected"}', start(call, custom={"agent": "7"})) as media_socket:
        for number in range(60):
            await media_socket.send_str(media(number).decode())
            await media_socket.send_str(media(number, track="outbound").decode())
        await media_socket.send_str(dtmf("#").decode())
        await media_socket.send_str(stop().decode())
        records = await asyncio.to_thread(records_on_log, kafka, call)
    assert records[0].type is RecordType.START
    assert json.loads(records[0].payload)["custom"] == {"agent": "7"}
    for track in ("inbound", "outbound"):
        runs = media_of(records, track)
        assert [run.ts_ms for run in runs] == [0, 500, 1000]
        assert b"".join(run.payload for run in runs) == b"".join(bytes([n]) * 160 for n in range(60))
    assert [record.detail for record in records if record.type is RecordType.DTMF] == ["#"]
    assert records[-1].detail == EosReason.CARRIER_STOP
    assert {record.tenant for record in records} == {"acme"}
    events = await asyncio.to_thread(events_on_log, kafka, call, 3)
    assert isinstance(events[0], StreamStarted)
    assert events[0].carrier == "twilio"
    assert isinstance(events[-1], StreamEnded)
    assert (events[-1].frames, events[-1].dropped_ms) == (120, 0)


async def test_a_text_message_that_is_not_utf8_is_recorded(serve: Serve, kafka: KafkaSettings) -> None:
    """Sends a start in Latin-1 over a real socket, then audio: the socket stays open, the call is on the log with its
    text as UTF-8, and the repair is counted. WebSocket libraries close such sockets with 1007 by themselves."""
    _, client = await serve()
    call = new_call()
    async with await dial(client) as media_socket:
        text = start(call, custom={"name": "NAME"}).replace(b"NAME", b"Andr\xe9")
        await media_socket.send_frame(text, WSMsgType.TEXT)
        for message in (media(0), stop()):
            await media_socket.send_str(message.decode())
        records = await asyncio.to_thread(records_on_log, kafka, call)
    assert json.loads(records[0].payload)["custom"] == {"name": "André"}
    assert len(media_of(records)) == 1
    (begun, *_) = await asyncio.to_thread(events_on_log, kafka, call, 2)
    assert isinstance(begun, StreamStarted)
    assert begun.repairs == ["invalid-utf-8"]
    counted = 'audiotext_gateway_repaired_messages_total{carrier="twilio",kind="invalid-utf-8"}'
    assert (await figures(client))[counted] == 1


async def test_a_dropped_socket_ends_the_stream(serve: Serve, kafka: KafkaSettings) -> None:
    """Closes the socket without a stop, in the middle of a window.

    All sent audio must be on the log, then the end with socket-closed. Otherwise the last half second or the end of the
    call is missing.
    """
    _, client = await serve()
    call = new_call()
    media_socket = await dial(client, start(call), *(media(number) for number in range(7)))
    await media_socket.close()
    records = await asyncio.to_thread(records_on_log, kafka, call)
    assert b"".join(run.payload for run in media_of(records)) == b"".join(bytes([n]) * 160 for n in range(7))
    assert records[-1].detail == EosReason.SOCKET_CLOSED


async def test_incomplete_window_is_sent_after_its_time(serve: Serve, kafka: KafkaSettings) -> None:
    """Sends two frames and then nothing, with the socket open: both must still reach the log."""
    _, client = await serve(merge_ms=100)
    call = new_call()
    media_socket = await dial(client, start(call), media(0), media(1))
    records = await asyncio.to_thread(records_on_log, kafka, call, lambda got: bool(media_of(got)))
    assert media_of(records)[0].frames == 2
    await media_socket.close()


async def test_draining_ends_every_stream(serve: Serve, kafka: KafkaSettings) -> None:
    """Drains a gateway with two live calls.

    Both must get 1001 and their end with gateway-draining after their audio, and new sockets must be rejected. A
    deployment must not look like a crash to the recorder.
    """
    gateway, client = await serve()
    calls = [new_call(), new_call()]
    sockets = [await dial(client, start(call), *(media(number) for number in range(5))) for call in calls]
    for call in calls:
        await asyncio.to_thread(records_on_log, kafka, call, bool)
    async with asyncio.TaskGroup() as group:
        codes = [group.create_task(closing(media_socket)) for media_socket in sockets]
        await gateway.drain()
    assert [code.result()[0] for code in codes] == [1001, 1001]
    for call in calls:
        records = await asyncio.to_thread(records_on_log, kafka, call)
        assert sum(run.frames for run in media_of(records)) == 5
        assert records[-1].detail == EosReason.GATEWAY_DRAINING
    assert (await client.get("/readyz")).status == 503
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(MEDIA, headers=SIGNED)
    assert refused.value.status == 503


@pytest.mark.parametrize("headers", [{}, {HEADER: "bm90IHRoaXM="}, {HEADER: "\xff"}])
async def test_a_wrong_signature_is_refused_before_the_upgrade(serve: Serve, headers: dict[str, str]) -> None:
    """Requests a media socket without, with a wrong and with an invalid signature: 403, and counted.

    Without authentication any client could write recordings.
    """
    _, client = await serve()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(MEDIA, headers=headers)
    assert refused.value.status == 403
    assert (await figures(client))['audiotext_gateway_refused_sockets_total{reason="unauthorized"}'] == 1


async def test_missing_auth_token_rejects_every_socket(
    serve: Serve, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Signs with the empty token against a gateway without one: the socket must be rejected.

    The log must name the setting; the response must not.
    """
    _, client = await serve(Settings(public_url=PUBLIC_URL, kafka=kafka, twilio=TwilioSettings()))
    empty = {HEADER: sign("", PUBLIC_URL.replace("https", "wss") + MEDIA)}
    answer = await client.get(MEDIA, headers=empty)
    assert answer.status == 403
    assert "AUDIOTEXT" not in await answer.text()
    assert "AUDIOTEXT_TWILIO__AUTH_TOKEN" in caplog.text


async def test_an_unknown_carrier_is_not_found(serve: Serve) -> None:
    """Requests an unknown carrier, as a socket and as a webhook: 404 with the names of the known ones."""
    _, client = await serve()
    answer = await client.get("/v1/media/pigeon")
    assert answer.status == 404
    assert "twilio" in await answer.text()
    assert (await client.post("/v1/voice/pigeon")).status == 404


async def test_an_unknown_codec_is_refused_with_a_reason(serve: Serve) -> None:
    """Starts a stream in an unknown codec: it must be closed with 1003 and a reason instead of recording noise."""
    _, client = await serve()
    code, text = await closing(await dial(client, start(new_call(), encoding="audio/x-opus")))
    assert code == 1003
    assert "audio/x-opus" in text


@pytest.mark.parametrize("broken", [b'{"event":"start"}', start(""), start("C" * 1000), start("CA1", "")])
async def test_a_broken_start_closes_the_socket(serve: Serve, broken: bytes) -> None:
    """Starts a stream without a body, a valid call id or a stream id: it must be closed with 1002 and a reason."""
    _, client = await serve()
    code, text = await closing(await dial(client, broken))
    assert code == 1002
    assert text


async def test_a_message_of_two_megabytes_closes_the_socket(serve: Serve, kafka: KafkaSettings) -> None:
    """Sends 2 MB in one message in the middle of a call: the socket must be closed with 1009.

    Earlier audio must be on the log, with a protocol error as the end. Without a limit one socket could use all memory.
    """
    _, client = await serve()
    call = new_call()
    media_socket = await dial(client, start(call), media(0), b'{"event":"media","x":"' + b"A" * 2_000_000)
    code, _ = await closing(media_socket)
    assert code == 1009
    records = await asyncio.to_thread(records_on_log, kafka, call)
    assert [record.type for record in records] == [RecordType.START, RecordType.MEDIA, RecordType.EOS]
    assert records[-1].detail == EosReason.PROTOCOL_ERROR


async def test_malformed_messages_are_ignored(serve: Serve, kafka: KafkaSettings) -> None:
    """Sends invalid JSON, invalid base64, a binary message and an unknown event between valid frames.

    The valid frames must be on the log and the others must be counted. One broken message must not end a call.
    """
    _, client = await serve()
    call = new_call()
    bad_base64 = media(1).replace(b'"payload": "', b'"payload": "!!')
    media_socket = await dial(client, start(call), media(0), b"{not json", bad_base64, b'{"event":"new-thing"}')
    await media_socket.send_bytes(b"\x00" * 160)
    for message in (media(2), stop()):
        await media_socket.send_str(message.decode())
    records = await asyncio.to_thread(records_on_log, kafka, call)
    assert [run.ts_ms for run in media_of(records)] == [0, 40]
    await media_socket.close()
    await until_ended(client)
    assert (await figures(client))['audiotext_gateway_malformed_messages_total{carrier="twilio"}'] == 3


async def test_media_before_start_is_kept(serve: Serve, kafka: KafkaSettings) -> None:
    """Sends frames before the start, as carriers sometimes do: they must be on the log after it, in order."""
    _, client = await serve()
    call = new_call()
    async with await dial(client, media(0), media(1), dtmf("1"), start(call), media(2), stop()):
        records = await asyncio.to_thread(records_on_log, kafka, call)
    assert records[0].type is RecordType.START
    assert [(run.ts_ms, run.frames) for run in media_of(records)] == [(0, 3)]


async def test_a_socket_without_start_is_closed(serve: Serve) -> None:
    """Sends media without a start: the socket must be closed with 1002 when its buffer is full, to limit the memory."""
    _, client = await serve()
    code, text = await closing(await dial(client, *(media(number) for number in range(501))))
    assert code == 1002
    assert "start" in text


async def test_an_idle_socket_is_closed(serve: Serve, kafka: KafkaSettings) -> None:
    """Sends nothing after the start, although the peer is alive.

    The socket must be closed after the idle timeout, and the end of the stream must name the reason.
    """
    _, client = await serve(idle_timeout_s=0.2)
    call = new_call()
    code, text = await closing(await dial(client, start(call)))
    assert code == 1008
    assert "0.2 s" in text
    assert (await asyncio.to_thread(records_on_log, kafka, call))[-1].detail == EosReason.IDLE


async def test_a_call_on_hold_is_neither_closed_nor_forgotten(serve: Serve, kafka: KafkaSettings) -> None:
    """Starts, answers ten pings without saying anything, then speaks and stops. The socket stays open, the log has been
    told meanwhile that the stream is open, and the audio after the silence is there."""
    settings = settings_for(kafka, ping_interval_s=0.1)
    settings = settings.model_copy(update={"recorder": RecorderSettings(idle_timeout_ms=1000)})
    _, client = await serve(settings)
    call = new_call()
    async with client.ws_connect(MEDIA, headers=SIGNED, autoping=False) as media_socket:
        await media_socket.send_str(start(call).decode())
        for _ in range(10):
            ping = await media_socket.receive(timeout=10)
            assert ping.type is WSMsgType.PING
            await media_socket.pong(ping.data)
        for message in (media(0), stop()):
            await media_socket.send_str(message.decode())
        records = await asyncio.to_thread(records_on_log, kafka, call)
    kinds = [record.type for record in records]
    assert RecordType.ALIVE in kinds
    assert [kind for kind in kinds if kind is not RecordType.ALIVE] == [
        RecordType.START,
        RecordType.MEDIA,
        RecordType.EOS,
    ]
    assert records[-1].detail == EosReason.CARRIER_STOP


async def test_a_socket_that_answers_no_ping_is_closed(serve: Serve, kafka: KafkaSettings) -> None:
    """Starts, and never answers a ping: closed after three intervals, and the stream's end says why."""
    _, client = await serve(ping_interval_s=0.1)
    call = new_call()
    async with client.ws_connect(MEDIA, headers=SIGNED, autoping=False) as media_socket:
        await media_socket.send_str(start(call).decode())
        while (message := await media_socket.receive(timeout=10)).type is WSMsgType.PING:
            pass
        assert message.type is WSMsgType.CLOSE
        assert "AUDIOTEXT_GATEWAY__PING_INTERVAL_S" in str(message.extra)
    records = await asyncio.to_thread(records_on_log, kafka, call)
    assert records[-1].detail == EosReason.PEER_GONE
    assert (await figures(client))['audiotext_gateway_refused_sockets_total{reason="peer-gone"}'] == 1


async def test_a_carriers_ping_is_answered(serve: Serve) -> None:
    """Pings the gateway: it answers with the same content. Carriers close sockets that do not."""
    _, client = await serve()
    async with client.ws_connect(MEDIA, headers=SIGNED, autoping=False) as media_socket:
        await media_socket.ping(b"hello")
        answer = await media_socket.receive(timeout=10)
        assert (answer.type, bytes(answer.data)) == (WSMsgType.PONG, b"hello")


async def test_two_sockets_of_one_stream_end_once(serve: Serve, kafka: KafkaSettings) -> None:
    """Opens a second socket for a live stream, as a reconnecting carrier does, and closes the first.

    Audio of both must be on the log, and the stream must end once, with the second. An early end would truncate the
    recording.
    """
    _, client = await serve()
    call = new_call()
    first = await dial(client, start(call), media(0))
    second = await dial(client, start(call))
    await asyncio.to_thread(records_on_log, kafka, call, lambda got: [r.type for r in got].count(RecordType.START) == 2)
    await first.close()
    for message in (media(1), stop()):
        await second.send_str(message.decode())
    records = await asyncio.to_thread(records_on_log, kafka, call)
    await second.close()
    await until_ended(client)
    assert [run.ts_ms for run in media_of(records)] == [0, 20]
    events = await asyncio.to_thread(events_on_log, kafka, call, 3)
    assert len({event.event_id for event in events}) == 2


async def test_call_id_with_path_characters_is_unchanged(serve: Serve, kafka: KafkaSettings) -> None:
    """Uses a call id that would leave a directory.

    The record's key must be unchanged; code that builds a path encodes it.
    """
    _, client = await serve()
    call = f"../../{uuid.uuid4().hex}/\u202e%2e"
    async with await dial(client, start(call), media(0), stop()):
        records = await asyncio.to_thread(records_on_log, kafka, call)
    assert {record.call_id for record in records} == {call}


async def test_voice_webhook_returns_twiml(serve: Serve) -> None:
    """Posts a signed voice request: the TwiML must stream both tracks to the gateway's public address; unsigned: 403.

    With a wrong URL no call would reach the gateway.
    """
    _, client = await serve()
    form = {"CallSid": "CA1", "From": "+15550100"}
    headers = {HEADER: sign(TOKEN, f"{PUBLIC_URL}/v1/voice/twilio", list(form.items()))}
    answer = await client.post("/v1/voice/twilio", data=form, headers=headers)
    text = await answer.text()
    assert answer.content_type == "application/xml"
    assert 'url="wss://calls.example.com/v1/media/twilio"' in text
    assert 'track="both_tracks"' in text
    assert (await client.post("/v1/voice/twilio", data=form)).status == 403
    tampered = form | {"CallSid": "CA2"}
    assert (await client.post("/v1/voice/twilio", data=tampered, headers=headers)).status == 403


async def test_invalid_webhook_bodies_get_403(serve: Serve) -> None:
    """Posts a broken multipart body and an unknown charset without a signature: 403 and no server error.

    Otherwise any client can fill the log with stack traces.
    """
    _, client = await serve()
    for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded; charset=klingon"):
        answer = await client.post("/v1/voice/twilio", data=b"--x\r\n\xff=%", headers={"Content-Type": kind})
        assert answer.status == 403


async def test_status_webhook_requires_a_signature(serve: Serve) -> None:
    """Posts a status callback with and without a signature: 204 and 403."""
    _, client = await serve()
    form = {"StreamEvent": "stream-stopped"}
    headers = {HEADER: sign(TOKEN, f"{PUBLIC_URL}/v1/status/twilio", list(form.items()))}
    assert (await client.post("/v1/status/twilio", data=form, headers=headers)).status == 204
    assert (await client.post("/v1/status/twilio", data=form)).status == 403


async def test_readyz_names_the_missing_part(serve: Serve, kafka: KafkaSettings) -> None:
    """Requests /readyz with a log and without one: 200, then 503 with the missing part. /healthz must be 200."""
    _, client = await serve()
    assert (await client.get("/readyz")).status == 200
    nobody = f"127.0.0.1:{_free_port()}"
    _, client = await serve(Settings(kafka=KafkaSettings(bootstrap_servers=nobody)))
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert list((await answer.json())["missing"]) == ["log"]
    assert (await client.get("/healthz")).status == 200


async def test_missing_api_names_the_setting(serve: Serve) -> None:
    """Requests the calls from a gateway without an API: 404 with the name of the setting."""
    _, client = await serve()
    answer = await client.get("/v1/calls")
    assert answer.status == 404
    assert "AUDIOTEXT_GATEWAY__API_URL" in await answer.text()


def test_taken_port_gives_one_error(kafka: KafkaSettings) -> None:
    """Runs a gateway on a used port: SystemExit with one sentence that names the setting, and no stack trace."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"port {port} .* is already in use.*AUDIOTEXT_GATEWAY__PORT"):
            run(Settings(kafka=kafka, gateway=GatewaySettings(port=port)))


def test_missing_log_names_the_setting() -> None:
    """Runs a gateway without a configured log: SystemExit with the name of the setting."""
    with pytest.raises(SystemExit, match="AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"):
        run(Settings())


async def test_sigterm_ends_the_process_without_losing_audio(kafka: KafkaSettings, tmp_path: Path) -> None:
    """Runs the gateway as a process and sends SIGTERM in the middle of a call.

    The carrier must get 1001, audio and end must be on the log, and the process must exit with 0 within seconds.
    """
    port = _free_port()
    variables = {
        **log_variables.to_variables(kafka),
        "AUDIOTEXT_GATEWAY__PORT": str(port),
        "AUDIOTEXT_PUBLIC_URL": PUBLIC_URL,
        "AUDIOTEXT_TWILIO__AUTH_TOKEN": TOKEN,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = "from core.settings import load; from gateway.app import run; run(load())"
    process = _start_process(command, variables, tmp_path)
    call = new_call()
    try:
        async with aiohttp.ClientSession() as client:
            await _until_ready(client, f"http://127.0.0.1:{port}/readyz")
            media_socket = await client.ws_connect(f"ws://127.0.0.1:{port}{MEDIA}", headers=SIGNED)
            for message in (start(call), *(media(number) for number in range(10))):
                await media_socket.send_str(message.decode())
            await asyncio.to_thread(records_on_log, kafka, call, lambda got: bool(media_of(got)))
            process.send_signal(signal.SIGTERM)
            assert (await closing(media_socket))[0] == 1001
            assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait()
    records = await asyncio.to_thread(records_on_log, kafka, call)
    assert sum(run.frames for run in media_of(records)) == 10
    assert records[-1].detail == EosReason.GATEWAY_DRAINING


def _start_process(command: str, variables: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", command], env=os.environ | dict(variables), cwd=cwd)


async def _until_ready(client: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                async with client.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
