"""Queries that come to the embedded ClickHouse as a form, which is how the client sends long parameters."""

import urllib3

from audiotext.embedded.clickhouse import USER
from core.settings import ClickHouseSettings
from sinks.clickhouse.client import Database


def test_a_parameter_may_be_long(clickhouse: ClickHouseSettings) -> None:
    """Asks with lists of 10, 150 and 2,000 ids, the first of which travels in the URL, the others in a form, and with
    a text that has everything in it that a form could trip over. A form taken for the statement is a syntax error."""
    database = Database(clickhouse)

    for count in (10, 150, 2_000):
        ids = [f"CA{n:032}" for n in range(count)]
        rows = database.query("SELECT {ids:Array(String)} AS ids, {n:Int64} AS n", {"ids": ids, "n": count})
        assert rows == [{"ids": ids, "n": count}]

    text = "\r\n--boundary\r\n'\"\\\t&=+% é €" * 1_000
    assert database.query("SELECT {text:String} AS text", {"text": text}) == [{"text": text}]


def test_a_table_that_comes_with_a_query_is_refused(clickhouse: ClickHouseSettings) -> None:
    """Sends a form with a file, an external table to ClickHouse: the answer says that there are none here, rather than
    that the query's table is unknown."""
    assert clickhouse.dsn is not None
    dsn = urllib3.util.parse_url(clickhouse.dsn.get_secret_value())
    assert dsn.auth is not None

    answer = urllib3.request(
        "POST",
        f"http://{dsn.netloc}/",
        headers={"X-ClickHouse-User": USER, "X-ClickHouse-Key": dsn.auth.partition(":")[2]},
        fields={"query": "SELECT 1", "ids": ("ids", b"1\n2\n")},
    )

    assert answer.status == 400
    assert "ids: tables that come with a query are not supported" in answer.data.decode()
