"""Whole calls on the real stack: from the carrier's socket to the bill."""

import asyncio
import contextlib
import io
import json
import time
import uuid
import wave
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from core.audio.g711 import ULAW_DECODE
from gateway.carriers.base import Frame
from gateway.simulator import CallRefusedError, Faults, Played, play
from tests.support.demo_calls import CALLS, demo_call, errors, normalised
from tests.support.up_process import TWILIO_TOKEN, UpProcess

pytestmark = [pytest.mark.server, pytest.mark.alone, pytest.mark.timeout(240)]

Samples = npt.NDArray[np.int16]
LEFT_RIGHT = ("inbound", "outbound")


def _new_call_id() -> str:
    return f"CA{uuid.uuid4().hex}"


async def _play(up: UpProcess, audio: Path, *, speed: float = 20, faults: Faults | None = None) -> Played:
    return await play(
        audio,
        url=up.media_url,
        auth_token=TWILIO_TOKEN,
        public_url=up.url,
        call_id=_new_call_id(),
        speed=speed,
        faults=faults or Faults(),
    )


def _expected(tracks: Mapping[str, Sequence[Frame]]) -> Samples:
    """Returns the expected recording: each decoded frame at its timestamp, silence elsewhere. [samples, 2]"""
    origin = min(frames[0].ts_ms for frames in tracks.values())
    end = max((frames[-1].ts_ms - origin) * 8 + len(frames[-1].payload) for frames in tracks.values())
    samples = np.zeros((end, 2), dtype=np.int16)
    for channel, name in enumerate(LEFT_RIGHT):
        for frame in tracks.get(name, ()):
            start = (frame.ts_ms - origin) * 8
            samples[start : start + len(frame.payload), channel] = ULAW_DECODE[np.frombuffer(frame.payload, np.uint8)]
    return samples


def _recording(up: UpProcess, call_id: str) -> Samples:
    status, body = up.get(f"/v1/calls/{call_id}/recording")
    assert status == 200
    with wave.open(io.BytesIO(body)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


@pytest.fixture(scope="module")
def excerpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the first 12 s of a call: enough for faults, and quick to transcribe."""
    call = demo_call("broadband_outage")
    path = tmp_path_factory.mktemp("audio") / "excerpt.flac"
    soundfile.write(path, call.samples[: 12 * call.rate_hz], call.rate_hz, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def both(up: UpProcess) -> dict[str, tuple[Played, dict[str, Any]]]:
    """Plays both demo calls at the same time and waits for them. Returns them by name."""

    async def play_all() -> list[Played]:
        with resources.as_file(resources.files("audiotext") / "demo_calls") as folder:
            return await asyncio.gather(*(_play(up, folder / f"{name}.flac") for name in CALLS))

    played = asyncio.run(play_all())
    documents = [up.wait_for(call.call_id, "complete") for call in played]
    return dict(zip(CALLS, zip(played, documents, strict=True), strict=True))


Both = dict[str, tuple[Played, dict[str, Any]]]


@pytest.mark.parametrize("name", CALLS)
def test_the_recording_equals_the_call_by_sample(up: UpProcess, both: Both, name: str) -> None:
    """Compares the WAVs of two calls that interleave on the log with the G.711 decoding of their frames.

    A different sample or a gap means that audio was lost, moved, or mixed with the other call.
    """
    played, document = both[name]
    expected = _expected(played.tracks)
    np.testing.assert_array_equal(_recording(up, played.call_id), expected)
    assert document["duration_ms"] == len(expected) // 8
    assert [track["name"] for track in document["tracks"]] == list(LEFT_RIGHT)
    assert [track["gaps"] for track in document["tracks"]] == [[], []]


def test_the_transcripts_match_the_true_words(up: UpProcess, both: Both) -> None:
    """Compares the transcripts with the true words: the word error rate is at most 0.15.

    The rate is the average of the four channels. The speaker is the channel, segments are in order, and every word lies
    within the call.
    """
    rates = []
    for name, (played, document) in both.items():
        transcript = up.json(f"/v1/calls/{played.call_id}/transcript", format="json")
        segments = transcript["segments"]
        assert segments == sorted(segments, key=lambda segment: segment["start_ms"])
        assert {segment["speaker"] for segment in segments} == set(LEFT_RIGHT)
        for segment in segments:
            assert segment["speaker"] == LEFT_RIGHT[segment["channel"]]
            assert all(0 <= word["start_ms"] <= word["end_ms"] <= document["duration_ms"] for word in segment["words"])
        truth = demo_call(name)
        for channel in (0, 1):
            heard = normalised(" ".join(segment["text"] for segment in segments if segment["channel"] == channel))
            said = normalised(truth.said(channel))
            rates.append(errors(said, heard) / len(said))
    assert sum(rates) / len(rates) <= 0.15, rates


def test_search_finds_the_call_by_its_sentences(up: UpProcess, both: Both) -> None:
    """Searches for the longest true sentence of each call: the first hit is that call, at the right time."""
    for name, (played, _) in both.items():
        turn = max(demo_call(name).turns, key=lambda turn: len(turn.text))
        hit = up.json("/v1/search", q=turn.text)["results"][0]
        assert hit["call_id"] == played.call_id
        assert turn.start * 1000 - 1500 <= hit["start_ms"] <= turn.end * 1000


def test_one_line_on_the_bill_per_call(up: UpProcess, both: Both) -> None:
    """Checks one ledger line of int(minutes * 50) units per call. The bill is the sum of exactly these lines."""
    for played, document in both.values():
        (line,) = document["usage"]
        assert line["kind"] == "transcription"
        assert line["units"] == document["duration_ms"] * 50 // 60_000
        rows = up.json("/v1/usage", group_by="call")["groups"]
        assert [row["units"] for row in rows if played.call_id in json.dumps(row)] == [line["units"]]


def test_the_summary_is_of_this_call(both: Both) -> None:
    """Checks that summary and key points exist and name the subject of the call."""
    summary = both["broadband_outage"][1]["summary"]
    assert summary["abstract"]
    assert summary["key_points"]
    text = json.dumps(summary).lower()
    assert any(word in text for word in ("engineer", "cabinet", "internet", "router"))


async def test_faulty_frames_make_the_same_recording(up: UpProcess, excerpt: Path) -> None:
    """Delays frames by up to 200 ms, repeats a third of them, and drops 400 ms.

    The WAV has each frame in its place and silence in the hole, which is the only reported gap, on both tracks.
    """
    faults = Faults(shuffle_ms=200, duplicate=0.33, holes=((5000, 5400),), seed=7)
    played = await _play(up, excerpt, speed=8, faults=faults)
    assert played.messages > 1.2 * sum(len(frames) for frames in played.tracks.values())
    document = await asyncio.to_thread(up.wait_for, played.call_id, "complete")
    recording = _recording(up, played.call_id)
    np.testing.assert_array_equal(recording, _expected(played.tracks))
    assert not recording[5000 * 8 : 5400 * 8].any()
    for track in document["tracks"]:
        assert [(gap["start_ms"], gap["end_ms"]) for gap in track["gaps"]] == [(5000, 5400)]
        assert track["audio_ms"] == document["duration_ms"] - 400


async def test_a_dropped_socket_ends_the_call(up: UpProcess, excerpt: Path) -> None:
    """Cuts the connection after 7 s without a stop message: the audio up to then is recorded and transcribed."""
    played = await _play(up, excerpt, speed=8, faults=Faults(drop_at_ms=7000))
    await asyncio.to_thread(up.wait_for, played.call_id, "complete")
    np.testing.assert_array_equal(_recording(up, played.call_id), _expected(played.tracks))
    events = up.json(f"/v1/calls/{played.call_id}/events")["events"]
    (ended,) = [event for event in events if event["type"] == "stream.ended"]
    assert ended["reason"] == "socket-closed"


async def test_results_follow_a_call_quickly(up: UpProcess, tmp_path: Path) -> None:
    """Measures a call of two minutes.

    It is `recorded` in the API within 1.5 s of the hang-up, and each later stage adds less than a second to the time of
    its engine.
    """
    call = demo_call("broadband_outage")
    two_minutes = np.zeros((120 * call.rate_hz, 2), dtype=np.int16)  # of which an engine has half a minute to do
    two_minutes[: 30 * call.rate_hz] = call.samples[: 30 * call.rate_hz]
    soundfile.write(tmp_path / "two-minutes.flac", two_minutes, call.rate_hz, subtype="PCM_16")
    played = await _play(up, tmp_path / "two-minutes.flac", speed=20)
    hung_up = time.monotonic()
    document = await asyncio.to_thread(
        up.wait_for, played.call_id, "recorded", "transcribed", "summarized", "complete", timeout_s=10
    )
    assert time.monotonic() - hung_up < 1.5
    assert document["duration_ms"] == 120_000
    await asyncio.to_thread(up.wait_for, played.call_id, "complete")
    told = {event["type"]: event for event in up.json(f"/v1/calls/{played.call_id}/events")["events"]}
    for before, after in (
        ("recording.ready", "transcript.ready"),
        ("transcript.ready", "summary.ready"),
        ("transcript.ready", "embedding.ready"),
    ):
        took_ms = told[after]["occurred_at_ms"] - told[before]["occurred_at_ms"]
        assert took_ms - told[after]["engine_ms"] < 1000, (after, took_ms, told[after]["engine_ms"])


async def test_a_socket_without_a_valid_signature_is_refused(up: UpProcess, excerpt: Path) -> None:
    """Opens media sockets with a wrong signature and without one: 403, and no call appears.

    An open media socket is the most common security finding in this field.
    """
    call_id = _new_call_id()
    with pytest.raises(CallRefusedError, match="403"):
        await play(excerpt, url=up.media_url, auth_token="wrong", public_url=up.url, call_id=call_id)
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await client.ws_connect(up.media_url)
    assert up.call(call_id) is None


@pytest.mark.parametrize("path", ["/v1/calls", "/v1/calls/x", "/v1/calls/x/recording", "/v1/search?q=x", "/v1/usage"])
def test_the_api_refuses_requests_without_a_key(up: UpProcess, path: str) -> None:
    """Sends requests without a key and with a wrong one: 401."""
    assert up.get(path, key=None)[0] == 401
    assert up.get(path, key="wrong")[0] == 401


async def test_every_service_may_be_killed_in_the_middle_of_a_call(up: UpProcess, excerpt: Path) -> None:
    """Kills every other service during a call, and again while it is processed.

    These are recorder, transcriber, summarizer, embedder, usage and analytics. The recording is complete and the bill
    has one line. The gateway is not killed, because it may lose frames that it has not produced. The embedded log is
    not killed, because it is not durable.
    """
    services = ("recorder", "transcriber", "summarizer", "embedder", "usage", "analytics")

    async def killer() -> None:
        for service in services:
            await asyncio.sleep(0.3)
            with contextlib.suppress(AssertionError):  # it may be restarting already
                up.kill_service(service)

    played, _ = await asyncio.gather(_play(up, excerpt, speed=4), killer())
    await asyncio.to_thread(up.wait_for, played.call_id, "recorded", "transcribed", "summarized", "complete")
    await killer()
    document = await asyncio.to_thread(up.wait_for, played.call_id, "complete")
    np.testing.assert_array_equal(_recording(up, played.call_id), _expected(played.tracks))
    assert len(document["usage"]) == 1
    events = up.json(f"/v1/calls/{played.call_id}/events")["events"]
    kinds = [event["type"] for event in events]
    for kind in ("recording.ready", "transcript.ready", "summary.ready", "embedding.ready"):
        assert kinds.count(kind) == 1, kinds


async def test_ctrl_c_ends_the_stack_during_a_call(up: UpProcess, excerpt: Path) -> None:
    """Sends Ctrl-C during a call: the whole stack ends within 5 s.

    This must be the last test of the file. tests/e2e/test_restart.py checks what is kept of such a call.
    """
    playing = asyncio.create_task(_play(up, excerpt, speed=1))
    await asyncio.sleep(1.0)  # of speech
    assert await asyncio.to_thread(up.stop) < 5
    await asyncio.gather(playing, return_exceptions=True)
