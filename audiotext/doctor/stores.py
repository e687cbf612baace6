"""Checks of the log and the stores: connection, authorisation and version. They leave no changes behind."""

import uuid

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from core.checks import Check
from core.counting import number_of
from core.settings import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings, SettingsError
from redpanda import topics
from redpanda.client import LogUnavailableError, connection_config
from sinks.clickhouse.client import Database, StoreUnavailableError
from sinks.object_store import ObjectMissingError, ObjectStore, ObjectStoreError
from sinks.qdrant.collections import VERSION, require_known_schema
from sinks.qdrant.store import Inspection, VectorStore, VectorStoreError
from sinks.schema_version import SchemaTooNewError

_LOG_TRY_S = 1.0
_LOG_TRIES = 4
_REFUSED = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
_STORE_TIMEOUT_S = 5
_OLDEST_QDRANT = (1, 10)  # the first version with queries that fuse two rankings
_NOT_CONFIGURED = "not configured: `audiotext up` embeds one"
_MIGRATE = "run `audiotext migrate`"


def log(kafka: KafkaSettings, *, embedded: bool) -> Check:
    """Connects to the log and compares its topics with redpanda/topics.yaml."""
    name = "log"
    if not kafka.bootstrap_servers:
        return Check(name, True, _NOT_CONFIGURED)
    errors: list[KafkaError] = []
    # librdkafka reports connection errors only by callback; the request itself times out.
    admin = AdminClient(connection_config(kafka) | {"log_level": 0, "error_cb": errors.append})
    try:
        brokers = _brokers(admin, errors)
        differences = topics.check(kafka, embedded=embedded)
    except KafkaException as error:
        return Check(name, False, f"{kafka.bootstrap_servers}: {_reason(errors, error)}", _log_cure(errors))
    except LogUnavailableError as error:
        return Check(name, False, str(error), "allow this user to describe topics and their configuration")
    if differences:
        found = "; ".join(map(str, differences[:3])) + (f" and {len(differences) - 3} more" if differences[3:] else "")
        missing = any(difference.setting == "missing" for difference in differences)
        return Check(name, False, found, "run `audiotext topics apply`" if missing else "see `audiotext topics check`")
    nodes = f"{brokers} broker{'s' if brokers > 1 else ''}"
    return Check(
        name,
        True,
        f"{kafka.bootstrap_servers}: {nodes}, all {len(topics.load().topics)} topics match redpanda/topics.yaml",
    )


def _brokers(admin: AdminClient, errors: list[KafkaError]) -> int:
    """Returns the number of brokers. Raises KafkaException.

    It tries several times for a short time: librdkafka reports a refusal at once, but keeps trying until the timeout.
    """
    for left in reversed(range(_LOG_TRIES)):
        try:
            return len(admin.list_topics(timeout=_LOG_TRY_S).brokers)
        except KafkaException:
            admin.poll(0)
            if not left or any(error.code() in (*_REFUSED, KafkaError._SSL) for error in errors):
                raise
    raise AssertionError("unreachable")


def _reason(errors: list[KafkaError], error: KafkaException) -> str:
    causes = [one for one in errors if one.code() != KafkaError._ALL_BROKERS_DOWN]
    return " ".join((causes[-1].str() if causes else error.args[0].str()).split())


def _log_cure(errors: list[KafkaError]) -> str:
    codes = {error.code() for error in errors}
    if codes & set(_REFUSED):
        return "check AUDIOTEXT_KAFKA__SASL_USERNAME, …SASL_PASSWORD and …SASL_MECHANISM"
    if KafkaError._SSL in codes:
        return "check AUDIOTEXT_KAFKA__SECURITY_PROTOCOL and …SSL_CA_LOCATION"
    return "start it, or check AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS and …SECURITY_PROTOCOL"


def s3(settings: S3Settings) -> Check:
    """Writes, reads and deletes a small object in the bucket."""
    name = "S3"
    if not settings.endpoint:
        return Check(name, True, _NOT_CONFIGURED)
    key = f"doctor/{uuid.uuid4().hex}"
    try:
        store = ObjectStore(settings)
        if not store.bucket_exists():
            return Check(name, False, f"{settings.endpoint}: there is no bucket {settings.bucket}", _MIGRATE)
        store.put(key, b"doctor", "text/plain")
        intact = store.get(key) == b"doctor"
        store.remove(key)
    except SettingsError as error:
        return Check(name, False, str(error), "see `audiotext settings`")
    except (ObjectStoreError, ObjectMissingError) as error:
        text = str(error).removeprefix(f"{key}: ").removeprefix(f"{settings.bucket}: ")
        return Check(name, False, f"{settings.endpoint}: {_short(text)}", _s3_cure(text))
    if not intact:
        return Check(name, False, f"{settings.endpoint}: returned other bytes than were written", "do not use it")
    return Check(name, True, f"{settings.endpoint}: bucket {settings.bucket}, written, read and deleted")


def _s3_cure(text: str) -> str:
    if any(word in text for word in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Forbidden")):
        return "check AUDIOTEXT_S3__ACCESS_KEY and …SECRET_KEY; they must be allowed to read, write, list and delete"
    if "ertificate" in text or "CERTIFICATE" in text:
        return "set AUDIOTEXT_S3__CA_FILE"
    return "start it, or check AUDIOTEXT_S3__ENDPOINT"


def clickhouse(settings: ClickHouseSettings) -> Check:
    """Connects to ClickHouse and compares its schema with the migrations."""
    name = "ClickHouse"
    if settings.dsn is None:
        return Check(name, True, _NOT_CONFIGURED)
    try:
        state = Database(settings, timeout_s=_STORE_TIMEOUT_S).inspect()
        state.require_known()
    except StoreUnavailableError as error:
        text = _short(str(error))
        refused = "AUTHENTICATION_FAILED" in str(error) or "Authentication failed" in str(error)
        cure = "check user and password in AUDIOTEXT_CLICKHOUSE__DSN" if refused else "start it, or check the DSN"
        return Check(name, False, text, cure)
    except SchemaTooNewError as error:
        return Check(name, False, str(error), "update AudioText")
    if state.pending:
        return Check(
            name,
            False,
            f"{state.server}, {number_of(len(state.pending), 'migration is', 'migrations are')} missing",
            _MIGRATE,
        )
    return Check(name, True, f"{state.server}, {number_of(len(state.applied), 'migration')} applied, none missing")


def qdrant(settings: QdrantSettings) -> Check:
    """Connects to Qdrant and checks the versions of its collections."""
    name = "Qdrant"
    if not settings.url:
        return Check(name, True, _NOT_CONFIGURED)
    try:
        store = VectorStore(settings)
        found = store.inspect()
        require_known_schema(found.collections)
    except SettingsError as error:
        return Check(name, False, str(error), "see `audiotext settings`")
    except VectorStoreError as error:
        refused = " 401" in str(error) or " 403" in str(error)
        cure = "check AUDIOTEXT_QDRANT__API_KEY" if refused else "start it, or check AUDIOTEXT_QDRANT__URL"
        return Check(name, False, f"{settings.url}: {_short(str(error))}", cure)
    except SchemaTooNewError as error:
        return Check(name, False, str(error), "update AudioText")
    return _collections(name, found)


def _collections(name: str, found: Inspection) -> Check:
    if tuple(int(part) for part in found.version.split(".")[:2] if part.isdigit()) < _OLDEST_QDRANT:
        return Check(name, False, f"{found.version} is too old", "use Qdrant 1.10 or newer")
    if old := [collection.name for collection in found.collections if collection.version < VERSION]:
        return Check(name, False, f"{', '.join(old)}: an older version", _MIGRATE)
    if not found.collections:
        return Check(name, True, f"{found.version}, no collection yet: the first transcript creates it")
    return Check(name, True, f"{found.version}, {', '.join(collection.name for collection in found.collections)}")


def _short(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
