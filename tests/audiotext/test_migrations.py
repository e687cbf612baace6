"""`audiotext migrate`, over the real stores."""

import uuid

import pytest
from pydantic import SecretStr

from audiotext.cli import main
from core.settings import ClickHouseSettings, QdrantSettings, S3Settings
from sinks.clickhouse.client import Database


def test_migrate_brings_every_store_up_to_date(
    clickhouse: ClickHouseSettings,
    qdrant: QdrantSettings,
    s3: S3Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What does this test do? --check, migrate, --check, migrate on stores that have nothing of ours yet.

    If it failed, a deployment would start services on half a schema, or a second run would do things again; and a
    check that changed anything could not be run on what is live.
    """
    name = f"migrate-{uuid.uuid4().hex[:8]}"
    assert clickhouse.dsn is not None
    assert qdrant.api_key is not None
    assert s3.secret_key is not None
    server = clickhouse.dsn.get_secret_value().rpartition("/")[0]
    monkeypatch.setenv("AUDIOTEXT_CLICKHOUSE__DSN", f"{server}/{name}")
    monkeypatch.setenv("AUDIOTEXT_CLICKHOUSE__CA_FILE", str(clickhouse.ca_file))
    monkeypatch.setenv("AUDIOTEXT_QDRANT__CA_FILE", str(qdrant.ca_file))
    monkeypatch.setenv("AUDIOTEXT_QDRANT__URL", qdrant.url or "")
    monkeypatch.setenv("AUDIOTEXT_QDRANT__API_KEY", qdrant.api_key.get_secret_value())
    monkeypatch.setenv("AUDIOTEXT_S3__ENDPOINT", s3.endpoint or "")
    monkeypatch.setenv("AUDIOTEXT_S3__ACCESS_KEY", s3.access_key or "")
    monkeypatch.setenv("AUDIOTEXT_S3__SECRET_KEY", s3.secret_key.get_secret_value())
    monkeypatch.setenv("AUDIOTEXT_S3__BUCKET", name)
    if s3.ca_file:
        monkeypatch.setenv("AUDIOTEXT_S3__CA_FILE", str(s3.ca_file))

    for _ in range(2):
        assert main.main(["migrate", "--check"]) == 1
        said = capsys.readouterr().out
        assert f"S3: bucket {name} is missing" in said
        assert "ClickHouse: 0001_tables.sql is missing" in said

    assert main.main(["migrate"]) == 0
    assert f"S3: bucket {name} created" in capsys.readouterr().out
    assert main.main(["migrate", "--check"]) == 0
    assert main.main(["migrate"]) == 0
    assert capsys.readouterr().out == "everything is up to date\n" * 2

    Database(clickhouse.model_copy(update={"dsn": SecretStr(f"{server}/{name}")})).insert_values(
        "schema_migrations", ["version", "name"], [[9999, "9999_flying_cars.sql"]]
    )
    assert main.main(["run", "usage"]) == 1
    error = capsys.readouterr().err
    assert "9999_flying_cars" in error
    assert "or a newer one" in error
