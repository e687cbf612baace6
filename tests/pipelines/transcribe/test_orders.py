"""The transcriber as it runs in production, with a provider that is paid per order."""

import asyncio
from pathlib import Path

from core.settings import S3Settings
from redpanda import topics
from redpanda.client import EventProducer
from schemas.events import StageFailed, TranscriptReady, UsageRecorded, parse_event
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.conftest import StartServer, kafka_settings
from tests.fakes import soniox_rules as fake
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.support.ids import new_call
from tests.support.pipeline_events import recording
from tests.support.running_server import RunningServer
from tests.support.service_process import records, running
from tests.support.transcription_jobs import job_of
from tests.support.waiting import wait_until


async def test_a_service_that_is_killed_while_it_waits_orders_once(
    start_server: StartServer, object_server: RunningServer, s3: S3Settings, tmp_path: Path
) -> None:
    """The service orders a call from Soniox, is killed with SIGKILL while Soniox works, and started again: one order,
    one transcript, one line with what Soniox says it costs, nothing left there. Then the key is revoked: the next call
    is a dead letter after a single request, which says what to mend.

    All of it by settings alone, webhooks included: so the registry, the settings and the listener are tried, too.
    """
    server = FakeSoniox(takes_s=3_600)
    await server.start()
    log = await asyncio.to_thread(start_server, "log")
    kafka = kafka_settings(log).model_copy(update={"instance_id": "0"})
    await asyncio.to_thread(topics.apply, kafka, embedded=True)
    env = {
        **log.addresses,
        **object_server.addresses,
        "AUDIOTEXT_KAFKA__INSTANCE_ID": "0",
        "AUDIOTEXT_STT__PROVIDER": "soniox",
        "AUDIOTEXT_STT__CONCURRENCY": "4",
        "AUDIOTEXT_SONIOX__API_KEY": fake.KEY,
        "AUDIOTEXT_SONIOX__BASE_URL": server.url.removesuffix("/v1"),
        "AUDIOTEXT_SONIOX__LANGUAGE_HINTS": '["de"]',
        "AUDIOTEXT_SONIOX__WEBHOOK_SECRET": "0123456789abcdef",
        "AUDIOTEXT_PUBLIC_URL": "http://127.0.0.1:9",
    }
    server.forgets_webhooks = True
    objects = ObjectStore(s3)
    job = job_of(tmp_path / "a.wav", [(1, 2)], [(3, 4)])
    wav = job.audio.read_bytes()
    producer = EventProducer(kafka)

    def killed() -> None:
        with running("pipelines.transcribe.handler", env, tmp_path / "log") as service:
            producer.send(Topic.RECORDING_READY, [recording(objects, new_call(), wav, job.duration_ms)])
            wait_until(lambda: bool(server.orders), "the call is ordered")
            service.kill()

    def collected() -> list[bytes]:
        with running("pipelines.transcribe.handler", env, tmp_path / "log"):
            [ready] = records(kafka, Topic.TRANSCRIPT_READY, 1)
            [usage] = records(kafka, Topic.USAGE_RECORDED, 1)
            server.refusals.append(Refusal(".*", *fake.ERRORS[3], times=99))
            asked = len(server.requests)
            producer.send(Topic.RECORDING_READY, [recording(objects, new_call(), wav, job.duration_ms)])
            [letter] = records(kafka, Topic.DEAD_LETTERS, 1)
            assert len(server.requests) == asked + 1
            return [ready, usage, letter]

    await asyncio.to_thread(killed)
    [order] = server.orders.values()
    server.hurry.set()
    ready, usage, letter = [parse_event(value) for value in await asyncio.to_thread(collected)]
    await server.stop()

    assert order["webhook_url"] == "http://127.0.0.1:9/v1/notices/soniox"
    assert isinstance(ready, TranscriptReady)
    assert isinstance(usage, UsageRecorded)
    assert isinstance(letter, StageFailed)
    assert server.ordered == {ready.transcript_id: 1}
    assert (server.orders, server.files) == ({}, {})
    assert (ready.language, ready.segments, ready.provider) == ("de", 2, "soniox")
    assert (usage.units, usage.cost_source) == (16, "provider")
    assert (letter.error_class, letter.attempts) == ("permanent", 1)
    assert "unauthenticated" in letter.error
