"""One database for all tests of this folder, and a tenant for each test."""

import uuid

import pytest

from core.settings import ClickHouseSettings
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database


@pytest.fixture(scope="session")
def database(clickhouse: ClickHouseSettings) -> Database:
    return Database(clickhouse)


@pytest.fixture(scope="session")
def store(database: Database) -> CallStore:
    return CallStore(database)


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid.uuid4()}"
