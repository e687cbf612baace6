"""Every carrier on a real stack, set up like a customer does.

The voice webhook is requested, the call is streamed to the address in the answer with its token, and the carrier
reports the end.
"""

import asyncio
import io
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from G722 import G722

from gateway.simulator import CallRefusedError, Played, play
from schemas.media import Codec
from tests.support.demo_calls import demo_call
from tests.support.up_process import UpProcess, free_port
from tests.support.webhook_requests import (
    DOORS,
    PLIVO_TOKEN,
    SIGNING_KEY,
    TELNYX_KEY,
    TWILIO_TOKEN,
    VONAGE_SECRET,
    WITH_WEBHOOKS,
    Request,
    end_fields,
    request,
    stream_in,
    voice_fields,
)

pytestmark = [pytest.mark.server, pytest.mark.timeout(240)]

Samples = npt.NDArray[np.int16]

RATE_HZ = 8000
SECONDS = 6
ONE_TRACK = ("exotel", "audiosocket")
ACCOUNT = "AC" + "0" * 32  # the simulator's at Twilio
TENANTS = {"twilio": "acme"}  # the others are the default's


@pytest.fixture(scope="module")
def audiosocket_port() -> int:
    """Returns the port to which Asterisk connects."""
    return free_port()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, audiosocket_port: int) -> Iterator[UpProcess]:
    """Runs `audiotext up` with all carriers, Twilio with several accounts.

    The secret of its stream tokens is its own.
    """
    env = {
        "AUDIOTEXT_TWILIO__ACCOUNTS": json.dumps(
            {ACCOUNT: {"auth_token": TWILIO_TOKEN, "tenant": "acme"}, "ACother": {"auth_token": "x", "tenant": "other"}}
        ),
        "AUDIOTEXT_SIGNALWIRE__SIGNING_KEY": SIGNING_KEY,
        "AUDIOTEXT_TELNYX__PUBLIC_KEY": TELNYX_KEY,
        "AUDIOTEXT_PLIVO__AUTH_TOKEN": PLIVO_TOKEN,
        "AUDIOTEXT_VONAGE__SIGNATURE_SECRET": VONAGE_SECRET,
        "AUDIOTEXT_AUDIOSOCKET__PORT": str(audiosocket_port),
        "AUDIOTEXT_AUDIOSOCKET__ALLOWED_PEERS": '["127.0.0.1"]',
        "AUDIOTEXT_GATEWAY__CALL_END_DELAY_S": "0.2",
        "AUDIOTEXT_STT__MODEL": "tiny.en",  # a transcript there must be; how good it is, is another test's question
    }
    for name in ("exotel", "jambonz"):
        env |= {f"AUDIOTEXT_{name.upper()}__{key.upper()}": value for key, value in DOORS.items()}
    process = UpProcess(tmp_path_factory.mktemp("carriers") / "data", env)
    process.start()
    yield process
    if process.running:
        process.stop()


@pytest.fixture(scope="module")
def excerpt() -> Samples:
    """Returns six seconds of a call with the agent's greeting on the caller's track. [samples, 2]

    Some carriers stream no other track. Every sample is a value of mu-law.
    """
    return demo_call("broadband_outage").samples[: SECONDS * RATE_HZ, ::-1]


@pytest.fixture(scope="module")
def played(
    stack: UpProcess, excerpt: Samples, audiosocket_port: int, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Plays one call over each carrier at the same time. Returns call ids by carrier."""
    wav = tmp_path_factory.mktemp("audio") / "excerpt.wav"
    soundfile.write(wav, excerpt, RATE_HZ, subtype="PCM_16")

    async def call(name: str) -> str:
        call_id = str(uuid.uuid4())
        if name == "audiosocket":
            url, token = f"tcp://127.0.0.1:{audiosocket_port}", ""
        else:
            answer = await asyncio.to_thread(
                post, stack, request(name, f"/v1/voice/{name}", voice_fields(name, call_id), stack.url)
            )
            url, token = stream_in(name, answer[1])
        await play(
            wav,
            carrier=name,
            url=url,
            # Twilio signs its upgrade itself; the others bring the token.
            auth_token=TWILIO_TOKEN if name == "twilio" else token,
            public_url=stack.url,
            call_id=call_id,
            rate_hz=RATE_HZ,
            custom={"token": token} if name in ("twilio", "vonage") else {},
            speed=10,
        )
        return call_id

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(call, names))

    names = (*WITH_WEBHOOKS, "audiosocket")
    calls = dict(zip(names, asyncio.run(all_of_them()), strict=True))
    for name in WITH_WEBHOOKS:
        assert post(stack, request(name, f"/v1/status/{name}", end_fields(name, calls[name]), stack.url))[0] == 204
    return calls


def post(stack: UpProcess, made: Request) -> tuple[int, str]:
    """Returns status and text of the answer to a webhook."""
    asked = urllib.request.Request(stack.url + made.path, made.body, made.headers)
    with urllib.request.urlopen(asked, timeout=15) as answer:
        return answer.status, answer.read().decode()


WIDE = (
    ("signalwire", Codec.L16, 24000),
    ("telnyx", Codec.L16, 16000),
    ("telnyx", Codec.G722, 16000),
    ("telnyx", Codec.OPUS, 16000),
)


def wideband(excerpt: Samples, rate_hz: int) -> Samples:
    """Returns three seconds of the excerpt at another rate. [samples, 2]"""
    resampled = np.asarray(soxr.resample(excerpt[: 3 * RATE_HZ].astype(np.float32), RATE_HZ, rate_hz))
    rounded: Samples = np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)
    return rounded


@pytest.fixture(scope="module")
def played_wide(
    stack: UpProcess, excerpt: Samples, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, Codec, int], Played]:
    """Plays one call in each better format of a carrier, all at the same time."""
    folder = tmp_path_factory.mktemp("wide")
    for rate_hz in {rate_hz for _, _, rate_hz in WIDE}:
        soundfile.write(folder / f"{rate_hz}.wav", wideband(excerpt, rate_hz), rate_hz, subtype="PCM_16")

    async def call(name: str, codec: Codec, rate_hz: int) -> Played:
        call_id = str(uuid.uuid4())
        answer = await asyncio.to_thread(
            post, stack, request(name, f"/v1/voice/{name}", voice_fields(name, call_id), stack.url)
        )
        url, token = stream_in(name, answer[1])
        return await play(
            folder / f"{rate_hz}.wav",
            carrier=name,
            url=url,
            auth_token=token,
            public_url=stack.url,
            call_id=call_id,
            codec=codec,
            rate_hz=rate_hz,
            speed=10,
        )

    async def all_of_them() -> list[Played]:
        return await asyncio.gather(*(call(*one) for one in WIDE))

    return dict(zip(WIDE, asyncio.run(all_of_them()), strict=True))


def recording(stack: UpProcess, call_id: str, rate_hz: int = RATE_HZ) -> Samples:
    """Returns the samples of the recording. [samples, 2]"""
    status, body = stack.get(f"/v1/calls/{call_id}/recording")
    assert status == 200
    with wave.open(io.BytesIO(body)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, rate_hz)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


RECORDED = ("recorded", "transcribed", "summarized", "complete")


@pytest.mark.parametrize("name", [*WITH_WEBHOOKS, "audiosocket"])
def test_the_same_speech_is_the_same_recording(
    stack: UpProcess, played: dict[str, str], excerpt: Samples, name: str
) -> None:
    """Compares the recording of each carrier's call with the speech, sample for sample.

    It has one part, and its tenant is the right one. A failure shows a wrong byte order, a swapped channel, a lost
    frame, or an additional part.
    """
    document = stack.wait_for(played[name], *RECORDED)
    assert (document["carrier"], document["tenant"]) == (name, TENANTS.get(name, "default"))
    assert len(document["parts"]) == 1
    samples = recording(stack, played[name])
    if name == "vonage":
        # Its two legs are two sockets, each placed by when it was opened: a few ms apart, as the legs themselves are.
        for channel in (0, 1):
            assert _contains(samples[:, channel], excerpt[:, channel])
        return
    np.testing.assert_array_equal(samples[:, 0], excerpt[:, 0])
    np.testing.assert_array_equal(samples[:, 1], 0 if name in ONE_TRACK else excerpt[:, 1])


def _contains(samples: Samples, wanted: Samples) -> bool:
    starts = range(len(samples) - len(wanted) + 1)
    return any(np.array_equal(samples[start : start + len(wanted)], wanted) for start in starts)


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
def test_what_the_carrier_told_is_among_the_events(stack: UpProcess, played: dict[str, str], name: str) -> None:
    """The status webhook is one event of the call, beside the voice request, and no event contains a stream token.

    A failure means that a webhook is lost or counted twice, or that a secret is readable in the events.
    """
    stack.wait_for(played[name], *RECORDED)
    body = _events(stack, played[name])
    statuses = [event for event in body if event["type"] == "call.status"]
    (ended,) = [event for event in statuses if event["over"]]
    assert ended["carrier"] == name
    assert {event["status"] for event in statuses if not event["over"]} <= {"voice-request"}
    assert "at1." not in json.dumps(body)


def _events(stack: UpProcess, call_id: str) -> list[dict[str, Any]]:
    """Returns the call's events as soon as a webhook has reported the end of the call."""
    deadline = time.monotonic() + 20
    while True:
        document = stack.json(f"/v1/calls/{call_id}/events")
        events: list[dict[str, Any]] = document["events"] if isinstance(document, dict) else document
        if any(event["type"] == "call.status" and event["over"] for event in events):
            return events
        assert time.monotonic() < deadline, events
        time.sleep(0.05)


@pytest.mark.parametrize("wide", WIDE, ids=str)
def test_better_sound_is_kept(
    stack: UpProcess,
    played_wide: dict[tuple[str, Codec, int], Played],
    excerpt: Samples,
    wide: tuple[str, Codec, int],
) -> None:
    """Checks recordings at the rate of the stream.

    Linear PCM equals every sample, G.722 equals the result of another decoder, and Opus, which changes phases,
    correlates with the speech. A wrong byte order would be noise.
    """
    call, (_, codec, rate_hz) = played_wide[wide], wide
    stack.wait_for(call.call_id, *RECORDED)
    samples, expected = recording(stack, call.call_id, rate_hz), wideband(excerpt, rate_hz)
    if codec is Codec.G722:
        for channel, track in enumerate(("inbound", "outbound")):
            octets = b"".join(frame.payload for frame in call.tracks[track])
            np.testing.assert_array_equal(samples[:, channel], np.asarray(G722(16000, 64000).decode(octets), np.int16))
    elif codec is Codec.OPUS:
        assert _alike(samples[:, 0], expected[:, 0]) > 0.9
    else:
        np.testing.assert_array_equal(samples, expected)


def _alike(samples: Samples, wanted: Samples) -> float:
    """Returns the highest correlation of two sounds over all shifts. 1 means equal."""
    size = len(samples) + len(wanted)
    spectrum = np.fft.rfft(samples.astype(float), size) * np.conj(np.fft.rfft(wanted.astype(float), size))
    energy = np.linalg.norm(samples.astype(float)) * np.linalg.norm(wanted.astype(float))
    return float(np.fft.irfft(spectrum, size).max() / energy)


@pytest.mark.parametrize("name", [*WITH_WEBHOOKS, "audiosocket"])
def test_each_call_has_a_transcript(stack: UpProcess, played: dict[str, str], name: str) -> None:
    """Checks that the greeting is in the transcript of each carrier, as the caller's."""
    stack.wait_for(played[name], "complete", timeout_s=180)
    transcript = stack.json(f"/v1/calls/{played[name]}/transcript", format="json")
    said = " ".join(one["text"] for one in transcript["segments"] if one["speaker"] == "inbound").lower()
    assert "northwind" in said or "thank you" in said, transcript


def test_a_tenant_sees_its_own_calls_only(stack: UpProcess, played: dict[str, str]) -> None:
    """Uses a key of one tenant: every endpoint shows only the calls of its carrier account."""
    command = (sys.executable, "-m", "audiotext", "keys", "create", "--tenant", "acme")
    made = subprocess.run((*command, "--data-dir", str(stack.data_dir)), capture_output=True, check=True, text=True)
    key = made.stdout.strip()
    stack.wait_for(played["twilio"], *RECORDED)
    stack.wait_for(played["telnyx"], *RECORDED)
    status, body = stack.get("/v1/calls", key=key)
    assert status == 200
    assert [call["id"] for call in json.loads(body)["calls"]] == [played["twilio"]]
    for path in ("", "/recording", "/transcript", "/summary", "/events"):
        assert stack.get(f"/v1/calls/{played['telnyx']}{path}", key=key)[0] == 404, path


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
def test_calls_without_a_proof_are_refused(stack: UpProcess, excerpt: Samples, tmp_path: Path, name: str) -> None:
    """Sends calls and webhooks without a proof: refused, and no call appears."""
    wav = tmp_path / "short.wav"
    soundfile.write(wav, excerpt[:RATE_HZ], RATE_HZ, subtype="PCM_16")
    call_id = str(uuid.uuid4())
    url = f"{stack.url.replace('http', 'ws')}/v1/media/{name}"
    with pytest.raises(CallRefusedError, match=r"403|1008"):
        asyncio.run(
            play(wav, carrier=name, url=url, auth_token="guess", public_url=stack.url, call_id=call_id, speed=2)
        )
    made = request(name, f"/v1/voice/{name}", voice_fields(name, call_id), stack.url)
    made.headers = {"Content-Type": made.headers["Content-Type"]}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        post(stack, made)
    assert stack.get(f"/v1/calls/{call_id}")[0] == 404
