"""The recorder service: a Quix Streams application that reads call.media.

pipelines.recorder.state_machine decides what a record means, with the state that Quix keeps per call (RocksDB with a
changelog topic). pipelines.recorder.journal_sink carries the decision out. An exception ends the process before
anything is committed, and the record is delivered again.
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
from pipelines.stages import RECORDER
from redpanda.client import EventProducer, LogUnavailableError, connection_config
from schemas.media import MediaError, MediaRecord
from schemas.topics import Topic
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

# Quix waits this long for a record before it checks if a checkpoint is due.
_POLL_S = 0.1
# A checkpoint's transaction takes milliseconds. A transaction that a killed process left open blocks the next owner of
# its partitions for this long.
_TRANSACTION_TIMEOUT_MS = 10_000
# The longest time that the broker holds a fetch request without records. A broker handles the requests of a connection
# in order, and after a restart Quix requests the ends of several partitions before a call continues: with the default,
# each of these requests would take half a second.
_FETCH_WAIT_MS = 100


def run(settings: Settings) -> None:
    """Runs the recorder until SIGTERM or SIGINT.

    Raises:
        LogUnavailableError: The log is unreachable or has no topic. Also if the log lost acknowledged records: the
            recorder then deletes its state about them, so that the next run starts from the log as it is.
        SpoolError: The disk does not accept the audio, or another recorder uses the directory.
        SettingsError: Object storage is not configured.
    """
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    _require_topic(settings.kafka)
    store = ObjectStore(settings.s3)
    directory = settings.data_dir / "recorder"
    lock = lock_root(directory)
    spool = Spool(directory / "spool")
    metrics = RecorderMetrics(RECORDER.group)
    decisions = DecisionWriter(settings.kafka)
    events = EventProducer(settings.kafka)
    call_timeouts = CallTimeouts(
        grace_ms=settings.recorder.grace_ms,
        idle_timeout_ms=settings.recorder.idle_timeout_ms,
        propose=decisions.put,
    )
    finalizer = RecordingFinalizer(
        store=store, events=events, put_record=decisions.put, workers=settings.recorder.uploads, metrics=metrics
    )
    lifecycle = PartitionLifecycle(
        spool=spool,
        call_timeouts=call_timeouts,
        finalizer=finalizer,
        read_log=partial(read_calls, settings.kafka),
        lookup_states=partial(read_changelog, settings.kafka, CHANGELOG),
        state_reaper=StateReaper(decisions.put),
    )
    metrics.watch(
        open_calls=lambda: call_timeouts.open_calls,
        unfinished=lambda: finalizer.unfinished,
        rebuilding=lambda: lifecycle.rebuilding,
        directory=directory,
    )
    journal_sink = JournalSink(spool=spool, call_timeouts=call_timeouts, finalizer=finalizer, metrics=metrics)
    app = application(settings, metrics, journal_sink, lifecycle)
    call_timeouts.start()
    finalizer.start()
    try:
        app.run_monitored(RECORDER.reads)
    except InvalidStoreChangelogOffset as error:
        shutil.rmtree(directory / "state", ignore_errors=True)
        spool.delete_open()
        raise LogUnavailableError(
            "the log has lost records that it had acknowledged. The recorder has deleted its state about them: start "
            "it again, and it continues with the records that the log still has"
        ) from error
    except Exception as error:
        if isinstance(error, SpoolError) or not is_full_disk(error):
            raise
        raise cannot_write(directory, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
    finally:
        lifecycle.close()
        call_timeouts.stop()
        finalizer.stop()
        decisions.close()
        events.close()
        os.close(lock)


def application(
    settings: Settings, metrics: RecorderMetrics, journal_sink: JournalSink, listener: PartitionListener
) -> PartitionedApplication:
    """Creates the Quix application without running it.

    Raises:
        LogUnavailableError: The log is unreachable.
    """
    gap_detector = OffsetGapDetector()
    app = PartitionedApplication(
        settings,
        metrics,
        topic_name=Topic.CALL_MEDIA.value,
        listener=listener,
        gap_detector=gap_detector,
        auto_create_topics=True,  # for the changelog; `run` checks that call.media exists
        commit_interval=settings.recorder.commit_interval_s,
        consumer_poll_timeout=_POLL_S,
        consumer_options={"fetch.wait.max.ms": _FETCH_WAIT_MS},
        # One transaction commits states and offsets: a recorder that was replaced without noticing (it was suspended
        # or lost its network) must not overwrite its successor's states with its old ones.
        processing_guarantee="exactly-once",
        producer_options=_transaction_options(settings.kafka),
        state_dir=settings.data_dir / "recorder" / "state",
    )
    media = app.topic(Topic.CALL_MEDIA.value, value_deserializer="bytes", key_deserializer="bytes")
    parsed = app.dataframe(media).apply(partial(_parse, gap_detector), metadata=True)
    records = parsed.filter(lambda record: record is not None)
    records.apply(_decide, stateful=True, metadata=True).sink(journal_sink)
    return app


def _transaction_options(kafka: KafkaSettings) -> dict[str, str | int | bool]:
    config: dict[str, str | int | bool] = {"transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS}
    if kafka.instance_id:
        # A restarted process aborts its open transaction at once and does not wait for the timeout.
        config["transactional.id"] = f"{RECORDER.group}-{kafka.instance_id}"
    return config


def _parse(
    gap_detector: OffsetGapDetector, value: bytes | None, key: bytes | None, _timestamp: int, headers: Any
) -> MediaRecord | None:
    """Returns the record, or None if it is invalid: an exception would block its partition without end."""
    context = message_context()
    gap_detector.observe(context.partition, context.offset)
    try:
        return parse(key, headers, value)
    except MediaError as error:
        logger.error(
            "%s[%d] offset %d: skipped an invalid record: %s", context.topic, context.partition, context.offset, error
        )
        return None


def _decide(record: MediaRecord, _key: bytes, _timestamp: int, _headers: Any, state: State[str, Any]) -> DecidedRecord:
    """Decides what a record means. Quix keeps the state per call id, and in it we keep one state per tenant.

    Two tenants with the same call id are two calls.
    """
    known = state.get(record.tenant)
    following, decided = transition(from_json(known), record, message_context().offset)
    if following.parts:
        state.set(record.tenant, to_json(following))
    elif known is not None:
        state.delete(record.tenant)
    return DecidedRecord(record, decided)


def _require_topic(kafka: KafkaSettings) -> None:
    """Raises LogUnavailableError if the log is unreachable or has no topic call.media."""
    try:
        topics = AdminClient(connection_config(kafka)).list_topics(timeout=10).topics
    except KafkaException as error:
        raise LogUnavailableError(f"the log at {kafka.bootstrap_servers} does not respond: {error}") from error
    if Topic.CALL_MEDIA not in topics:
        raise LogUnavailableError(f"the log has no topic {Topic.CALL_MEDIA}: run `audiotext topics apply`")
