"""A connection to ClickHouse. Synchronous: call it from a thread where a loop must not wait."""

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
_CONNECT_TIMEOUT_S = 3  # short: whoever calls has a retry schedule of its own
_REQUEST_TIMEOUT_S = 30
# For services that only insert and are to end soon after SIGTERM even if ClickHouse hangs. An insert given up may
# still come through; it is told again, which changes nothing. Well above what the largest checkpoint takes, or it
# would never get through.
INSERT_TIMEOUT_S = 10
_LOOK_TIMEOUT_S = 5


class StoreUnavailableError(UserError):
    """ClickHouse is away, does not do what it is asked, or none is configured; the message says which. But for the
    last, worth another try."""


class Database:
    """The database that the DSN names. Connects when first used; thread-safe."""

    def __init__(self, settings: ClickHouseSettings, *, timeout_s: int = _REQUEST_TIMEOUT_S) -> None:
        """Connects to nothing yet. timeout_s: how long an answer may keep us waiting, those while connecting included.

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

    def migrate(self) -> None:
        """Creates the database and brings its schema up to date. Every use does this first; calling it tells early
        whether ClickHouse answers. Raises StoreUnavailableError, SchemaTooNewError."""
        self._connected()

    def inspect(self) -> schema.State:
        """The server's version and what has been applied to our database. Changes nothing. Raises
        StoreUnavailableError."""
        try:
            client = self._open("default")
            try:
                return schema.state(client, self._name)
            finally:
                client.close()
        except ClickHouseError as error:
            raise self._unavailable(error) from error

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        """Rows of a query by column name. Parameters stand in it as `{name:Type}`. Raises StoreUnavailableError."""
        client = self._connected()
        try:
            return list(client.query(sql, parameters=dict(parameters or {})).named_results())
        except ClickHouseError as error:
            raise self._unavailable(error) from error

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Runs a statement that has no rows. Parameters as in `query`. Raises StoreUnavailableError."""
        client = self._connected()
        try:
            client.command(sql, parameters=dict(parameters or {}))
        except ClickHouseError as error:
            raise self._unavailable(error) from error

    def insert(self, rows: Sequence[Row]) -> None:
        """Inserts the rows, one insert per table, and returns once ClickHouse has them.

        Raises StoreUnavailableError; some of the rows may then be there, so insert all of them again.
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
            if types is None:  # asked once, not before each insert
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
        # Connecting to a database that is not there fails: the first connection, to one that always is, makes it.
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
            # Queries of one session must not overlap; without a session threads can share the client.
            autogenerate_session_id=False,
        )

    def _unavailable(self, error: ClickHouseError) -> StoreUnavailableError:
        url = urlsplit(self._dsn)
        # The client's account of a network error is a page of its own internals; it stays as the cause.
        reason = "it does not answer" if isinstance(error, OperationalError) else str(error)
        return StoreUnavailableError(f"ClickHouse at {url.hostname}:{url.port or 8123}: {reason}")


def refuse_newer(settings: Settings) -> None:
    """Raises SchemaTooNewError if a newer version has migrated the database. One that is away, or of which nothing is
    said, is let pass."""
    with suppress(StoreUnavailableError):
        Database(settings.clickhouse, timeout_s=_LOOK_TIMEOUT_S).inspect().refuse_newer()


def tls_options(settings: ClickHouseSettings) -> dict[str, Any]:
    """The client's arguments for TLS: on for clickhouses:// and https://, the ports 8443 and 443, and where a CA file
    is given. A client certificate signs in on its own unless the DSN has a password."""
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
