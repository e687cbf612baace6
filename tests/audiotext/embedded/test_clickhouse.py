"""Tests of the embedded ClickHouse with the services' client, and of ClickHouse's protocol."""

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
from sinks.clickhouse.client import tls_options
from tests.conftest import StartServer, clickhouse_settings

ROWS = 100_000


def connect(settings: ClickHouseSettings, **options: Any) -> Client:
    assert settings.dsn is not None
    return clickhouse_connect.get_client(dsn=settings.dsn.get_secret_value(), **tls_options(settings), **options)


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
def test_large_insert_is_complete(clickhouse: ClickHouseSettings, table: str, compression: str) -> None:
    """Inserts 100,000 rows with each compression of the client, and counts them.

    The client sends one compressed frame per block. A failure means that only the first block is read and rows are
    lost.
    """
    with connect(clickhouse, compress=compression) as client:
        summary = client.insert(table, [[i, f"row {i}"] for i in range(ROWS)], column_names=["id", "text"])
        assert int(summary.summary["written_rows"]) == ROWS
        count, total = client.query(f"SELECT count(), sum(id) FROM {table}").result_rows[0]
        assert (count, total) == (ROWS, ROWS * (ROWS - 1) // 2)


def test_parameters_are_data_not_sql(client: Client, table: str) -> None:
    """Sends query parameters with quotes and lists.

    The engine must receive them unchanged and separate from the SQL.
    """
    nasty = 'it\'s `a` \\ "test"; DROP TABLE x --'
    client.insert(table, [[1, nasty], [2, "other"]], column_names=["id", "text"])
    found = client.query(f"SELECT id FROM {table} WHERE text = {{text:String}}", parameters={"text": nasty})
    assert found.result_rows == [(1,)]
    found = client.query(
        f"SELECT id FROM {table} WHERE id IN {{ids:Array(UInt64)}} ORDER BY id", parameters={"ids": [1, 2, 3]}
    )
    assert found.result_rows == [(1,), (2,)]


def test_setting_applies_to_one_request(client: Client) -> None:
    """Sets a setting in one request and reads it in the next: it must not apply there."""
    sql = "SELECT getSetting('max_block_size')"
    before = client.query(sql).result_rows
    assert client.query(sql, settings={"max_block_size": 1234}).result_rows == [(1234,)]
    assert client.query(sql).result_rows == before


def test_errors_are_clickhouse_errors(client: Client) -> None:
    """Causes an error: the client must read its code and text, because callers decide by them."""
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as caught:
        client.query("SELECT * FROM no_such_table")
    assert caught.value.code == 60
    with pytest.raises(DatabaseError) as caught:
        client.command("SELECT FROM WHERE")
    assert caught.value.code == 62


def test_database_of_the_dsn_is_used(clickhouse: ClickHouseSettings, client: Client) -> None:
    """Uses a DSN with a database: unqualified names must refer to it."""
    name = f"d_{uuid.uuid4().hex}"
    client.command(f"CREATE DATABASE {name}")
    with connect(clickhouse, database=name) as inside:
        inside.command("CREATE TABLE here (x UInt8) ENGINE = MergeTree ORDER BY x")
        inside.insert("here", [[7]], column_names=["x"])
        assert inside.query("SELECT x FROM here").result_rows == [(7,)]
    assert client.query(f"SELECT x FROM {name}.here").result_rows == [(7,)]


@pytest.mark.parametrize("headers", [{}, {"X-ClickHouse-User": "audiotext", "X-ClickHouse-Key": "wrong"}])
def test_requests_without_the_password_are_rejected(clickhouse: ClickHouseSettings, headers: dict[str, str]) -> None:
    """Sends requests with missing and wrong credentials: all must fail, because every local program can connect."""
    assert clickhouse.dsn is not None
    port = clickhouse.dsn.get_secret_value().rpartition(":")[2].split("/")[0]
    http = urllib3.PoolManager(ca_certs=str(clickhouse.ca_file))
    response = http.request("POST", f"https://127.0.0.1:{port}/", body=b"SELECT 1", headers=headers)
    assert response.status == 403
    assert response.headers["X-ClickHouse-Exception-Code"] == "516"


def test_ping_is_answered_during_a_long_query(clickhouse: ClickHouseSettings) -> None:
    """Sends a ping during a long query: it must be answered at once, because readiness checks use it."""
    with connect(clickhouse, autogenerate_session_id=False) as client:
        query = threading.Thread(target=client.query, args=("SELECT sleep(1.5)",))
        query.start()
        started = time.monotonic()
        assert client.ping()
        assert time.monotonic() - started < 1.0
        query.join()


def test_rows_survive_a_kill(start_server: StartServer) -> None:
    """Inserts rows, kills the process, starts it again with the same directory, and reads the rows.

    A failure means that acknowledged rows are lost.
    """
    server = start_server("clickhouse")
    with connect(clickhouse_settings(server)) as client:
        client.command("CREATE TABLE kept (x UInt64) ENGINE = MergeTree ORDER BY x")
        client.insert("kept", [[i] for i in range(1000)], column_names=["x"])
    server.kill()
    server.start()
    with connect(clickhouse_settings(server)) as client:
        assert client.query("SELECT count() FROM kept").result_rows == [(1000,)]


def test_rows_after_an_insert_are_separated_from_sql() -> None:
    """Parses inserts with rows after FORMAT, and values that contain this word: only the former have rows."""
    assert parse("INSERT INTO t FORMAT Native", b"\x01\x02") == Insert("t", "Native", b"\x01\x02")
    assert parse("", b"insert into `a`.`b` (`x`, `y`) format Native\n\x00") == Insert(
        "`a`.`b` (`x`, `y`)", "Native", b"\x00"
    )
    values = b"INSERT INTO t VALUES ('x FORMAT Native ')"
    assert parse("", values) == Statement(values.decode(), "TabSeparated")
    assert parse("", b"SELECT 1\n FORMAT JSON;") == Statement("SELECT 1\n FORMAT JSON;", "JSON")


@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=8), st.sampled_from(["lz4", "zstd"]))
def test_every_frame_is_read(blocks: list[bytes], encoding: str) -> None:
    """Decompresses bodies with several frames: all bytes must be returned."""
    compress = {"lz4": lz4.frame.compress, "zstd": zstd.compress}[encoding]
    assert decompress(b"".join(compress(block) for block in blocks), encoding) == b"".join(blocks)


def test_truncated_or_invalid_body_is_rejected() -> None:
    """Decompresses half a frame and invalid bytes: both must raise an error instead of returning fewer rows."""
    whole = lz4.frame.compress(b"rows" * 1000)
    for body, encoding in ((whole[:-10], "lz4"), (b"no frame", "zstd"), (whole, "br")):
        with pytest.raises(ValueError, match=encoding):
            decompress(body, encoding)


def test_error_codes_have_the_statuses_of_clickhouse() -> None:
    """Compares the HTTP status of errors.

    The client retries by status, so an unknown table must not look like an outage.
    """
    assert EngineError("Code: 60. DB::Exception: no").status == 404
    assert EngineError("Code: 62. DB::Exception: no").status == 400
    assert EngineError("something else").status == 500
