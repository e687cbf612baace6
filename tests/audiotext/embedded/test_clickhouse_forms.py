"""Tests of queries sent as a form, which the client uses for long parameters."""

import urllib3

from audiotext.embedded.clickhouse import USER
from core.settings import ClickHouseSettings
from sinks.clickhouse.client import Database


def test_long_parameters_are_accepted(clickhouse: ClickHouseSettings) -> None:
    """Sends lists of 10, 150 and 2,000 ids, and a text with all characters that are special in a form.

    The short list is in the URL, the others are in a form. A form that is read as the statement gives a syntax error.
    """
    database = Database(clickhouse)

    for count in (10, 150, 2_000):
        ids = [f"CA{n:032}" for n in range(count)]
        rows = database.query("SELECT {ids:Array(String)} AS ids, {n:Int64} AS n", {"ids": ids, "n": count})
        assert rows == [{"ids": ids, "n": count}]

    text = "\r\n--boundary\r\n'\"\\\t&=+% é €" * 1_000
    assert database.query("SELECT {text:String} AS text", {"text": text}) == [{"text": text}]


def test_external_table_is_rejected(clickhouse: ClickHouseSettings) -> None:
    """Sends a form with a file, which is an external table: the error must say that these are not supported."""
    assert clickhouse.dsn is not None
    dsn = urllib3.util.parse_url(clickhouse.dsn.get_secret_value())
    assert dsn.auth is not None

    answer = urllib3.PoolManager(ca_certs=str(clickhouse.ca_file)).request(
        "POST",
        f"https://{dsn.netloc}/",
        headers={"X-ClickHouse-User": USER, "X-ClickHouse-Key": dsn.auth.partition(":")[2]},
        fields={"query": "SELECT 1", "ids": ("ids", b"1\n2\n")},
    )

    assert answer.status == 400
    assert "ids: tables that come with a query are not supported" in answer.data.decode()
