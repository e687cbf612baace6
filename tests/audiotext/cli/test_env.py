"""`audiotext env`: the printed addresses and credentials work."""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from audiotext.cli import main
from audiotext.stack.datadir import DataDir, RunningStack
from core.settings import ClickHouseSettings
from sinks.clickhouse.client import Database
from tests.support.running_server import RunningServer


@pytest.fixture
def data_dir(clickhouse: ClickHouseSettings, clickhouse_server: RunningServer) -> Iterator[Path]:
    """Returns a data directory on which a stack with an embedded ClickHouse runs."""
    Database(clickhouse).migrate()
    before = dict(os.environ)
    owner = DataDir(clickhouse_server.data_dir)
    owner.publish(RunningStack(clickhouse_server.addresses | {"AUDIOTEXT_LOG_LEVEL": "INFO"}, ["clickhouse"]))
    yield owner.path
    owner.release()
    os.environ.clear()
    os.environ.update(before)


def test_the_analyst_can_connect_with_the_printed_values(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Connects with the values of `audiotext env --analyst`, as printed for a shell and as JSON: queries run, writes do
    not."""
    assert main.main(["env", "--analyst", "--data-dir", str(data_dir)]) == 0
    printed = dict(line.split("=", 1) for line in shlex.split(capsys.readouterr().out))
    assert main.main(["env", "--analyst", "--json", "--data-dir", str(data_dir)]) == 0
    assert json.loads(capsys.readouterr().out) == printed
    host, _, port = printed["CLICKHOUSE_URL"].removeprefix("https://").partition(":")
    with clickhouse_connect.get_client(
        host=host,
        port=int(port),
        interface="https",
        ca_cert=printed["CLICKHOUSE_CA_FILE"],
        username=printed["CLICKHOUSE_USER"],
        password=printed["CLICKHOUSE_PASSWORD"],
        database=printed["CLICKHOUSE_DATABASE"],
    ) as client:
        assert client.query("SELECT count() FROM calls WHERE tenant = 'nobody'").result_rows == [(0,)]
        with pytest.raises(ClickHouseError, match="READONLY"):
            client.command("TRUNCATE TABLE events")


def test_the_addresses_of_the_stores_are_printed(
    data_dir: Path, clickhouse: ClickHouseSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints the whole environment: it has the stores' variables, the address of the stack, and nothing else."""
    assert main.main(["env", "--json", "--data-dir", str(data_dir)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert clickhouse.dsn is not None
    assert printed == {
        "AUDIOTEXT_URL": "http://127.0.0.1:8080",
        "AUDIOTEXT_CLICKHOUSE__DSN": clickhouse.dsn.get_secret_value(),
        "AUDIOTEXT_CLICKHOUSE__CA_FILE": str(clickhouse.ca_file),
    }


def test_a_clickhouse_of_its_own_is_explained(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asks for the analyst of a stack without an embedded ClickHouse: the error names the page that helps."""
    (data_dir / "addresses.json").write_text(json.dumps({"environment": {}, "embedded": []}))
    assert main.main(["env", "--analyst", "--data-dir", str(data_dir)]) == 1
    assert "docs/clickhouse.md" in capsys.readouterr().err
