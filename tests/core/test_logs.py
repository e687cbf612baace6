"""What a service's log looks like, and how warnings are found in it."""

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
    """Whoever greps or ships logs line by line relies on this; a stack trace follows, indented."""
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


def test_each_try_at_a_store_that_is_away_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    """What stores' clients say of every try: whoever tries says that the store is away, and once a second, for as long
    as it is, these lines would bury that."""
    logs.configure("api", "INFO")
    for name in ("urllib3.connectionpool", "clickhouse_connect.driver.httpclient"):
        logging.getLogger(name).warning("Retrying")
    logging.getLogger("api.store_executor").warning("ClickHouse is away")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING api ClickHouse is away")


def test_warnings_are_told_from_the_rest() -> None:
    """Only lines of ours at WARNING and above are worth interrupting somebody for."""
    time = "2026-11-22T10:00:00.000Z"
    assert logs.warning_in(f"{time} WARNING usage late by 3 s") == "WARNING late by 3 s"
    assert logs.warning_in(f"{time} ERROR usage gone") == "ERROR gone"
    assert logs.warning_in(f"{time} INFO usage fine") is None
    assert logs.warning_in("W1122 11:34:39 client.go:379 Reconnection") is None
    assert logs.warning_in("    WARNING inside a stack trace") is None
