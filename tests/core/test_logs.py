"""Tests of the log format and of finding warnings in it."""

import logging
import re
from collections.abc import Iterator

import pytest

from core import logs


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_message_is_one_line_with_time_level_and_service(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs a message and an exception and checks each line.

    Tools that read the log line by line rely on this format; a stack trace follows its message, indented.
    """
    logs.configure("recorder", "INFO")
    logging.getLogger("x").info("call %s closed", "CA1")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, second, *trace = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO recorder call CA1 closed", first)
    assert second.endswith("ERROR recorder failed")
    assert all(line.startswith("    ") for line in trace)
    assert "ValueError: broken" in trace[-1]


def test_retries_of_store_clients_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs warnings as the stores' client libraries do on each attempt; only our own warning may appear.

    These libraries repeat their line every second while a store is unavailable and would hide the other lines.
    """
    logs.configure("api", "INFO")
    for name in ("urllib3.connectionpool", "clickhouse_connect.driver.httpclient"):
        logging.getLogger(name).warning("Retrying")
    logging.getLogger("api.store_executor").warning("ClickHouse is unavailable")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING api ClickHouse is unavailable")


def test_warning_in_finds_only_our_warnings() -> None:
    """Gives lines of several levels and formats; only ours at WARNING and above are shown to the user."""
    time = "2026-11-22T10:00:00.000Z"
    assert logs.warning_in(f"{time} WARNING usage late by 3 s") == "WARNING late by 3 s"
    assert logs.warning_in(f"{time} ERROR usage gone") == "ERROR gone"
    assert logs.warning_in(f"{time} INFO usage fine") is None
    assert logs.warning_in("W1122 11:34:39 client.go:379 Reconnection") is None
    assert logs.warning_in("    WARNING inside a stack trace") is None
