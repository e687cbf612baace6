"""Consumer group `usage`: writes the lines of `usage.recorded` to the ledger in ClickHouse, one row per key."""

from collections.abc import Sequence

from core.settings import Settings
from pipelines.runtime.clickhouse_sink import ClickHouseSink
from pipelines.stages import USAGE
from redpanda import quix_app
from redpanda.client import EventProducer
from redpanda.consumer_monitor import ConsumerMonitor
from schemas.events import AnyEvent, UsageRecorded
from schemas.topics import Topic
from sinks.clickhouse.client import INSERT_TIMEOUT_S, Database
from sinks.clickhouse.rows import LedgerRow, ledger_row

_COMMIT_INTERVAL_S = 0.25


def rows(event: AnyEvent) -> Sequence[LedgerRow]:
    """Returns the event's ledger row. Raises ValueError for an event that is not a ledger line."""
    if not isinstance(event, UsageRecorded):
        raise ValueError(f"{event.type} is not a ledger line")
    return (ledger_row(event),)


def run(settings: Settings) -> None:
    """Writes lines until SIGTERM or SIGINT.

    Raises LogUnavailableError or StoreUnavailableError if the log or ClickHouse is not configured.
    """
    database = Database(settings.clickhouse, timeout_s=INSERT_TIMEOUT_S)
    producer = EventProducer(settings.kafka)
    consuming = ConsumerMonitor(USAGE.group)
    sink = ClickHouseSink(
        USAGE.group,
        database,
        rows=rows,
        dead_letter=lambda letter: producer.send(Topic.DEAD_LETTERS, [letter]),
        monitor=consuming,
    )
    app = quix_app.application(settings, consuming, commit_interval_s=_COMMIT_INTERVAL_S)
    topic = app.topic(USAGE.source.value, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).sink(sink)
    app.run_monitored(USAGE.reads)
    producer.close()
