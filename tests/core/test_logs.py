"""Tests of the log formats, of their limits, and of finding warnings in them."""

import json
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
    assert logs.warning_in('{"time": "x", "level": "ERROR", "message": "gone"}') == "ERROR gone"
    assert logs.warning_in('{"time": "x", "level": "INFO", "message": "fine"}') is None
    assert logs.warning_in('{"level": ') is None


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_control_characters_are_escaped(log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    """Logs a call id with sequences that set a terminal's title and clipboard, hide text or reverse its direction.

    The log must contain escapes instead, and one line. Otherwise a caller controls the terminal of whoever reads it.
    """
    logs.configure("gateway", "INFO", log_format)
    logging.getLogger("x").warning("call %s refused", "\x1b]0;PWNED\x07 \x9b31m \u202ereversed \x7f \r \ud800 é")
    (line, end) = capsys.readouterr().err.split("\n")
    assert end == ""
    text = json.loads(line)["message"] if log_format == "json" else line
    assert "\\u001b]0;PWNED\\u0007" in line
    assert "\\u202ereversed \\u007f" in line
    assert log_format == "json" or text.isprintable()
    assert log_format == "json" or text.endswith("\\ud800 é refused")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_passwords_of_urls_are_not_logged(log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    """Logs an error that contains the address of a store with its password. The password must be replaced.

    Otherwise everybody who reads the log can sign in to the store.
    """
    logs.configure("usage", "INFO", log_format)
    logging.getLogger("x").warning("%s cannot be reached", "clickhouse://usage:hunter2@store:8123/audiotext")
    line = capsys.readouterr().err
    assert "clickhouse://****@store:8123/audiotext cannot be reached" in line
    assert "hunter2" not in line


def test_json_log_has_one_object_per_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs a message and an exception as JSON and reads each line back; the trace must be a field of its line."""
    logs.configure("recorder", "INFO", "json")
    logging.getLogger("x").info("call %s closed", "CA1")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed\nat the second line")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "INFO", "service": "recorder", "logger": "x", "message": "call CA1 closed"}
    assert (second["level"], second["message"]) == ("ERROR", "failed\nat the second line")
    assert second["trace"].endswith("ValueError: broken")


def test_repeated_warnings_and_errors_are_limited_per_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs 1,000 errors with stack traces from one source line, information from another, and a warning from a third.

    Of the errors only the first lines and one stack trace may appear. All information and the warning must appear. A
    failure means that a client or a broken store can fill the disk.
    """
    logs.configure("gateway", "INFO")
    logger = logging.getLogger("x")
    for number in range(1_000):
        try:
            raise ValueError(f"broken {number}")
        except ValueError:
            logger.exception("request %d failed", number)
    for number in range(50):
        logger.info("call %d closed", number)
    logger.warning("the log is slow")
    text = capsys.readouterr().err
    errors = [line.partition(" gateway ")[2] for line in text.splitlines() if " ERROR " in line]
    assert errors == [
        "request 0 failed",
        *(f"request {number} failed: ValueError: broken {number}" for number in range(1, logs.MAX_LINES)),
    ]
    assert text.count("Traceback") == 1
    assert text.count(" closed") == 50
    assert text.endswith("the log is slow\n")


def test_number_of_suppressed_messages_is_reported() -> None:
    """Filters a hundred warnings in one window and one in the next, which must report the suppressed ones."""
    limit = logs.RateLimit(max_lines=3, window_s=10)

    def passed(number: int, at_s: float) -> str | None:
        record = logging.LogRecord("x", logging.WARNING, "file.py", 1, "socket %d refused", (number,), None)
        record.created = at_s
        return record.getMessage() if limit.filter(record) else None

    first = [passed(number, 100.0) for number in range(100)]
    assert [text for text in first if text] == [f"socket {number} refused" for number in range(3)]
    assert passed(7, 110.5) == "socket 7 refused (97 more like this before)"
    assert passed(8, 110.6) == "socket 8 refused"
