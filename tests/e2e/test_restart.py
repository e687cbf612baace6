"""End, kill and restart of a stack."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from gateway.simulator import Played, play
from tests.support.demo_calls import demo_call
from tests.support.up_process import TWILIO_TOKEN, UpProcess

pytestmark = [pytest.mark.server, pytest.mark.timeout(240)]


def _play(up: UpProcess, call_id: str, audio: Path, speed: float) -> Played:
    return asyncio.run(
        play(audio, url=up.media_url, auth_token=TWILIO_TOKEN, public_url=up.url, call_id=call_id, speed=speed)
    )


def test_calls_survive_the_end_of_the_stack(tmp_path: Path) -> None:
    """Plays a call, ends the stack by Ctrl-C, restarts it, kills its supervisor by SIGKILL, and starts it a third time.

    Each time all data still exists and the bill is the same. A second `up` on the same directory is refused in one
    sentence. A live call is kept up to the Ctrl-C.
    """
    call = demo_call("clinic_reschedule")
    whole, excerpt = call.write_wav(tmp_path / "whole.wav"), tmp_path / "excerpt.wav"
    soundfile.write(excerpt, call.samples[: 20 * call.rate_hz], call.rate_hz, subtype="PCM_16")
    # The smaller model: what is heard is not what is looked at here.
    up = UpProcess(tmp_path / "data", {"AUDIOTEXT_STT__MODEL": "tiny.en"})
    up.start()
    try:
        _play(up, "CAfirst", excerpt, speed=20)
        before = up.wait_for("CAfirst", "complete")
        recording = up.get("/v1/calls/CAfirst/recording")
        usage = up.json("/v1/usage")
        second = subprocess.run(
            [sys.executable, "-m", "audiotext", "up", "--data-dir", str(up.data_dir), "--port", "1"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 2
        assert "runs on" in second.stderr
        assert "Traceback" not in second.stderr

        asyncio.run(_end_during_a_call(up, whole))

        up.start()
        after = up.wait_for("CAfirst", "complete")
        assert after == before
        cut = up.wait_for("CAlive", "complete")
        assert 1_000 < cut["duration_ms"] < 80_000
        assert up.get("/v1/calls/CAfirst/recording") == recording
        usage_with_live = up.json("/v1/usage")
        assert usage_with_live["total"][0]["lines"] == usage["total"][0]["lines"] + 1

        up.kill()
        up.start()
        assert up.wait_for("CAfirst", "complete") == before
        assert up.wait_for("CAlive", "complete") == cut
        assert up.json("/v1/usage") == usage_with_live
    finally:
        if up.running:
            up.stop()


async def _end_during_a_call(up: UpProcess, audio: Path) -> None:
    """Ends the stack while a call is live."""
    playing = asyncio.create_task(asyncio.to_thread(_play, up, "CAlive", audio, 2.0))
    deadline = time.monotonic() + 20
    while up.call("CAlive") is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)  # so that there is a second of audio to keep
    await asyncio.to_thread(up.stop)
    await asyncio.gather(playing, return_exceptions=True)
