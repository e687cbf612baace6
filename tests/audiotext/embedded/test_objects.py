"""Tests of the embedded object storage: durability and access control."""

import json
import socket
import ssl
from functools import partial

import pytest
import urllib3
from pydantic import SecretStr

from audiotext.embedded.server import port_is_open
from core.settings import S3Settings
from sinks.object_store import ObjectStore, ObjectStoreError
from tests.conftest import StartServer, s3_settings
from tests.support.waiting import wait_until


def test_objects_survive_restart_and_kill(start_server: StartServer) -> None:
    """Writes objects, ends the server by SIGTERM and by SIGKILL, and reads and writes after each.

    A failure means that recordings are lost or that the storage does not start again.
    """
    server = start_server("objects")
    contents = {}
    for number, end in enumerate((server.stop, server.kill)):
        store = ObjectStore(s3_settings(server))
        for size in (10, 3_000_000):
            contents[f"call/{number}/{size}"] = bytes([number + 1]) * size
            store.put(f"call/{number}/{size}", contents[f"call/{number}/{size}"], "audio/wav")
        end()
        server.start()
        store = ObjectStore(s3_settings(server))
        assert {key: store.get(key) for key in contents} == contents


def test_wrong_credentials_are_rejected(s3: S3Settings) -> None:
    """Reads and lists with a wrong secret: both must fail."""
    wrong = s3.model_copy(update={"secret_key": SecretStr("wrong")})
    with pytest.raises(ObjectStoreError):
        ObjectStore(wrong).put("x", b"x", "text/plain")
    anonymous = urllib3.PoolManager(ca_certs=str(s3.ca_file))
    assert anonymous.request("GET", f"{s3.endpoint}/{s3.bucket}/").status == 403


def test_internal_ports_require_our_certificate(start_server: StartServer) -> None:
    """Connects to every internal port, with TLS without a certificate and without TLS, and requests data.

    No port may return anything but an error. By default SeaweedFS lists, copies and deletes every object for anyone.
    """
    server = start_server("objects")
    ObjectStore(s3_settings(server)).put("secret.wav", b"words of the call", "audio/wav")
    ports = json.loads((server.data_dir / "stack.json").read_text())["ports"]
    internal = {name: port for name, port in ports.items() if name != "s3"}
    assert len(internal) == 9
    untrusting = ssl.create_default_context()
    untrusting.check_hostname, untrusting.verify_mode = False, ssl.CERT_NONE
    for name, port in internal.items():
        wait_until(partial(port_is_open, port), f"{name} listens")  # S3 is ready before the last of them
        assert _first_bytes(port, untrusting) == b"", name
        plain = _first_bytes(port, None)
        assert plain == b"" or plain.startswith(b"HTTP/1.0 400"), (name, plain)


def _first_bytes(port: int, context: ssl.SSLContext | None) -> bytes:
    """Returns the first bytes of the response to an HTTP request, or none if the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            connection = plain if context is None else context.wrap_socket(plain)
            connection.sendall(b"GET /dir/status HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(1000)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_clients_recognise_the_server(s3: S3Settings) -> None:
    """Connects with another authority than that of the server: nothing may be sent.

    A failure means that a program that takes the port of a crashed server receives recordings.
    """
    with pytest.raises(ObjectStoreError, match="CERTIFICATE_VERIFY_FAILED"):
        ObjectStore(s3.model_copy(update={"ca_file": None})).put("x", b"x", "text/plain")


def test_credential_files_are_private(start_server: StartServer) -> None:
    """Reads the permissions of the files with credentials: only the owner may read them."""
    server = start_server("objects")
    for name in ("stack.json", "objects/s3.json", "objects/security.toml", "tls/key.pem"):
        assert (server.data_dir / name).stat().st_mode & 0o077 == 0, name
