"""Service in its own process with an engine whose text depends only on the digest of the audio.

python -m tests.replay.fake_stt_service SERVICE
"""

import asyncio
import hashlib
import logging
import sys
from collections.abc import Mapping

from audiotext.stack import services
from core.settings import Settings, load
from pipelines.providers import registry
from pipelines.providers.base import Transcription, TranscriptionJob
from schemas.artifacts import Segment, Transcript

_SAID = (
    "Hello, this is about my invoice from last month.",
    "The router in the kitchen keeps losing the connection.",
    "I will send you a technician on Tuesday morning.",
    "Could you repeat the order number for me, please?",
    "We are going to refund the amount within five days.",
    "My address has changed, the new one is on the contract.",
)


class FakeStt:
    """Speech to text that returns at once, and always the same for the same audio."""

    name = "whisper"

    def __init__(self, model: str) -> None:
        self.model = model

    def config(self) -> Mapping[str, object]:
        return {"parrot": self.model}

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        digest = hashlib.sha256(await asyncio.to_thread(job.audio.read_bytes)).digest()
        transcript = Transcript(
            call_id=job.call_id,
            language="en",
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=[
                Segment(
                    start_ms=1000 * turn,
                    end_ms=1000 * turn + 900,
                    channel=turn % 2,
                    speaker=job.speakers[turn % 2],
                    text=f"{_SAID[digest[turn] % len(_SAID)]} {self.model} {digest[turn + 8]}.",
                )
                for turn in range(3)
            ],
        )
        return Transcription(transcript)


def main() -> None:
    """Runs the service that the command line names."""

    def speech_to_text(settings: Settings) -> FakeStt:
        return FakeStt(settings.stt.model)

    registry.speech_to_text = speech_to_text
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    services.entry_point(sys.argv[1])(load())


if __name__ == "__main__":
    main()
