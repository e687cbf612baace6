"""Speech-to-text engine with a fixed transcript, in the process of the test."""

import asyncio
from collections.abc import Mapping

from pipelines.providers.base import Transcription, TranscriptionJob
from schemas.artifacts import Segment, Transcript

WAV = b"RIFF, as far as the fake engine is concerned"


class FakeEngine:
    """Engine that returns the same text for every call, and counts its requests."""

    name = "whisper"

    def __init__(self, model: str = "base") -> None:
        self.model = model
        self.jobs: list[TranscriptionJob] = []
        self.heard: list[bytes] = []

    def config(self) -> Mapping[str, object]:
        return {"model": self.model}

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        self.jobs.append(job)
        self.heard.append(await asyncio.to_thread(job.audio.read_bytes))
        transcript = Transcript(
            call_id=job.call_id,
            language="en",
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=[Segment(start_ms=0, end_ms=500, channel=0, speaker=job.speakers[0], text="Hello.")],
        )
        return Transcription(transcript)
