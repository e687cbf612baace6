"""Quix Streams sink that writes events to ClickHouse, in one insert per checkpoint.

Quix commits offsets after `flush` has returned, so every committed event is in ClickHouse. If a store or the log is
unavailable, the whole checkpoint waits and is delivered again; inserting a row twice is harmless.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from quixstreams.sinks import BaseSink, SinkBackpressureError

from core import metrics
from redpanda.client import LogUnavailableError
from redpanda.consumer_monitor import ConsumerMonitor
from schemas.events import AnyEvent, StageFailed, parse_event, payload_of
from schemas.ids import uuid_of
from schemas.topics import Topic
from sinks.clickhouse.client import Database, StoreUnavailableError
from sinks.clickhouse.rows import Row
from sinks.object_store import ObjectStoreError

logger = logging.getLogger(__name__)
_RETRY_DELAY_S = 1.0
_LOGGED_BYTES = 200


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the log as Quix passes it to a sink. timestamp_ms: time at which it was produced."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp_ms: int

    def __str__(self) -> str:
        """Returns the record's position on the log."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


class ClickHouseSink(BaseSink):
    """Writes events as rows to ClickHouse."""

    def __init__(
        self,
        service: str,
        database: Database,
        *,
        rows: Callable[[AnyEvent], Sequence[Row]],
        dead_letter: Callable[[StageFailed], None],
        later_rows: Callable[[AnyEvent], Sequence[Row]] = lambda _event: (),
        after_insert: Callable[[Sequence[AnyEvent]], None] = lambda _events: None,
        monitor: ConsumerMonitor | None = None,
    ) -> None:
        """Creates a sink. It connects when it first writes.

        Args:
            service: Name of the service, in dead letters and metrics.
            database: ClickHouse.
            rows: Returns the rows of an event. Raises ValueError for an event that has no valid rows.
            dead_letter: Writes a dead letter and returns when the log has acknowledged it.
            later_rows: Returns rows that may need other stores. They are inserted after those of `rows`, so that an
                unavailable store delays only its own rows.
            after_insert: Receives the events once all their rows are stored. May raise the errors of the stores and
                of the log.
            monitor: Metrics of the process. Default: metrics that are not served.
        """
        super().__init__()
        self._monitor = monitor or ConsumerMonitor(service)
        self._counted = metrics.SINK_RECORDS.on(self._monitor.registry)
        self._backpressure = metrics.SINK_BACKPRESSURE.on(self._monitor.registry).labels(service)
        self._service = service
        self._database = database
        self._rows = rows
        self._later_rows = later_rows
        self._after_insert = after_insert
        self._dead_letter = dead_letter
        self._records: list[Record] = []

    def setup(self) -> None:
        """Does nothing: the database connects when it is first used, and may be unavailable now."""

    def start(self) -> None:
        """Does nothing, for the same reason."""

    def add(  # noqa: PLR0917 - the signature is Quix'
        self,
        value: Any,
        key: Any,
        timestamp: int,
        headers: Any,
        topic: str,
        partition: int,
        offset: int,
    ) -> None:
        """Keeps the record until the checkpoint."""
        self._records.append(Record(topic, partition, offset, key or b"", value or b"", timestamp))

    def flush(self) -> None:
        """Inserts the events since the last checkpoint.

        Raises:
            SinkBackpressureError: A store or the log is unavailable. Quix delivers the records again.
        """
        records, self._records = self._records, []
        if not records:
            return
        try:
            self._write(records)
        except (StoreUnavailableError, ObjectStoreError, LogUnavailableError) as error:
            logger.warning("%s: retrying in %g s: %s", self._service, _RETRY_DELAY_S, error)
            self._backpressure.inc()
            raise SinkBackpressureError(retry_after=_RETRY_DELAY_S) from error

    def on_paused(self) -> None:
        """Drops the records, because another sink could not write: Quix delivers all of them again."""
        self._records = []

    def _write(self, records: Sequence[Record]) -> None:
        events: list[AnyEvent] = []
        rows: list[Row] = []
        malformed: list[tuple[Record, str]] = []
        for record in records:
            try:
                event = parse_event(record.value)
                rows += self._rows(event)
            except ValueError as error:  # pydantic's ValidationError is one
                malformed.append((record, explain(error)))
            else:
                events.append(event)
        self._database.insert(rows)
        later: list[Row] = []
        for event in events:  # may read thousands of objects after a pause, so each one counts as a heartbeat
            later += self._later_rows(event)
            self._monitor.heartbeat.beat()
        self._database.insert(later)
        self._after_insert(events)
        for record, reason in malformed:
            self._reject(record, reason)
        now = time.time()
        for event in events:
            self._monitor.latency.observe(max(0.0, now - event.occurred_at_ms / 1000))
        self._counted.labels(self._service, "inserted").inc(len(events))
        self._counted.labels(self._service, "malformed").inc(len(malformed))

    def _reject(self, record: Record, reason: str) -> None:
        logger.error(
            "%s: skipped the invalid record %s: %s: %r", self._service, record, reason, record.value[:_LOGGED_BYTES]
        )
        # An invalid dead letter must not create another dead letter, or this would never end.
        if record.topic != Topic.DEAD_LETTERS:
            self._dead_letter(dead_letter(self._service, record, reason))
            self._monitor.record_dead_letter("permanent")


def dead_letter(service: str, record: Record, reason: str) -> StageFailed:
    """Returns the dead letter of a record that a service cannot parse. Its id is the same each time."""
    return StageFailed(
        event_id=uuid_of("dead-letter", service, record.topic, record.partition, record.offset),
        call_id=record.key.decode(errors="replace"),
        tenant="",  # unknown: only a valid event names its tenant
        occurred_at_ms=record.timestamp_ms,
        stage=service,
        error_class="permanent",
        error=reason,
        attempts=1,
        origin_topic=record.topic,
        origin_partition=record.partition,
        origin_offset=record.offset,
        payload=payload_of(record.value.decode(errors="replace")),
    )


def explain(error: ValueError) -> str:
    """Returns the reason why an event is invalid, in one line and without its content."""
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'event'}: {problem['msg']}" for problem in problems
    )
