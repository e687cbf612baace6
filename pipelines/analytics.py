"""Every event and every transcript's segments into ClickHouse, where the API and dashboards find them."""

import logging
from collections.abc import Sequence

from pydantic import ValidationError

from core.settings import Settings
from pipelines import stages
from pipelines.erase import handler as erase_handler
from pipelines.runtime.clickhouse_sink import ClickHouseSink, explain
from redpanda import quix_app
from redpanda.client import EventProducer
from redpanda.consumer_monitor import ConsumerMonitor
from schemas import replays
from schemas.artifacts import Transcript
from schemas.events import (
    AnyEvent,
    CallErased,
    ErasureRequested,
    ReplayCommand,
    ReplayedPart,
    StageFailed,
    TranscriptReady,
)
from schemas.ids import sha256_hex
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import INSERT_TIMEOUT_S, Database
from sinks.clickhouse.rows import Row, SegmentRow, erased_row, event_row, replay_row, segment_rows
from sinks.object_store import ObjectMissingError, ObjectStore

_log = logging.getLogger(__name__)
# Short: a call's status in the API is as old as this.
_COMMIT_INTERVAL_S = 0.2
# A checkpoint fetches a transcript per call from object storage: a backlog is taken in pieces.
_COMMIT_EVERY = 2_000


class SegmentReader:
    """The segments of transcripts, fetched from object storage."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def rows(self, event: AnyEvent) -> Sequence[SegmentRow]:
        """The rows of the transcript that the event announces, none for other events.

        A transcript that is gone, or is not what was announced, has none: waiting would not bring it, and would hold
        up every other call. Raises ObjectStoreError if object storage is away.
        """
        if not isinstance(event, TranscriptReady):
            return ()
        try:
            content = self._objects.get(event.transcript.key)
        except ObjectMissingError as error:
            return self._without(event, str(error))
        if sha256_hex(content) != event.transcript.sha256:
            return self._without(event, f"{event.transcript.key}: content does not match its SHA-256")
        try:
            return segment_rows(event, Transcript.model_validate_json(content))
        except ValidationError as error:
            return self._without(event, explain(error))
        except ValueError as error:
            return self._without(event, str(error))

    @staticmethod
    def _without(event: TranscriptReady, reason: str) -> Sequence[SegmentRow]:
        _log.error("call %s: no segments of transcript %s: %s", event.call_id, event.transcript_id, reason)
        return ()


def rows(event: AnyEvent) -> Sequence[Row]:
    """The event as it is kept. Raises ValueError for an event that cannot be."""
    match event:
        case ReplayCommand() | ReplayedPart():
            return (replay_row(event),)
        case ErasureRequested() | CallErased():
            return (erased_row(event),)
        case StageFailed(stage=stages.REPLAY.group):
            return (event_row(event), *(replay_row(part) for part in replays.failed_parts(event)))
    return (event_row(event),)


def run(settings: Settings) -> None:
    """Keeps events until SIGTERM or SIGINT.

    Raises LogUnavailableError, StoreUnavailableError or SettingsError (object storage) if one is not configured.
    """
    database = Database(settings.clickhouse, timeout_s=INSERT_TIMEOUT_S)
    producer = EventProducer(settings.kafka)
    consuming = ConsumerMonitor(stages.ANALYTICS.group)
    sink = ClickHouseSink(
        stages.ANALYTICS.group,
        database,
        rows=rows,
        later_rows=SegmentReader(ObjectStore(settings.s3)).rows,
        after_insert=erase_handler.LateResultEraser(
            CallStore(settings.clickhouse), lambda requests: producer.send(Topic.ERASURE_REQUESTS, requests)
        ),
        dead_letter=lambda letter: producer.send(Topic.DEAD_LETTERS, [letter]),
        monitor=consuming,
    )
    app = quix_app.application(settings, consuming, commit_interval_s=_COMMIT_INTERVAL_S, commit_every=_COMMIT_EVERY)
    for name in stages.ANALYTICS.reads:
        topic = app.topic(name.value, key_deserializer="bytes", value_deserializer="bytes")
        app.dataframe(topic).sink(sink)
    app.run_monitored(stages.ANALYTICS.reads)
    producer.close()
