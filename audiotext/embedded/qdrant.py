"""Embedded vector store: qdrant-client's local mode in a separate process (`qdrant_shim`).

It has the certificate of the data directory. So clients never send the key to a program that took its port.
"""

import sys

from audiotext.embedded import certificates
from audiotext.embedded.server import LOOPBACK, Server, port_is_open
from audiotext.embedded.state import State

KEY_VARIABLE = "EMBEDDED_QDRANT_API_KEY"

# A name, because importing the module takes two seconds and is not needed to start it.
_SHIM = "audiotext.embedded.qdrant_shim"


def server(state: State) -> Server:
    """Returns the embedded vector store for `data_dir/qdrant`."""
    port = state.port("qdrant")
    key = state.secret("qdrant")
    files = certificates.ensure(state.data_dir)
    return Server(
        name="qdrant",
        command=(sys.executable, "-m", _SHIM, "--data-dir", str(state.data_dir), "--port", str(port)),
        env={KEY_VARIABLE: key},
        addresses={
            "AUDIOTEXT_QDRANT__URL": f"https://{LOOPBACK}:{port}",
            "AUDIOTEXT_QDRANT__API_KEY": key,
            "AUDIOTEXT_QDRANT__CA_FILE": str(files.ca),
        },
        is_ready=lambda: port_is_open(port),  # it listens only after the files are open
    )
