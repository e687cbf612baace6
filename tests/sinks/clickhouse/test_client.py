"""Connecting and migrating, against a real engine."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from core.settings import ClickHouseSettings
from sinks.clickhouse.client import Database, StoreUnavailableError
from sinks.clickhouse.rows import ledger_row
from sinks.clickhouse.schema import migrations, statements
from sinks.schema_version import SchemaTooNewError
from tests.conftest import StartServer, clickhouse_settings
from tests.support.call_events import Call


def named(clickhouse: ClickHouseSettings, database: str) -> ClickHouseSettings:
    """The same server, another database."""
    assert clickhouse.dsn is not None
    server = clickhouse.dsn.get_secret_value().rpartition("/")[0]
    return clickhouse.model_copy(update={"dsn": SecretStr(f"{server}/{database}")})


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


def test_a_newer_schema_is_left_alone(clickhouse: ClickHouseSettings) -> None:
    """A newer version has migrated the database. Connecting must refuse and say what to do: an old service's rows
    could harm what the new one relies on. To look at it changes nothing, not even where there is no database."""
    settings = named(clickhouse, "from-the-future")
    assert Database(settings).inspect().pending == [name for _, name, _ in migrations()]
    assert Database(settings).inspect().applied == {}
    Database(settings).migrate()
    assert Database(settings).inspect().pending == []
    Database(settings).insert_values("schema_migrations", ["version", "name"], [[9999, "9999_flying_cars.sql"]])

    with pytest.raises(SchemaTooNewError, match=r"9999_flying_cars.*a newer one"):
        Database(settings).migrate()


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


def test_a_server_that_hangs_is_given_up_and_told_again(start_server: StartServer) -> None:
    """The server takes an insert and says nothing for longer than the time-out: the insert is given up in that time,
    over a connection there was and over a new one, so that a service can end. Then the server comes to, and the row is
    inserted again: it is there once, though the insert that was given up may have come through."""
    server = start_server("clickhouse")
    settings = clickhouse_settings(server)
    database, new = Database(settings, timeout_s=1), Database(settings, timeout_s=1)
    call = Call("CA1")
    database.insert([ledger_row(Call("CA0").usage())])

    server.pause()
    for hung in (database, new):
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            hung.insert([ledger_row(call.usage())])
        assert time.monotonic() - began < 5
    server.resume()
    for _ in range(2):
        Database(settings).insert([ledger_row(call.usage())])

    assert Database(settings).query("SELECT count() AS lines FROM ledger FINAL") == [{"lines": 2}]


def test_not_configured_says_what_to_set() -> None:
    """Without a DSN the error names the setting that is missing."""
    with pytest.raises(StoreUnavailableError, match="AUDIOTEXT_CLICKHOUSE__DSN"):
        Database(ClickHouseSettings())


def test_statements_end_at_the_end_of_a_line() -> None:
    """Comments and semicolons inside a line do not make statements; empty ones are left out."""
    sql = "-- first\nSELECT ';' AS a;\n\n-- nothing more\n;\nSELECT 2\n;\n"

    assert statements(sql) == ["-- first\nSELECT ';' AS a", "SELECT 2"]


def test_migrations_have_numbers_of_their_own() -> None:
    """Two files of one number: the second would never be applied, since the number says what has been."""
    numbers = [number for number, _, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
