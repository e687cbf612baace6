"""Connecting and migrating, against a real engine."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from audiotext.settings import ClickHouseSettings
from sinks.clickhouse.client import Database, StoreUnavailableError, migrations, statements


def named(clickhouse: ClickHouseSettings, database: str) -> ClickHouseSettings:
    """The same server, another database."""
    assert clickhouse.dsn is not None
    server = clickhouse.dsn.get_secret_value().rpartition("/")[0]
    return ClickHouseSettings(dsn=SecretStr(f"{server}/{database}"))


def test_services_that_start_at_once_migrate_the_same_new_database(clickhouse: ClickHouseSettings) -> None:
    """Four services connect at the same moment to a database that is not there yet, named strangely: all get their
    schema, and each migration is recorded once. A race would make one of them crash at the first start."""
    settings = named(clickhouse, "calls-%60of%60-two")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: Database(settings).migrate(), range(4)))

    database = Database(settings)
    applied = database.query("SELECT name FROM schema_migrations FINAL ORDER BY version")
    assert [row["name"] for row in applied] == [name for _, name, _ in migrations()]
    assert database.query("SELECT count() AS calls FROM calls") == [{"calls": 0}]


def test_one_connection_serves_many_threads(clickhouse: ClickHouseSettings) -> None:
    """The API asks from threads: twenty queries at once over one connection each get their own answer."""
    database = Database(clickhouse)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: database.query("SELECT {n:Int64} AS n", {"n": n})[0]["n"], range(20)))

    assert answers == list(range(20))


def test_a_server_that_is_away_is_named() -> None:
    """Nothing listens there: the error says where was asked, and no password is in it."""
    database = Database(ClickHouseSettings(dsn=SecretStr("clickhouse://user:hunter2@127.0.0.1:9/audiotext")))

    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:9") as raised:
        database.migrate()

    assert "hunter2" not in str(raised.value)


def test_not_configured_says_what_to_set() -> None:
    """Without a DSN the error names the setting that is missing."""
    with pytest.raises(StoreUnavailableError, match="AUDIOTEXT_CLICKHOUSE__DSN"):
        Database(ClickHouseSettings())


def test_statements_end_at_the_end_of_a_line() -> None:
    """Comments and semicolons inside a line do not make statements; empty ones are left out."""
    sql = "-- first\nSELECT ';' AS a;\n\n-- nothing more\n;\nSELECT 2\n;\n"

    assert statements(sql) == ["-- first\nSELECT ';' AS a", "SELECT 2"]
