"""`audiotext doctor` on real stores: healthy, refused, unreachable and hanging ones."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from audiotext.cli import main
from audiotext.doctor import environment, https, stores
from audiotext.doctor.checks import PlannedCheck, checks_for, run_checks
from audiotext.stack.environment import to_variables
from core.checks import Check
from core.settings import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings, Settings, SettingsError, load
from sinks.clickhouse.client import Database

AWAY = "127.0.0.1:9"


def test_each_check_of_a_healthy_stack_is_one_line(  # noqa: PLR0917 - pytest passes them by name
    kafka: KafkaSettings,
    s3: S3Settings,
    clickhouse: ClickHouseSettings,
    qdrant: QdrantSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs the command on running stores, then with one wrong address.

    A failure means that a working deployment looks broken, or the reverse. Scripts use the exit code.
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
    """Limits the connection to an unreachable log to one try."""
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
def test_an_unreachable_store_names_the_setting(look: Callable[[], Check], cure: str) -> None:
    """Checks addresses where nothing listens: each fails within seconds and names the setting that may be wrong."""
    began = time.monotonic()
    found = look()
    assert not found.ok
    assert cure in found.fix
    assert time.monotonic() - began < 30


def _s3_away() -> S3Settings:
    return S3Settings(endpoint=f"http://{AWAY}", access_key="a", secret_key=SecretStr("b"))


def test_a_refusal_names_the_credentials(
    s3: S3Settings, clickhouse: ClickHouseSettings, qdrant: QdrantSettings
) -> None:
    """Checks stores with wrong secrets: the findings name the credentials and not the address."""
    assert clickhouse.dsn is not None
    dsn = clickhouse.dsn.get_secret_value()
    wrong = SecretStr("wrong-secret")
    refused = [
        stores.s3(s3.model_copy(update={"secret_key": wrong})),
        stores.clickhouse(clickhouse.model_copy(update={"dsn": SecretStr(dsn.replace("@", "x@"))})),
        stores.qdrant(qdrant.model_copy(update={"api_key": wrong})),
    ]
    assert [check.ok for check in refused] == [False] * 3
    assert "SECRET_KEY" in refused[0].fix
    assert "password" in refused[1].fix
    assert "API_KEY" in refused[2].fix
    assert not stores.s3(s3.model_copy(update={"bucket": "no-such-bucket"})).ok
    assert "migrate" in stores.s3(s3.model_copy(update={"bucket": "no-such-bucket"})).fix


def test_doctor_without_servers_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs the command in an empty directory, where no stack runs and no server is configured.

    The first line says so and names the fix, the exit code is 1, and the directory stays empty. A failure means that a
    user in the wrong directory reads that everything is well, or that checks leave files behind.
    """
    monkeypatch.chdir(tmp_path)
    assert main.main(["doctor"]) == 1
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("WRONG  servers")
    assert "no running stack found in data, and no server is configured" in first
    assert "name the directory of a running stack with --data-dir" in first
    assert not [line for line in others if "not configured" in line]
    assert list(tmp_path.iterdir()) == []


async def test_a_hanging_check_is_one_line() -> None:
    """Runs a check that hangs, one that raises and one that passes.

    Each is a finding, and all are there after the timeout.
    """
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
        ({"telnyx": {"stream_token": "t" * 20, "public_key": "no key"}}, "not an Ed25519 key"),
        ({"audiosocket": {"port": 9092}}, "no peer may connect"),
    ],
)
def test_weak_secrets_are_found(given: dict[str, object], words: str) -> None:
    """Checks a short secret, an invalid key and missing peers: each is found before a carrier is refused."""
    found = environment.carriers(load(**given))
    assert not found.ok
    assert words in found.detail


def test_a_short_admin_key_has_its_own_finding() -> None:
    """Checks a short admin key.

    It is not part of the finding for carriers, where nobody would look for it.
    """
    found = environment.admin_key(load(admin_key="admin"))
    assert not found.ok
    assert "AUDIOTEXT_ADMIN_KEY has only 5 characters" in found.detail
    assert environment.carriers(load(admin_key="admin")).ok
    assert environment.admin_key(load(admin_key="a" * 16)).ok
    assert environment.admin_key(load()).ok


async def test_the_public_url_is_checked() -> None:
    """Checks public URLs that carriers sign against.

    A missing URL is wrong only while a carrier is configured. Plain HTTP is wrong. Text that is not a URL is an invalid
    setting.
    """
    twilio = {"auth_token": "t" * 32}
    assert (await https.public_url(load())).ok
    for given in (None, "http://calls.example.com"):
        assert not (await https.public_url(load(public_url=given, twilio=twilio))).ok
    for nonsense in ("calls.example.com", "calls.example.com:443", "https://calls.example.com/?a=b"):
        with pytest.raises(SettingsError, match=r"AUDIOTEXT_PUBLIC_URL.*https://your\.host"):
            load(public_url=nonsense, twilio=twilio)
    away = await https.public_url(load(public_url=f"http://{AWAY}"))
    assert "start the proxy" in away.fix


def test_the_disk_of_a_future_directory_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks a directory that does not exist yet, and a full disk: the finding says what will happen."""
    assert environment.disk(tmp_path / "not" / "yet").ok
    monkeypatch.setattr(environment, "NEEDED_BYTES", 1 << 62)
    assert "will not start" in environment.disk(tmp_path).detail


def test_a_short_idle_timeout_is_wrong() -> None:
    """Compares the recorder's idle timeout with the session timeout of the log.

    A short one is wrong, and the finding names both settings. Otherwise a live call would be closed while its partition
    moves.
    """
    short = environment.time_limits(load(recorder={"idle_timeout_ms": 59_000}, kafka={"session_timeout_ms": 30_000}))
    assert not short.ok
    assert "AUDIOTEXT_RECORDER__IDLE_TIMEOUT_MS" in short.detail
    assert "AUDIOTEXT_KAFKA__SESSION_TIMEOUT_MS" in short.detail
    assert environment.time_limits(load()).ok
