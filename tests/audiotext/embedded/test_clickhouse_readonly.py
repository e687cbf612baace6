"""The read-only user of the embedded ClickHouse, with the usual client against the real engine."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import pytest
import urllib3
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from audiotext.embedded.clickhouse import analyst_dsn
from audiotext.embedded.state import State
from core.settings import ClickHouseSettings
from sinks.clickhouse.client import Database, tls_options
from tests.support.call_events import Call, insert
from tests.support.running_server import RunningServer


@pytest.fixture(scope="module")
def tenant(clickhouse: ClickHouseSettings) -> str:
    """Returns the tenant of one stored call."""
    tenant = f"tenant-{uuid.uuid4()}"
    call = Call("CA1", tenant)
    insert(Database(clickhouse), [*call.complete(), call.usage()])
    return tenant


@pytest.fixture(scope="module")
def analyst(clickhouse: ClickHouseSettings, clickhouse_server: RunningServer) -> Iterator[Client]:
    """Returns a client with the credentials that `audiotext env` prints."""
    assert clickhouse.dsn is not None
    dsn = analyst_dsn(State(clickhouse_server.data_dir), clickhouse.dsn.get_secret_value())
    with clickhouse_connect.get_client(dsn=dsn, **tls_options(clickhouse)) as client:
        yield client


def test_an_analyst_reads_calls(analyst: Client, tenant: str) -> None:
    """Reads the views with parameters, by every way that the client has. A failure means that reports do not work."""
    sql = "SELECT status, duration_ms FROM calls WHERE tenant = {tenant:String}"
    assert analyst.query(sql, parameters={"tenant": tenant}).result_rows == [("complete", 60_000)]
    assert analyst.query_df(sql, parameters={"tenant": tenant})["status"].tolist() == ["complete"]
    assert analyst.query("WITH 1 AS one SELECT one, 'a;b -- c' FROM numbers(1); -- comment").result_rows == [
        (1, "a;b -- c")
    ]
    assert analyst.query("SELECT 1 INTERSECT SELECT 1").result_rows == [(1,)]
    columns = {row[0] for row in analyst.query("DESCRIBE calls").result_rows}
    assert {"status", "failed_reason", "missing_ms", "language", "close_reason", "transcript_versions"} <= columns
    assert ("calls",) in analyst.query("SHOW TABLES").result_rows


WRITES = [
    "INSERT INTO erased_calls (tenant, call_id) VALUES ('acme', 'CA1')",
    "INSERT INTO erased_calls (tenant, call_id) SELECT 'acme', 'CA1'",
    "INSERT INTO erased_calls FORMAT TSV\nacme\tCA1\t2026-01-01 00:00:00",
    "ALTER TABLE events DELETE WHERE true",
    "DELETE FROM events WHERE true",
    "TRUNCATE TABLE events",
    "DROP TABLE events",
    "DROP VIEW calls",
    "RENAME TABLE events TO other",
    "CREATE TABLE mine (a Int8) ENGINE = Memory",
    "CREATE VIEW mine AS SELECT 1",
    "OPTIMIZE TABLE events FINAL",
    "SYSTEM STOP MERGES",
    "KILL QUERY WHERE true",
    "SET readonly = 0",
    "GRANT ALL ON *.* TO analyst",
]
READS = [
    "SELECT * FROM api_keys",
    "SELECT * FROM default.`api\\x5fkeys`",
    'SELECT * FROM "api_keys"',
    "SELECT 1 WHERE ('a', 'b') IN api_keys",
    "SELECT * FROM (SELECT hash FROM api_keys) AS keys",
    "WITH keys AS (SELECT * FROM api_keys) SELECT * FROM keys",
    "SELECT * FROM calls UNION ALL SELECT * FROM api_keys",
    "SELECT * FROM merge(currentDatabase(), '^api')",
    "SELECT * FROM /* a comment */ `merge` (currentDatabase(), '^api')",
    "SELECT * FROM mergeTreeIndex(currentDatabase(), 'api_keys')",
    "SELECT * FROM loop(currentDatabase(), 'api_keys')",
    "SELECT file('/etc/passwd')",
    "SELECT FILE('/etc/passwd')",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "DESCRIBE TABLE file('/etc/passwd', 'LineAsString')",
    "SHOW TABLES WHERE name = file('/etc/passwd')",
    "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
    "SELECT * FROM Python(os)",
    "SELECT * FROM eval('SELECT * FROM api_keys')",
    "SELECT 1 INTO OUTFILE '/tmp/audiotext-outfile'",
    "SELECT 1 INTO/**/OUTFILE '/tmp/audiotext-outfile'",
    "EXPLAIN SELECT 1",
    "SELECT 1; SELECT * FROM api_keys",
    "SELECT 1; SYSTEM STOP MERGES",
    "SELECT 1 SETTINGS readonly = 0",
    "EXECUTE AS default SELECT 1",
]


@pytest.mark.parametrize("sql", [*WRITES, *READS])
def test_an_analyst_can_do_nothing_else(analyst: Client, clickhouse: ClickHouseSettings, tenant: str, sql: str) -> None:
    """Runs statements that write, that read API keys, files or networks, or that hide another statement.

    Each must be refused, and the call must be there afterwards. A failure means that the password for reports changes
    or reveals what it must not.
    """
    with pytest.raises(ClickHouseError, match=r"READONLY|ACCESS_DENIED|Multi-statements|SYNTAX_ERROR"):
        analyst.raw_query(sql)
    count = "SELECT count() AS n FROM call_events WHERE tenant = {tenant:String}"
    assert Database(clickhouse).query(count, {"tenant": tenant}) == [{"n": 6}]
    assert not Path("/tmp/audiotext-outfile").exists()


def test_a_parameter_cannot_name_the_keys(analyst: Client) -> None:
    """Sends the name of the hidden table as a parameter: the check must see the table and not the parameter."""
    with pytest.raises(ClickHouseError, match="READONLY"):
        analyst.query("SELECT * FROM {t:Identifier}", parameters={"t": "api_keys"})


@pytest.mark.parametrize(
    ("setting", "value", "limit"),
    [("readonly", "0", b"1"), ("max_execution_time", "0", b"10"), ("dialect", "kusto", b"clickhouse")],
)
def test_a_setting_lifts_no_limit(
    clickhouse: ClickHouseSettings, clickhouse_server: RunningServer, setting: str, value: str, limit: bytes
) -> None:
    """Sends a setting that would lift a limit, with a read and with a write: the limit stays, the write is refused."""
    assert clickhouse.dsn is not None
    url = urlsplit(analyst_dsn(State(clickhouse_server.data_dir), clickhouse.dsn.get_secret_value()))
    headers = {"X-ClickHouse-User": str(url.username), "X-ClickHouse-Key": str(url.password)}

    http = urllib3.PoolManager(ca_certs=str(clickhouse.ca_file))

    def post(sql: str) -> urllib3.BaseHTTPResponse:
        target = f"https://{url.hostname}:{url.port}/?{setting}={value}"
        return http.request("POST", target, headers=headers, body=sql.encode())

    assert post("INSERT INTO erased_calls SELECT 'acme', 'CA1', now()").status != 200
    found = post(f"SELECT getSetting('{setting}')")
    assert found.data.strip() == limit


def test_another_password_is_refused(clickhouse: ClickHouseSettings, clickhouse_server: RunningServer) -> None:
    """Connects as each user with the other one's password, and as an unknown user."""
    assert clickhouse.dsn is not None
    service = clickhouse.dsn.get_secret_value()
    analyst = analyst_dsn(State(clickhouse_server.data_dir), service)
    for dsn in (
        service.replace("audiotext:", "analyst:", 1),
        analyst.replace("analyst:", "audiotext:", 1),
        analyst.replace("analyst:", "default:", 1),
    ):
        with pytest.raises(ClickHouseError, match="AUTHENTICATION_FAILED"):
            clickhouse_connect.get_client(dsn=dsn, **tls_options(clickhouse))
