"""Tests of the embedded object storage: durability and access control."""

import json

import pytest
import urllib3
from pydantic import SecretStr

from core.settings import S3Settings
from sinks.object_store import ObjectStore, ObjectStoreError
from tests.conftest import StartServer, s3_settings


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
    assert urllib3.request("GET", f"{s3.endpoint}/{s3.bucket}/").status == 403


def test_filer_requires_a_token(start_server: StartServer) -> None:
    """Requests an object from SeaweedFS' filer without a token.

    It must be rejected; by default the filer returns it.
    """
    server = start_server("objects")
    ObjectStore(s3_settings(server)).put("secret.wav", b"what was said", "audio/wav")
    ports = json.loads((server.data_dir / "stack.json").read_text())["ports"]
    for path in ("/buckets/audiotext/secret.wav", "/buckets/audiotext/", "/"):
        response = urllib3.request("GET", f"http://127.0.0.1:{ports['filer']}{path}")
        assert response.status == 401, path
        assert b"what was said" not in response.data
    upload = urllib3.request("POST", f"http://127.0.0.1:{ports['filer']}/x", fields={"file": ("x", b"x")})
    assert upload.status == 401
    for volume in range(1, 8):
        response = urllib3.request("GET", f"http://127.0.0.1:{ports['volume']}/{volume},01637037d6")
        assert b"what was said" not in response.data


def test_credential_files_are_private(start_server: StartServer) -> None:
    """Reads the permissions of the files with credentials: only the owner may read them."""
    server = start_server("objects")
    for name in ("stack.json", "objects/s3.json", "objects/security.toml"):
        assert (server.data_dir / name).stat().st_mode & 0o077 == 0, name
