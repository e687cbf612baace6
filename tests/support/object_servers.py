"""Object storage for tests: the embedded SeaweedFS, and MinIO if `minio` is on the PATH.

With OBJECT_STORE=minio all tests use MinIO, except those of SeaweedFS itself (tests/audiotext).
"""

import os
import secrets
import shutil

from pydantic import SecretStr

from audiotext.embedded import objects
from audiotext.embedded.server import LOOPBACK, Server, port_is_open
from audiotext.embedded.state import State
from core.settings import S3Settings
from sinks.object_store import ObjectStore, ObjectStoreError

BUCKET = "audiotext"
STORES = ("seaweedfs", *(("minio",) if shutil.which("minio") else ()))


def server(state: State) -> Server:
    """Returns the server that tests share."""
    return minio(state) if os.environ.get("OBJECT_STORE") == "minio" else objects.server(state, BUCKET)


def seaweedfs(state: State) -> Server:
    """Returns the embedded server."""
    return objects.server(state, BUCKET)


def minio(state: State) -> Server:
    """Returns a MinIO with one node and one disk, over plain HTTP."""
    port, secret = state.port("s3"), secrets.token_urlsafe(24)
    if (kept := state.data_dir / "minio.secret").exists():
        secret = kept.read_text()
    kept.write_text(secret)
    endpoint = f"http://{LOOPBACK}:{port}"

    store = ObjectStore(
        S3Settings(endpoint=endpoint, access_key="audiotext", secret_key=SecretStr(secret), bucket=BUCKET)
    )

    def answers() -> bool:
        # Its own /minio/health/ready says yes while it still answers 503 to everything.
        if not port_is_open(port):
            return False
        try:
            store.ensure_bucket()
        except ObjectStoreError:
            return False
        return True

    return Server(
        name="minio",
        command=("minio", "server", "--quiet", "--address", f"{LOOPBACK}:{port}", str(state.data_dir / "minio")),
        env={"MINIO_ROOT_USER": "audiotext", "MINIO_ROOT_PASSWORD": secret, "MINIO_BROWSER": "off"},
        addresses={
            "AUDIOTEXT_S3__ENDPOINT": endpoint,
            "AUDIOTEXT_S3__ACCESS_KEY": "audiotext",
            "AUDIOTEXT_S3__SECRET_KEY": secret,
        },
        is_ready=answers,
    )
