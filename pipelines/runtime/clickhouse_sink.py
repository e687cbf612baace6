"""From the log into ClickHouse: a Quix Streams sink that inserts all that came since the last checkpoint at once.

Offsets are committed after `flush` has returned, so what is committed is in ClickHouse. Whatever is away (ClickHouse,
the log for dead letters) makes the whole checkpoint wait and come again; every row stands being inserted twice.
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

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 1.0
_LOGGED_BYTES = 200


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the log as a sink gets it. timestamp_ms: when it was produced."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp_ms: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class ClickHouseSink(BaseSink):
    """Puts events as rows into ClickHouse.

    service: its name, in dead letters and metrics. rows: an event's rows; raises ValueError for an event that can
    never be one. Rows of the second function, which may need other stores, are inserted after those of the first, so
    that a store that is away holds up its own rows only. dead_letter: puts a dead letter on the log and returns once
    it is there. afterwards: told the events once all their rows are there; raises what the stores and the log raise.
    consuming: the figures of the process; without, nobody sees them.
    """

    def __init__(
        self,
        service: str,
        database: Database,
        *,
        rows: Callable[[AnyEvent], Sequence[Row]],
        dead_letter: Callable[[StageFailed], None],
        later_rows: Callable[[AnyEvent], Sequence[Row]] = lambda _event: (),
        afterwards: Callable[[Sequence[AnyEvent]], None] = lambda _events: None,
        consuming: ConsumerMonitor | None = None,
    ) -> None:
        super().__init__()
        self._consuming = consuming or ConsumerMonitor(service)
        self._counted = metrics.SINK_RECORDS.on(self._consuming.registry)
        self._away = metrics.SINK_BACKPRESSURE.on(self._consuming.registry).labels(service)
        self._service = service
        self._database = database
        self._rows = rows
        self._later_rows = later_rows
        self._afterwards = afterwards
        self._dead_letter = dead_letter
        self._records: list[Record] = []

    def setup(self) -> None:
        """Nothing to do: the database connects when first used, and may be away for now."""

    def start(self) -> None:
        """Likewise."""

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
        """Inserts what came since the last checkpoint. Raises SinkBackpressureError if it cannot be now."""
        records, self._records = self._records, []
        if not records:
            return
        try:
            self._write(records)
        except (StoreUnavailableError, ObjectStoreError, LogUnavailableError) as error:
            _log.warning("%s waits %g s and tries again: %s", self._service, _RETRY_AFTER_S, error)
            self._away.inc()
            raise SinkBackpressureError(retry_after=_RETRY_AFTER_S) from error

    def on_paused(self) -> None:
        """Another sink could not write: all records will come again."""
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
        for event in events:  # thousands of objects, after a while behind
            later += self._later_rows(event)
            self._consuming.heartbeat.beat()
        self._database.insert(later)
        self._afterwards(events)
        for record, reason in malformed:
            self._refuse(record, reason)
        now = time.time()
        for event in events:
            self._consuming.latency.observe(max(0.0, now - event.occurred_at_ms / 1000))
        self._counted.labels(self._service, "inserted").inc(len(events))
        self._counted.labels(self._service, "malformed").inc(len(malformed))

    def _refuse(self, record: Record, reason: str) -> None:
        _log.error("%s passes over %s: %s: %r", self._service, record, reason, record.value[:_LOGGED_BYTES])
        # A dead letter that cannot be read would make another one, and so on for ever.
        if record.topic != Topic.DEAD_LETTERS:
            self._dead_letter(dead_letter(self._service, record, reason))
            self._consuming.record_dead_letter("permanent")


def dead_letter(service: str, record: Record, reason: str) -> StageFailed:
    """The dead letter of a record that a service cannot read. It has the same id however often it is written."""
    return StageFailed(
        event_id=uuid_of("dead-letter", service, record.topic, record.partition, record.offset),
        call_id=record.key.decode(errors="replace"),
        tenant="",  # only the event could have told
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
    """What is wrong with an event, in one line and without its content."""
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'event'}: {problem['msg']}" for problem in problems
    )
