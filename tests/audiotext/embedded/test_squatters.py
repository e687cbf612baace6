"""A program that takes the port of a crashed ClickHouse or Qdrant: clients must not send it a password or data."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core.settings import ClickHouseSettings, QdrantSettings
from sinks.clickhouse.client import Database, StoreUnavailableError
from sinks.qdrant.store import VectorStore, VectorStoreError
from tests.conftest import StartServer, clickhouse_settings, qdrant_settings
from tests.support import certificates
from tests.support.running_server import RunningServer


class Squatter:
    """Listener that offers TLS with its own certificate if the client asks for it, and keeps the plain text."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.attempts = 0
        self.received = b""
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.attempts += 1
            connection.settimeout(5)
            try:
                if connection.recv(1, socket.MSG_PEEK) == b"\x16":  # the first byte of TLS
                    connection = self._context.wrap_socket(connection, server_side=True)
                self.received += connection.recv(65536)
            except OSError:
                continue
            finally:
                connection.close()


@contextmanager
def squatter_at(server: RunningServer, address: str, directory: Path) -> Iterator[Squatter]:
    """Kills the server, and listens at its address with a certificate of another authority."""
    files = certificates.make(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    port = urlsplit(address).port
    assert port
    server.kill()
    squatter = Squatter(port, context)
    try:
        yield squatter
    finally:
        squatter.close()


def _query(settings: ClickHouseSettings) -> Callable[[], object]:
    database = Database(settings, timeout_s=5)
    database.query("SELECT 1")
    return lambda: database.query("SELECT 'words of the call'")


def _list(settings: QdrantSettings) -> Callable[[], object]:
    store = VectorStore(settings)
    store.inspect()
    return store.inspect


@pytest.mark.parametrize("name", ["clickhouse", "qdrant"])
def test_a_squatter_receives_nothing(name: str, start_server: StartServer, tmp_path: Path) -> None:
    """Kills the server and listens on its port: the client fails, and sends neither its password nor a query.

    The same client used the real server before, as services do. A failure means that any user of the machine can take
    the password after a crash, and then reads and deletes everything.
    """
    server = start_server(name)
    if name == "clickhouse":
        clickhouse = clickhouse_settings(server)
        address, request = clickhouse.dsn.get_secret_value() if clickhouse.dsn else "", _query(clickhouse)
    else:
        qdrant = qdrant_settings(server)
        address, request = qdrant.url or "", _list(qdrant)
    unavailable = pytest.raises((StoreUnavailableError, VectorStoreError))
    with squatter_at(server, address, tmp_path) as squatter, unavailable:
        request()
    assert squatter.attempts
    assert squatter.received == b""
