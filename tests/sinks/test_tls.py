"""The stores over TLS: real servers behind a door that shows a private authority's certificate and asks for one."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr, ValidationError

from core.settings import ClickHouseSettings, QdrantSettings, S3Settings, SettingsError, load
from core.settings.base import Tls
from core.settings.stores import KafkaSettings
from core.tls import client_context
from sinks.clickhouse.client import Database, StoreUnavailableError, tls_options
from sinks.object_store import ObjectStore, ObjectStoreError
from sinks.qdrant.store import VectorStore, VectorStoreError
from tests.support import certificates
from tests.support.certificates import Certificates, tls_proxy


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A private authority and its certificate."""
    return certificates.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def doors(pki: Certificates) -> Iterator[ExitStack]:
    """Opened doors, closed after the test."""
    with ExitStack() as stack:
        yield stack


def _files(pki: Certificates) -> dict[str, Path]:
    return {"ca_file": pki.ca, "cert_file": pki.cert, "key_file": pki.key}


def test_s3_over_tls(s3: S3Settings, pki: Certificates, doors: ExitStack) -> None:
    """What does this test do? Writes (also by `swap`, which makes its own request) and reads an object over TLS.

    How? Object storage behind a door that wants the authority's certificates; without them, and with a wrong secret,
    it must fail, or neither is looked at.
    """
    port = doors.enter_context(tls_proxy(pki, urlsplit(s3.endpoint or "").port or 0, s3.ca_file))
    secure = s3.model_copy(update={"endpoint": f"https://127.0.0.1:{port}", "addressing": "path"} | _files(pki))
    store = ObjectStore(secure)
    ref = store.put("tls/object", b"content", "text/plain")
    assert store.get_verified(ref) == b"content"
    assert store.compare_and_swap("tls/swapped", b"1", "text/plain", replaces=store.get_versioned("tls/swapped"))
    with pytest.raises(ObjectStoreError, match=r"certificate|CERTIFICATE"):
        ObjectStore(secure.model_copy(update={"ca_file": None})).find("tls/object")
    with pytest.raises(ObjectStoreError):
        ObjectStore(secure.model_copy(update={"secret_key": SecretStr("wrong")})).get("tls/object")


def test_clickhouse_over_tls(clickhouse: ClickHouseSettings, pki: Certificates, doors: ExitStack) -> None:
    """ClickHouse by a clickhouses:// DSN, its password besides the client certificate. Without the authority it must
    fail."""
    assert clickhouse.dsn is not None
    url = urlsplit(clickhouse.dsn.get_secret_value())
    port = doors.enter_context(tls_proxy(pki, url.port or 0, clickhouse.ca_file))
    dsn = SecretStr(f"clickhouses://{url.username}:{url.password}@127.0.0.1:{port}{url.path}")
    assert Database(ClickHouseSettings(dsn=dsn, **_files(pki))).query("SELECT 1 AS one") == [{"one": 1}]
    with pytest.raises(StoreUnavailableError):
        Database(ClickHouseSettings(dsn=dsn)).query("SELECT 1 AS one")


def test_qdrant_over_tls(qdrant: QdrantSettings, pki: Certificates, doors: ExitStack) -> None:
    """The vector store by https with its API key. Without the authority, and without the key, it must fail."""
    port = doors.enter_context(tls_proxy(pki, urlsplit(qdrant.url or "").port or 0, qdrant.ca_file))
    secure = QdrantSettings(url=f"https://127.0.0.1:{port}", api_key=qdrant.api_key, **_files(pki))
    VectorStore(secure).delete_call("nobody", "nothing")
    for wrong in ({"ca_file": None}, {"api_key": SecretStr("wrong")}):
        with pytest.raises(VectorStoreError):
            VectorStore(secure.model_copy(update=wrong)).delete_call("nobody", "nothing")


@pytest.mark.parametrize(
    ("dsn", "options"),
    [
        ("clickhouse://u:p@db:8123/audiotext", {}),
        ("http://u:p@db/audiotext", {}),
        ("clickhouses://u:p@db/audiotext", {"interface": "https"}),
        ("https://u:p@db:9443/audiotext", {"interface": "https"}),
        ("clickhouse://u:p@db:8443/audiotext", {"interface": "https"}),
    ],
)
def test_a_dsn_says_whether_clickhouse_has_tls(dsn: str, options: dict[str, str]) -> None:
    """A cloud's address must not be spoken to in the clear, nor a plain one by TLS."""
    assert tls_options(ClickHouseSettings(dsn=SecretStr(dsn))) == options


def test_where_the_bucket_stands_in_a_url() -> None:
    """Path style is what MinIO wants, host style what some clouds insist on; the setting has to reach the client."""
    settings = S3Settings(endpoint="https://s3.example.com", access_key="a", secret_key=SecretStr("s"), region="eu-1")
    urls = {
        style: ObjectStore(settings.model_copy(update={"addressing": style}))._client.presigned_get_object(
            "audiotext", "key"
        )
        for style in ("path", "host", "auto")
    }
    assert urls["path"].startswith("https://s3.example.com/audiotext/key?")
    assert urls["host"].startswith("https://audiotext.s3.example.com/key?")
    assert urls["auto"].startswith("https://s3.example.com/audiotext/key?")
    assert all("eu-1" in url for url in urls.values())


@pytest.mark.parametrize(
    ("kafka", "words"),
    [
        ({"security_protocol": "sasl_ssl", "sasl_username": "u"}, "needs sasl_mechanism"),
        ({"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}, "has to be sasl_ssl"),
        ({"ssl_ca_location": __file__}, "has to be ssl or sasl_ssl"),
        ({"security_protocol": "ssl", "ssl_key_location": __file__}, "belong together"),
        ({"security_protocol": "ssl", "ssl_ca_location": "/no/such/file"}, "does not point to a file"),
    ],
)
def test_half_a_connection_is_refused(kafka: dict[str, str], words: str) -> None:
    """What would be ignored silently (a password on a plaintext connection) or missed much later is said at once."""
    with pytest.raises(SettingsError, match=words):
        load(kafka=kafka)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    """A wrong file must be one clear sentence, not a trace out of the ssl module."""
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("nothing")
    with pytest.raises(SettingsError, match=r"ca\.pem does not contain a PEM certificate"):
        client_context(Tls(ca_file=nonsense))
    with pytest.raises(SettingsError, match="are not a PEM certificate and its key"):
        client_context(Tls(cert_file=nonsense, key_file=nonsense))
    with pytest.raises(ValidationError, match="belong together"):
        Tls(key_file=nonsense)
    assert KafkaSettings(security_protocol="ssl", ssl_ca_location=nonsense).ssl_ca_location == nonsense
