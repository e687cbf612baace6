"""Engines, loaded once per test session, and what they make of the demo calls."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipelines.providers.base import TranscriptionJob
from pipelines.providers.minilm.embedder import MiniLm
from pipelines.providers.whisper.transcriber import Whisper
from schemas.artifacts import Transcript
from tests.support.demo_calls import CALLS, demo_call

SPEAKERS = ("inbound", "outbound")


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's models are made, from the installed packages."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def whisper(model_cache: Path) -> Whisper:
    """Whisper base, loaded; it finds the language out by itself."""
    engine = Whisper("base", model_cache)
    engine.load()
    return engine


@pytest.fixture(scope="session")
def minilm(model_cache: Path) -> MiniLm:
    """MiniLM, loaded."""
    engine = MiniLm(model_cache)
    engine.load()
    return engine


@pytest.fixture(scope="session")
def transcripts(whisper: Whisper, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Transcript]:
    """Whisper's transcript of each demo call, by its name."""
    folder = tmp_path_factory.mktemp("calls")
    made = {}
    for name in CALLS:
        call = demo_call(name)
        job = TranscriptionJob(
            key=name,
            call_id=name,
            audio=call.write_wav(folder / f"{name}.wav"),
            duration_ms=call.duration_ms,
            speakers=SPEAKERS,
        )
        made[name] = asyncio.run(whisper.transcribe(job)).transcript
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever needs the transcripts first waits for them: seconds, but minutes on a machine that does much else."""
    for item in items:
        if "transcripts" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(300))
