"""Addresses of stores: what cannot be one is refused when a service starts, not with every call."""

import pytest

from core.settings import SettingsError, load


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUDIOTEXT_CLICKHOUSE__DSN", "db:8123"),
        ("AUDIOTEXT_CLICKHOUSE__DSN", "postgres://u:hunter2@db/audiotext"),
        ("AUDIOTEXT_CLICKHOUSE__DSN", "clickhouse://u:hunter2/x@db:8123/audiotext"),
        ("AUDIOTEXT_CLICKHOUSE__DSN", "clickhouse:///audiotext"),
        ("AUDIOTEXT_QDRANT__URL", "qdrant:6333"),
        ("AUDIOTEXT_QDRANT__URL", "http://qdrant:port"),
        ("AUDIOTEXT_PUBLIC_URL", "calls.example.com"),
    ],
)
def test_what_is_no_address_is_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme that is missing or another's, no host, a password whose slash ends the host: the setting is named and
    how to write it, and no part of a password. Else a store would be waited for that is nowhere."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable}: not an? .*write it like") as refused:
        load()
    assert "hunter" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUDIOTEXT_CLICKHOUSE__DSN", "clickhouse://u:p@db:8123/audiotext"),
        ("AUDIOTEXT_CLICKHOUSE__DSN", "clickhouses://u:p%2F@db/audiotext?compression=lz4"),
        ("AUDIOTEXT_CLICKHOUSE__DSN", "clickhousedb://u:p@db:8123"),
        ("AUDIOTEXT_CLICKHOUSE__DSN", "https://u:p@db:8443"),
        ("AUDIOTEXT_CLICKHOUSE__DSN", ""),
        ("AUDIOTEXT_QDRANT__URL", "http://[::1]:6333"),
        ("AUDIOTEXT_QDRANT__URL", ""),
    ],
)
def test_what_is_one_is_taken(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to write an address that the clients take, SQLAlchemy's name of ClickHouse included, and nothing, which
    deployments write for "not this"."""
    monkeypatch.setenv(variable, value)
    load()
