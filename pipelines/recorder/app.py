"""The recorder as a service: a Quix Streams app over call.media.

What a record means is decided by pipelines.recorder.state_machine on state that Quix keeps per call (RocksDB, with a
changelog topic); what is done about it is pipelines.recorder.journal_sink. An exception ends the process before
anything
is committed, and the record comes again.
"""

import errno
import logging
import os
import shutil
from functools import partial
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from quixstreams import State, message_context
from quixstreams.state.exceptions import InvalidStoreChangelogOffset

from core.settings import KafkaSettings, Settings
from pipelines.recorder.call_timeout import CallTimeouts
from pipelines.recorder.finalizer import RecordingFinalizer
from pipelines.recorder.journal_sink import DecidedRecord, JournalSink
from pipelines.recorder.media_topic import DecisionWriter, OffsetGapDetector, parse, read_calls
from pipelines.recorder.metrics import RecorderMetrics
from pipelines.recorder.partition_lifecycle import PartitionLifecycle
from pipelines.recorder.partition_listener import PartitionedApplication, PartitionListener
from pipelines.recorder.spool import Spool, SpoolError, cannot_write, is_full_disk, lock_root
from pipelines.recorder.state_codec import CHANGELOG, read_changelog
from pipelines.recorder.state_expiry import StateReaper
from pipelines.recorder.state_machine import from_json, to_json, transition
from redpanda.client import EventProducer, LogUnavailableError, connection_config
from schemas.media import MediaError, MediaRecord
from schemas.topics import Topic
from sinks.object_store import ObjectStore

log = logging.getLogger(__name__)

GROUP = "recorder"
# How long Quix waits for a record before it looks whether a checkpoint is due.
_POLL_S = 0.1
# A checkpoint's transaction lasts milliseconds. One that was left open by a killed process holds up whoever takes its
# partitions over for so long.
_TRANSACTION_TIMEOUT_MS = 10_000
# How long the log may keep the consumer waiting for records. A broker answers a connection's questions in order, and
# Quix asks for several partitions' ends before a call goes on after a restart: each would take half a second.
_FETCH_WAIT_MS = 100


def run(settings: Settings) -> None:
    """Runs the recorder until SIGTERM or SIGINT. Raises LogUnavailableError, SpoolError, SettingsError (no store).

    LogUnavailableError also if the log has lost its end: what is known beyond it is deleted then, so that the next run
    can begin, from the changelog and the log as they are.
    """
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    _require_topic(settings.kafka)
    store = ObjectStore(settings.s3)
    directory = settings.data_dir / "recorder"
    lock = lock_root(directory)
    spool = Spool(directory / "spool")
    metrics = RecorderMetrics(GROUP)
    decisions = DecisionWriter(settings.kafka)
    events = EventProducer(settings.kafka)
    closer = CallTimeouts(
        grace_ms=settings.recorder.grace_ms,
        idle_timeout_ms=settings.recorder.idle_timeout_ms,
        propose=decisions.put,
    )
    finisher = RecordingFinalizer(
        store=store, events=events, tell=decisions.put, workers=settings.recorder.uploads, metrics=metrics
    )
    ownership = PartitionLifecycle(
        spool=spool,
        closer=closer,
        finisher=finisher,
        read_log=partial(read_calls, settings.kafka),
        lookup=partial(read_changelog, settings.kafka, CHANGELOG),
        forgetter=StateReaper(decisions.put),
    )
    metrics.watch(
        open_calls=lambda: closer.open_calls,
        unfinished=lambda: finisher.unfinished,
        rebuilding=lambda: ownership.rebuilding,
        directory=directory,
    )
    effects = JournalSink(spool=spool, closer=closer, finisher=finisher, metrics=metrics)
    app = application(settings, metrics, effects, ownership)
    closer.start()
    finisher.start()
    try:
        app.run_monitored([Topic.CALL_MEDIA])
    except InvalidStoreChangelogOffset as error:
        shutil.rmtree(directory / "state", ignore_errors=True)
        spool.delete_open()
        raise LogUnavailableError(
            "the log has lost records that it had acknowledged, and this recorder knows of them. What it knew is "
            "deleted; the next one goes on with what the log still has"
        ) from error
    except Exception as error:
        if isinstance(error, SpoolError) or not is_full_disk(error):
            raise
        raise cannot_write(directory, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
    finally:
        ownership.close()
        closer.stop()
        finisher.stop()
        decisions.close()
        events.close()
        os.close(lock)


def application(
    settings: Settings, metrics: RecorderMetrics, effects: JournalSink, owner: PartitionListener
) -> PartitionedApplication:
    """Returns the Quix application, wired but not running. Raises LogUnavailableError."""
    continuity = OffsetGapDetector()
    app = PartitionedApplication(
        settings,
        metrics,
        topic_name=Topic.CALL_MEDIA.value,
        owner=owner,
        continuity=continuity,
        auto_create_topics=True,  # for its changelog; `_require_topic` checks that call.media exists
        commit_interval=settings.recorder.commit_interval_s,
        consumer_poll_timeout=_POLL_S,
        consumer_options={"fetch.wait.max.ms": _FETCH_WAIT_MS},
        # States and offsets are committed in one transaction, for one reason: a recorder that was replaced without
        # knowing it (it was suspended, or cut off) must not overwrite the states of its successor with old ones.
        processing_guarantee="exactly-once",
        producer_options=_transaction_options(settings.kafka),
        state_dir=settings.data_dir / "recorder" / "state",
    )
    media = app.topic(Topic.CALL_MEDIA.value, value_deserializer="bytes", key_deserializer="bytes")
    parsed = app.dataframe(media).apply(partial(_parse, continuity), metadata=True)
    records = parsed.filter(lambda record: record is not None)
    records.apply(_decide, stateful=True, metadata=True).sink(effects)
    return app


def _transaction_options(kafka: KafkaSettings) -> dict[str, str | int | bool]:
    config: dict[str, str | int | bool] = {"transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS}
    if kafka.instance_id:
        # A restarted process aborts its open transaction at once and does not wait for the timeout.
        config["transactional.id"] = f"{GROUP}-{kafka.instance_id}"
    return config


def _parse(
    continuity: OffsetGapDetector, value: bytes | None, key: bytes | None, _timestamp: int, headers: Any
) -> MediaRecord | None:
    """The record, or None for what is none: passed over, or it would stop every call of its partition for ever."""
    place = message_context()
    continuity.saw(place.partition, place.offset)
    try:
        return parse(key, headers, value)
    except MediaError as error:
        log.error("%s[%d] offset %d is passed over: %s", place.topic, place.partition, place.offset, error)
        return None


def _decide(record: MediaRecord, _key: bytes, _timestamp: int, _headers: Any, state: State[str, Any]) -> DecidedRecord:
    """Quix' state is per call id; two tenants that should have the same one are still two calls."""
    known = state.get(record.tenant)
    following, decision = transition(from_json(known), record, message_context().offset)
    if following.parts:
        state.set(record.tenant, to_json(following))
    elif known is not None:
        state.delete(record.tenant)
    return DecidedRecord(record, decision)


def _require_topic(kafka: KafkaSettings) -> None:
    """Raises LogUnavailableError unless the log answers and has the topic."""
    try:
        topics = AdminClient(connection_config(kafka)).list_topics(timeout=10).topics
    except KafkaException as error:
        raise LogUnavailableError(f"the log at {kafka.bootstrap_servers} does not answer: {error}") from error
    if Topic.CALL_MEDIA not in topics:
        raise LogUnavailableError(f"the log has no topic {Topic.CALL_MEDIA}: run `audiotext topics apply`")
