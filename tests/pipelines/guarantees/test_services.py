"""The services as they run in production: an update changes nothing that was published before."""

import asyncio
from pathlib import Path

from core.settings import S3Settings
from redpanda import topics
from redpanda.client import EventProducer
from schemas.events import AnyEvent, parse_event
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.conftest import StartServer, kafka_settings
from tests.fakes import gemini as rules
from tests.fakes.gemini import FakeGemini
from tests.support.ids import new_call
from tests.support.pipeline_events import said, transcribed
from tests.support.running_server import RunningServer
from tests.support.service_process import records, running


async def test_a_summary_and_an_embedding_survive_an_update(
    *,
    start_server: StartServer,
    object_server: RunningServer,
    qdrant_server: RunningServer,
    s3: S3Settings,
    gemini: FakeGemini,
    tmp_path: Path,
) -> None:
    """Summarizer and embedder do a call, and are killed; they come back with other models, and the transcript's event
    is on the log once more, as a transcriber leaves it that was killed before it could commit. Nothing is asked, and
    summary, embedding and both lines are published again as they were.

    A failure means that an update while calls are under way charges them twice.
    """
    log = await asyncio.to_thread(start_server, "log")
    kafka = kafka_settings(log).model_copy(update={"instance_id": "0"})
    await asyncio.to_thread(topics.apply, kafka, embedded=True)
    env = {
        **log.addresses,
        **object_server.addresses,
        **qdrant_server.addresses,
        "AUDIOTEXT_KAFKA__INSTANCE_ID": "0",
        "AUDIOTEXT_SUMMARY__PROVIDER": "gemini",
        "AUDIOTEXT_EMBEDDING__PROVIDER": "gemini",
        "AUDIOTEXT_GEMINI__API_KEY": rules.KEY,
        "AUDIOTEXT_GEMINI__BASE_URL": gemini.url,
    }
    updated = {
        "AUDIOTEXT_GEMINI__SUMMARY_MODEL": rules.SUMMARIZERS[1],
        "AUDIOTEXT_GEMINI__EMBEDDING_MODEL": rules.EMBEDDERS[1],
    }
    event = transcribed(ObjectStore(s3), said(new_call(), "My router is broken.", "I'll send you a new one."))
    producer = EventProducer(kafka)

    def published(number: int, more: dict[str, str]) -> list[AnyEvent]:
        """What there is once the services have done the event for the n-th time."""
        with (
            running("pipelines.summarize.handler", env | more, tmp_path / "summarizer.log"),
            running("pipelines.embed.handler", env | more, tmp_path / "embedder.log"),
        ):
            producer.send(Topic.TRANSCRIPT_READY, [event])
            return [
                parse_event(value)
                for topic, of_it in ((Topic.SUMMARY_READY, 1), (Topic.EMBEDDING_READY, 1), (Topic.USAGE_RECORDED, 2))
                for value in records(kafka, topic, number * of_it, timeout_s=90)
            ]

    before = await asyncio.to_thread(published, 1, {})
    asked = len(gemini.asked)
    after = await asyncio.to_thread(published, 2, updated)

    assert len(gemini.asked) == asked
    assert len(after) == 2 * len(before)
    assert {one.model_dump_json() for one in after} == {one.model_dump_json() for one in before}
