"""The embedded ClickHouse, by the client that every service uses, and by what ClickHouse's protocol promises."""

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]  # publishes no types
import pytest
import urllib3
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import given
from hypothesis import strategies as st

from audiotext.embedded.clickhouse_shim import EngineError, Insert, Statement, decompress, parse
from core.settings import ClickHouseSettings
from tests.conftest import StartServer, clickhouse_settings

ROWS = 100_000


def connect(settings: ClickHouseSettings, **options: Any) -> Client:
    assert settings.dsn is not None
    return clickhouse_connect.get_client(dsn=settings.dsn.get_secret_value(), **options)


@pytest.fixture
def client(clickhouse: ClickHouseSettings) -> Iterator[Client]:
    with connect(clickhouse) as client:
        yield client


@pytest.fixture
def table(client: Client) -> str:
    name = f"t_{uuid.uuid4().hex}"
    client.command(f"CREATE TABLE {name} (id UInt64, text String) ENGINE = MergeTree ORDER BY id")
    return name


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", ""])
def test_a_large_insert_arrives_whole(clickhouse: ClickHouseSettings, table: str, compression: str) -> None:
    """What does this test do? Inserts 100,000 rows with every compression the client has, and counts them.

    The client sends one compressed frame per block. A server that reads only the first frame loses two thirds of the
    rows without any error, and the bill with them.
    """
    with connect(clickhouse, compress=compression) as client:
        summary = client.insert(table, [[i, f"row {i}"] for i in range(ROWS)], column_names=["id", "text"])
        assert int(summary.summary["written_rows"]) == ROWS
        count, total = client.query(f"SELECT count(), sum(id) FROM {table}").result_rows[0]
        assert (count, total) == (ROWS, ROWS * (ROWS - 1) // 2)


def test_parameters_are_data_not_sql(client: Client, table: str) -> None:
    """Query parameters reach the engine apart from the SQL, quotes and all; with lists too."""
    nasty = 'it\'s `a` \\ "test"; DROP TABLE x --'
    client.insert(table, [[1, nasty], [2, "other"]], column_names=["id", "text"])
    found = client.query(f"SELECT id FROM {table} WHERE text = {{text:String}}", parameters={"text": nasty})
    assert found.result_rows == [(1,)]
    found = client.query(
        f"SELECT id FROM {table} WHERE id IN {{ids:Array(UInt64)}} ORDER BY id", parameters={"ids": [1, 2, 3]}
    )
    assert found.result_rows == [(1,), (2,)]


def test_a_setting_holds_for_its_request_only(client: Client) -> None:
    """Settings in one request must not leak into another client's: every request has a session of its own."""
    sql = "SELECT getSetting('max_block_size')"
    before = client.query(sql).result_rows
    assert client.query(sql, settings={"max_block_size": 1234}).result_rows == [(1234,)]
    assert client.query(sql).result_rows == before


def test_errors_are_clickhouse_errors(client: Client) -> None:
    """The client reads the error's code and text from the response; callers decide by them."""
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as caught:
        client.query("SELECT * FROM no_such_table")
    assert caught.value.code == 60
    with pytest.raises(DatabaseError) as caught:
        client.command("SELECT FROM WHERE")
    assert caught.value.code == 62


def test_a_database_of_ones_own(clickhouse: ClickHouseSettings, client: Client) -> None:
    """The database in the DSN is the one unqualified names are looked up in."""
    name = f"d_{uuid.uuid4().hex}"
    client.command(f"CREATE DATABASE {name}")
    with connect(clickhouse, database=name) as inside:
        inside.command("CREATE TABLE here (x UInt8) ENGINE = MergeTree ORDER BY x")
        inside.insert("here", [[7]], column_names=["x"])
        assert inside.query("SELECT x FROM here").result_rows == [(7,)]
    assert client.query(f"SELECT x FROM {name}.here").result_rows == [(7,)]


@pytest.mark.parametrize("headers", [{}, {"X-ClickHouse-User": "audiotext", "X-ClickHouse-Key": "wrong"}])
def test_strangers_are_refused(clickhouse: ClickHouseSettings, headers: dict[str, str]) -> None:
    """Every program on the machine can reach the loopback, so nothing is answered without the password."""
    assert clickhouse.dsn is not None
    port = clickhouse.dsn.get_secret_value().rpartition(":")[2].split("/")[0]
    response = urllib3.request("POST", f"http://127.0.0.1:{port}/", body=b"SELECT 1", headers=headers)
    assert response.status == 403
    assert response.headers["X-ClickHouse-Exception-Code"] == "516"


def test_a_long_query_does_not_stop_the_ping(clickhouse: ClickHouseSettings) -> None:
    """Queries run in a thread, so that readiness checks are answered while one takes its time."""
    with connect(clickhouse, autogenerate_session_id=False) as client:
        query = threading.Thread(target=client.query, args=("SELECT sleep(1.5)",))
        query.start()
        started = time.monotonic()
        assert client.ping()
        assert time.monotonic() - started < 1.0
        query.join()


def test_rows_survive_a_kill(start_server: StartServer) -> None:
    """What does this test do? Inserts, kills the process, starts it again on the same directory, and reads.

    What was answered must be there: ledger lines are acknowledged to the log once they are inserted.
    """
    server = start_server("clickhouse")
    with connect(clickhouse_settings(server)) as client:
        client.command("CREATE TABLE kept (x UInt64) ENGINE = MergeTree ORDER BY x")
        client.insert("kept", [[i] for i in range(1000)], column_names=["x"])
    server.kill()
    server.start()
    with connect(clickhouse_settings(server)) as client:
        assert client.query("SELECT count() FROM kept").result_rows == [(1000,)]


def test_rows_behind_an_insert_are_told_from_sql() -> None:
    """Only a statement that ends in FORMAT has rows behind it; the word inside a value list does not count."""
    assert parse("INSERT INTO t FORMAT Native", b"\x01\x02") == Insert("t", "Native", b"\x01\x02")
    assert parse("", b"insert into `a`.`b` (`x`, `y`) format Native\n\x00") == Insert(
        "`a`.`b` (`x`, `y`)", "Native", b"\x00"
    )
    values = b"INSERT INTO t VALUES ('x FORMAT Native ')"
    assert parse("", values) == Statement(values.decode(), "TabSeparated")
    assert parse("", b"SELECT 1\n FORMAT JSON;") == Statement("SELECT 1\n FORMAT JSON;", "JSON")


@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=8), st.sampled_from(["lz4", "zstd"]))
def test_every_frame_is_read(blocks: list[bytes], encoding: str) -> None:
    """However many frames a body has, all of its bytes come out."""
    compress = {"lz4": lz4.frame.compress, "zstd": zstd.compress}[encoding]
    assert decompress(b"".join(compress(block) for block in blocks), encoding) == b"".join(blocks)


def test_a_cut_or_foreign_body_is_refused() -> None:
    """Half a frame must be an error, not fewer rows."""
    whole = lz4.frame.compress(b"rows" * 1000)
    for body, encoding in ((whole[:-10], "lz4"), (b"no frame", "zstd"), (whole, "br")):
        with pytest.raises(ValueError, match=encoding):
            decompress(body, encoding)


def test_codes_become_the_statuses_clickhouse_gives() -> None:
    """The client retries by status; an unknown table must not look like a server that is down."""
    assert EngineError("Code: 60. DB::Exception: no").status == 404
    assert EngineError("Code: 62. DB::Exception: no").status == 400
    assert EngineError("something else").status == 500
