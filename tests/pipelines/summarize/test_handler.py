"""The summarizer over real object storage."""

from pathlib import Path

import pytest

from core.settings import PricingSettings, S3Settings
from pipelines.providers.base import NOTHING_SAID
from pipelines.providers.extractive.summarizer import Extractive
from pipelines.runtime.errors import PermanentError
from pipelines.summarize.handler import SummarizeHandler
from redpanda import topics
from redpanda.client import EventProducer
from schemas.artifacts import Summary
from schemas.events import SummaryReady, TranscriptReady, parse_event
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.conftest import StartServer, kafka_settings
from tests.support.ids import new_call
from tests.support.pipeline_events import said, transcribed
from tests.support.running_server import RunningServer
from tests.support.service_process import records, running


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


async def summarized(objects: ObjectStore, event: TranscriptReady) -> SummaryReady:
    """The handler's one output."""
    [output] = await SummarizeHandler(Extractive(), objects, PricingSettings())(event)
    assert output.topic == Topic.SUMMARY_READY
    assert isinstance(output.event, SummaryReady)
    return output.event


async def test_a_transcript_becomes_a_summary(objects: ObjectStore) -> None:
    """The event carries the summary itself, and the object it names says the same."""
    event = transcribed(
        objects, said(new_call(), "My router is broken.", "I'll send you a new router tomorrow morning.")
    )

    ready = await summarized(objects, event)

    assert ready.action_items == ["The agent: send the customer a new router tomorrow morning"]
    stored = Summary.model_validate_json(objects.get_verified(ready.summary))
    assert (stored.abstract, stored.key_points) == (ready.abstract, ready.key_points)
    assert (ready.transcript_id, ready.call_id) == (event.transcript_id, event.call_id)
    assert ready.call_started_at_ms == event.call_started_at_ms


async def test_told_twice_it_tells_the_same(objects: ObjectStore) -> None:
    """A redelivery must give the same event id and text, and find the result that is there."""
    event = transcribed(objects, said(new_call(), "My router is broken."))

    first, second = await summarized(objects, event), await summarized(objects, event)

    assert (second.event_id, second.summary, second.abstract) == (first.event_id, first.summary, first.abstract)
    assert second.engine_ms == 0


async def test_a_call_in_which_nobody_spoke(objects: ObjectStore) -> None:
    """An empty transcript has a summary too: the call must get to its end."""
    ready = await summarized(objects, transcribed(objects, said(new_call())))

    assert (ready.abstract, ready.key_points, ready.action_items) == (NOTHING_SAID, [], [])


async def test_what_is_no_transcript_is_given_up(objects: ObjectStore) -> None:
    """The object is what was claimed, but no transcript: no retry will make it one."""
    event = transcribed(objects, said(new_call()))
    ref = objects.put(event.transcript.key, b'{"call_id": 7}', "application/json")

    with pytest.raises(PermanentError, match="not a valid Transcript"):
        await summarized(objects, event.model_copy(update={"transcript": ref}))


async def test_a_transcript_that_is_gone_is_given_up(objects: ObjectStore) -> None:
    """The call was erased meanwhile."""
    event = transcribed(objects, said(new_call(), "Hello there."))
    objects.remove(event.transcript.key)

    with pytest.raises(PermanentError, match="gone"):
        await summarized(objects, event)


def test_the_service(
    start_server: StartServer, object_server: RunningServer, objects: ObjectStore, tmp_path: Path
) -> None:
    """The service as it runs in production: a transcript goes in, its summary comes out, SIGTERM ends it cleanly."""
    log = start_server("log")
    kafka = kafka_settings(log)
    topics.apply(kafka, embedded=True)
    event = transcribed(objects, said(new_call(), "My router is broken."))

    with running(
        "pipelines.summarize.handler", {**log.addresses, **object_server.addresses}, tmp_path / "log"
    ) as service:
        EventProducer(kafka).send(Topic.TRANSCRIPT_READY, [event])
        [ready] = [parse_event(value) for value in records(kafka, Topic.SUMMARY_READY, 1, timeout_s=60)]
        code, took_s = service.terminate()

    assert isinstance(ready, SummaryReady)
    assert ready.abstract == "The customer's router is broken."
    assert (code, took_s < 3) == (0, True), service.output
