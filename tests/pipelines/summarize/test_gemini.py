"""The summarizer as it runs in production, with a model that is paid by the token."""

import asyncio
from pathlib import Path

from core.settings import S3Settings
from redpanda import topics
from redpanda.client import EventProducer
from schemas.events import StageFailed, SummaryReady, UsageRecorded, parse_event
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.conftest import StartServer, kafka_settings
from tests.fakes import gemini as fake
from tests.fakes.gemini import FakeGemini
from tests.support.ids import new_call
from tests.support.pipeline_events import said, transcribed
from tests.support.running_server import RunningServer
from tests.support.service_process import records, running
from tests.support.waiting import wait_until


async def test_a_service_that_is_killed_goes_on_where_it_was(
    start_server: StartServer, object_server: RunningServer, s3: S3Settings, tmp_path: Path
) -> None:
    """The service is killed with SIGKILL while Gemini thinks about the second of three stretches of a call, and started
    again: the first stretch is not asked again, the second is (Gemini keeps nothing that could be asked for), there is
    one summary and one line with the tokens of every answer that came. Then the key is taken away: the next call is a
    dead letter after a single request, which says what to mend.

    All of it by settings alone: so the registry and the settings are tried, too.
    """
    server = FakeGemini(script=[None, 3_600.0])
    await server.start()
    log = await asyncio.to_thread(start_server, "log")
    kafka = kafka_settings(log).model_copy(update={"instance_id": "0"})
    await asyncio.to_thread(topics.apply, kafka, embedded=True)
    env = {
        **log.addresses,
        **object_server.addresses,
        "AUDIOTEXT_KAFKA__INSTANCE_ID": "0",
        "AUDIOTEXT_SUMMARY__PROVIDER": "gemini",
        "AUDIOTEXT_SUMMARY__MAX_PROMPT_TOKENS": "500",
        "AUDIOTEXT_SUMMARY__FIELDS": '{"acme": {"reason": {"description": "Why", "values": ["outage", "billing"]}}}',
        "AUDIOTEXT_GEMINI__API_KEY": fake.KEY,
        "AUDIOTEXT_GEMINI__BASE_URL": server.url,
    }
    objects = ObjectStore(s3)
    event = transcribed(objects, said(new_call(), *(f"Turn number {number} says something." for number in range(60))))
    producer = EventProducer(kafka)

    def killed() -> None:
        with running("pipelines.summarize.handler", env, tmp_path / "log") as service:
            producer.send(Topic.TRANSCRIPT_READY, [event])
            wait_until(lambda: len(server.asked) == 2, "the second stretch is asked about")
            service.kill()

    def finished() -> list[bytes]:
        with running("pipelines.summarize.handler", env, tmp_path / "log"):
            [ready] = records(kafka, Topic.SUMMARY_READY, 1)
            [usage] = records(kafka, Topic.USAGE_RECORDED, 1)
            server.script = ["a key that is none"] * 9
            producer.send(Topic.TRANSCRIPT_READY, [transcribed(objects, said(new_call(), "My router is broken."))])
            [letter] = records(kafka, Topic.DEAD_LETTERS, 1)
            return [ready, usage, letter]

    await asyncio.to_thread(killed)
    ready, usage, letter = [parse_event(value) for value in await asyncio.to_thread(finished)]
    await server.stop()

    questions = [body["contents"][0]["parts"][0]["text"] for _, body in server.asked]
    first, second, again, *others, last = questions
    assert second == again
    assert len(set(questions)) == len(questions) - 1
    assert '"stretch": "1 of 3"' in first
    assert '"drafts"' in others[-1]
    assert len(server.asked) == 7  # one, two, two again, three, merged twice, and the call with the wrong key
    assert "My router is broken." in last
    assert isinstance(ready, SummaryReady)
    assert (ready.provider, ready.fields) == ("gemini", {"reason": "outage"})
    assert isinstance(usage, UsageRecorded)
    assert usage.key.startswith("summary_")
    assert usage.tokens is not None
    assert usage.tokens.thoughts == 5 * 7  # of the answers that came
    assert usage.provider_cost > 0
    assert isinstance(letter, StageFailed)
    assert (letter.stage, letter.error_class, letter.attempts) == ("summarize", "permanent", 1)
    assert "AUDIOTEXT_GEMINI__API_KEY" in letter.error
