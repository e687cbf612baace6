"""Connection to ClickHouse. Synchronous: use a thread if an event loop must not wait."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from core.errors import UserError
from core.settings import ClickHouseSettings, Settings
from sinks.clickhouse import schema
from sinks.clickhouse.rows import Row, columns, values

_DEFAULT_DATABASE = "audiotext"
_CONNECT_TIMEOUT_S = 3  # short: callers have their own retry schedules
_REQUEST_TIMEOUT_S = 30
# For services that only insert and must end soon after SIGTERM even if ClickHouse hangs. An abandoned insert may still
# succeed; repeating it changes nothing. The limit is well above the duration of the largest checkpoint, which would
# otherwise never succeed.
INSERT_TIMEOUT_S = 10
_INSPECT_TIMEOUT_S = 5


class StoreUnavailableError(UserError):
    """ClickHouse is unavailable, refused a statement, or is not configured; the message says which.

    A retry may succeed unless ClickHouse is not configured.
    """


class Database:
    """Database that the DSN names. Connects on first use. Thread-safe."""

    def __init__(self, settings: ClickHouseSettings, *, timeout_s: int = _REQUEST_TIMEOUT_S) -> None:
        """Does not connect yet. timeout_s: limit for each response, including those during connecting.

        Raises StoreUnavailableError if no DSN is configured.
        """
        if settings.dsn is None:
            raise StoreUnavailableError(
                "no ClickHouse is configured: set AUDIOTEXT_CLICKHOUSE__DSN, or use `audiotext up`, which embeds one"
            )
        self._dsn = settings.dsn.get_secret_value()
        self._tls = tls_options(settings)
        self._name = unquote(urlsplit(self._dsn).path.strip("/")) or _DEFAULT_DATABASE
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._types: dict[str, Sequence[ClickHouseType]] = {}

    @classmethod
    def of(cls, clickhouse: "ClickHouseSettings | Database") -> "Database":
        """Returns the database, or the one that these settings name."""
        return clickhouse if isinstance(clickhouse, Database) else cls(clickhouse)

    def migrate(self) -> None:
        """Creates the database and migrates its schema.

        The first use of the database does the same; invoke this to find out early whether ClickHouse answers. Raises
        StoreUnavailableError, SchemaTooNewError.
        """
        self._connected()

    def inspect(self) -> schema.SchemaState:
        """Returns the server's version and the applied migrations, without changes. Raises StoreUnavailableError."""
        try:
            client = self._open("default")
            try:
                return schema.read_state(client, self._name)
            finally:
                client.close()
        except ClickHouseError as error:
            raise self._unavailable(error) from error

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        """Returns the rows of a query by column name. Parameters are written `{name:Type}`.

        Raises StoreUnavailableError.
        """
        client = self._connected()
        try:
            return list(client.query(sql, parameters=dict(parameters or {})).named_results())
        except ClickHouseError as error:
            raise self._unavailable(error) from error

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Runs a statement without a result. Parameters as in `query`. Raises StoreUnavailableError."""
        client = self._connected()
        try:
            client.command(sql, parameters=dict(parameters or {}))
        except ClickHouseError as error:
            raise self._unavailable(error) from error

    def insert(self, rows: Sequence[Row]) -> None:
        """Inserts the rows, one insert per table, and returns once ClickHouse has stored them.

        Raises StoreUnavailableError; some rows may be stored then, so insert all rows again.
        """
        by_table: dict[type[Row], list[Row]] = {}
        for row in rows:
            by_table.setdefault(type(row), []).append(row)
        for row_type, group in by_table.items():
            self.insert_values(row_type.table, columns(row_type), [values(row) for row in group])

    def insert_values(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Inserts rows of plain values. Raises StoreUnavailableError."""
        client = self._connected()
        try:
            types = self._types.get(table)
            if types is None:  # queried once, not before each insert
                types = client.create_insert_context(table, names).column_types
                self._types[table] = types
            client.insert(table, rows, column_names=names, column_types=types)
        except ClickHouseError as error:
            raise self._unavailable(error) from error

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                try:
                    self._client = self._connect()
                except ClickHouseError as error:
                    raise self._unavailable(error) from error
            return self._client

    def _connect(self) -> Client:
        # Connecting to a missing database fails, so a first connection to the default database creates ours.
        first = self._open("default")
        try:
            first.command(f"CREATE DATABASE IF NOT EXISTS {schema.quoted(self._name)}")
        finally:
            first.close()
        client = self._open(self._name)
        try:
            schema.migrate(client)
        except BaseException:
            client.close()
            raise
        return client

    def _open(self, database: str) -> Client:
        return clickhouse_connect.get_client(
            dsn=self._dsn,
            database=database,
            **self._tls,
            connect_timeout=_CONNECT_TIMEOUT_S,
            send_receive_timeout=self._timeout_s,
            # Queries of one session must not overlap; without a session, threads can share the client.
            autogenerate_session_id=False,
        )

    def _unavailable(self, error: ClickHouseError) -> StoreUnavailableError:
        url = urlsplit(self._dsn)
        # The client describes a network error by a page of its internals; the exception keeps it as the cause.
        reason = "it does not answer" if isinstance(error, OperationalError) else str(error)
        return StoreUnavailableError(f"ClickHouse at {url.hostname}:{url.port or 8123}: {reason}")


def require_known_schema(settings: Settings) -> None:
    """Raises SchemaTooNewError if a newer version has migrated the database.

    Accepts a database that is unavailable or not configured.
    """
    with suppress(StoreUnavailableError):
        Database(settings.clickhouse, timeout_s=_INSPECT_TIMEOUT_S).inspect().require_known()


def tls_options(settings: ClickHouseSettings) -> dict[str, Any]:
    """Returns the client's arguments for TLS.

    TLS is on for clickhouses:// and https://, for the ports 8443 and 443, and with a CA file. A client certificate
    alone authenticates unless the DSN has a password.
    """
    url = urlsplit(settings.dsn.get_secret_value() if settings.dsn else "")
    if not (url.scheme in ("clickhouses", "https") or url.port in (443, 8443) or settings.ca_file):
        return {}
    options = {"interface": "https"}
    if settings.ca_file:
        options["ca_cert"] = str(settings.ca_file)
    if settings.cert_file and settings.key_file:
        options |= {"client_cert": str(settings.cert_file), "client_cert_key": str(settings.key_file)}
        options["tls_mode"] = "strict" if url.password else "mutual"
    return options
