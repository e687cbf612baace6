"""What is said of a store that is away."""

import logging

import pytest

from api.errors import ApiError
from api.store_executor import StoreExecutor


class _AwayError(Exception):
    """What the client of a store raises."""


async def test_a_store_that_is_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Asks a store that is away ten times, as readiness does every second, then has it answer and be away again: two
    warnings, and when it was back. One a second would bury everything else on the terminal."""
    clickhouse = StoreExecutor("ClickHouse", _AwayError)
    away = True

    def ask() -> int:
        if away:
            raise _AwayError("it does not answer")
        return 1

    with caplog.at_level(logging.INFO, "api.store_executor"):
        for _ in range(10):
            with pytest.raises(ApiError):
                await clickhouse(ask)
        away = False
        assert await clickhouse(ask) == 1
        assert await clickhouse(ask) == 1
        away = True
        with pytest.raises(ApiError):
            await clickhouse(ask)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    gone = ("WARNING", "ClickHouse is unavailable: it does not answer")
    assert told == [gone, ("INFO", "ClickHouse answers again"), gone]
