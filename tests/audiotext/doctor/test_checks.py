"""`audiotext doctor` over real stores: right, refused, away, hanging."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from audiotext.cli import main
from audiotext.doctor import environment, stores
from audiotext.doctor.checks import PlannedCheck, checks_for, run_checks
from audiotext.stack.environment import to_variables
from core.checks import Check
from core.settings import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings, Settings, SettingsError, load
from sinks.clickhouse.client import Database

AWAY = "127.0.0.1:9"


def test_a_stack_that_is_well_has_a_line_each(  # noqa: PLR0917 - pytest passes them by name
    kafka: KafkaSettings,
    s3: S3Settings,
    clickhouse: ClickHouseSettings,
    qdrant: QdrantSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What does this test do? Runs the command as a user does, against running stores, then with one thing wrong.

    If it failed, a deployment that works would look broken, or a broken one whole: the exit code is what scripts ask.
    """
    Database(clickhouse).migrate()
    whole = Settings(kafka=kafka, s3=s3, clickhouse=clickhouse, qdrant=qdrant)
    for name, value in to_variables(whole).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUDIOTEXT_KAFKA__PARTITIONS", "2")
    settings = load()
    found = {check.name: check for check in asyncio.run(run_checks(checks_for(settings, embedded=True)))}
    assert [check for check in found.values() if not check.ok] == []
    assert set(found) >= {"log", "S3", "ClickHouse", "Qdrant", "speech to text", "summaries", "embeddings", "disk"}
    assert "none missing" in found["ClickHouse"].detail
    assert "written, read and deleted" in found["S3"].detail

    monkeypatch.setenv("AUDIOTEXT_QDRANT__URL", f"http://{AWAY}")
    assert main.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(found)
    assert [line for line in lines if line.startswith("WRONG  Qdrant") and "AUDIOTEXT_QDRANT__URL" in line]


@pytest.fixture(autouse=True)
def _one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is away is asked once."""
    monkeypatch.setattr(stores, "_LOG_TRIES", 1)


@pytest.mark.parametrize(
    ("look", "cure"),
    [
        (lambda: stores.log(KafkaSettings(bootstrap_servers=AWAY), embedded=False), "KAFKA__BOOTSTRAP_SERVERS"),
        (lambda: stores.s3(_s3_away()), "S3__ENDPOINT"),
        (lambda: stores.clickhouse(ClickHouseSettings(dsn=SecretStr(f"clickhouse://u:p@{AWAY}/d"))), "the DSN"),
        (lambda: stores.qdrant(QdrantSettings(url=f"http://{AWAY}")), "QDRANT__URL"),
    ],
)
def test_what_is_away_says_what_to_look_at(look: Callable[[], Check], cure: str) -> None:
    """Nothing listens: not ok, in seconds, with the setting that may be wrong."""
    began = time.monotonic()
    found = look()
    assert not found.ok
    assert cure in found.fix
    assert time.monotonic() - began < 30


def _s3_away() -> S3Settings:
    return S3Settings(endpoint=f"http://{AWAY}", access_key="a", secret_key=SecretStr("b"))


def test_who_is_refused_is_told_which_credentials(
    s3: S3Settings, clickhouse: ClickHouseSettings, qdrant: QdrantSettings
) -> None:
    """A wrong secret must not be told as "away": the cure is another."""
    assert clickhouse.dsn is not None
    dsn = clickhouse.dsn.get_secret_value()
    wrong = SecretStr("wrong-secret")
    refused = [
        stores.s3(s3.model_copy(update={"secret_key": wrong})),
        stores.clickhouse(ClickHouseSettings(dsn=SecretStr(dsn.replace("@", "x@")))),
        stores.qdrant(qdrant.model_copy(update={"api_key": wrong})),
    ]
    assert [check.ok for check in refused] == [False] * 3
    assert "SECRET_KEY" in refused[0].fix
    assert "password" in refused[1].fix
    assert "API_KEY" in refused[2].fix
    assert not stores.s3(s3.model_copy(update={"bucket": "no-such-bucket"})).ok
    assert "migrate" in stores.s3(s3.model_copy(update={"bucket": "no-such-bucket"})).fix


async def test_one_that_hangs_is_a_line() -> None:
    """A store that takes the connection and says nothing, and a provider that raises: each is a line, in time, beside
    those that are well."""
    hang = threading.Event()

    def hanging() -> Check:
        hang.wait(60)
        return Check("x", True, "")

    async def raising() -> Check:
        raise RuntimeError("no such thing")

    well = Check("well", True, "as it should")
    found = await run_checks(
        [PlannedCheck("hangs", hanging), PlannedCheck("raises", awaited=raising), PlannedCheck("well", lambda: well)],
        0.2,
    )
    hang.set()
    assert [check.ok for check in found] == [False, False, True]
    assert "no answer within 0.2 s" in found[0].detail
    assert "no such thing" in found[1].detail


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"twilio": {"auth_token": "short"}}, "only 5 characters"),
        ({"telnyx": {"stream_token": "t" * 20, "public_key": "no key"}}, "no Ed25519 key"),
        ({"audiosocket": {"port": 9092}}, "nobody may connect"),
    ],
)
def test_secrets_that_are_no_good(given: dict[str, object], words: str) -> None:
    """A secret that can be guessed and a key that is none are found before a carrier is refused by them."""
    found = environment.carriers(load(**given))
    assert not found.ok
    assert words in found.detail


def test_an_admin_key_that_is_short_is_no_carriers_fault() -> None:
    """A key that can be guessed has a line of its own: under "carriers" nobody would look for it, and a carrier that
    is well would seem broken."""
    found = environment.admin_key(load(admin_key="admin"))
    assert not found.ok
    assert "AUDIOTEXT_ADMIN_KEY has only 5 characters" in found.detail
    assert environment.carriers(load(admin_key="admin")).ok
    assert environment.admin_key(load(admin_key="a" * 16)).ok
    assert environment.admin_key(load()).ok


async def test_the_public_url_must_be_one() -> None:
    """What carriers sign against: missing while a carrier is configured and plain http are wrong, missing where no
    carrier is configured is not; nonsense is no setting at all."""
    twilio = {"auth_token": "t" * 32}
    assert (await environment.public_url(load())).ok
    for given in (None, "http://calls.example.com"):
        assert not (await environment.public_url(load(public_url=given, twilio=twilio))).ok
    for nonsense in ("calls.example.com", "calls.example.com:443", "https://calls.example.com/?a=b"):
        with pytest.raises(SettingsError, match=r"AUDIOTEXT_PUBLIC_URL.*https://your\.host"):
            load(public_url=nonsense, twilio=twilio)
    away = await environment.public_url(load(public_url=f"http://{AWAY}"))
    assert "start the gateway" in away.fix


def test_a_disk_is_looked_at_where_the_data_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before the directory is there; a full disk says what will happen."""
    assert environment.disk(tmp_path / "not" / "yet").ok
    monkeypatch.setattr(environment, "NEEDED_BYTES", 1 << 62)
    assert "will not start" in environment.disk(tmp_path).detail


def test_an_idle_time_below_the_logs_session_time_is_wrong() -> None:
    """Compares the recorder's idle time with the time after which the log gives its partitions to another recorder:
    too short is wrong, and the finding names both settings. A live call would be closed while it moves."""
    short = environment.time_limits(load(recorder={"idle_timeout_ms": 59_000}, kafka={"session_timeout_ms": 30_000}))
    assert not short.ok
    assert "AUDIOTEXT_RECORDER__IDLE_TIMEOUT_MS" in short.detail
    assert "AUDIOTEXT_KAFKA__SESSION_TIMEOUT_MS" in short.detail
    assert environment.time_limits(load()).ok
