"""Embedded vector store: qdrant-client's local mode in a separate process (`qdrant_shim`)."""

import sys

from audiotext.embedded.server import LOOPBACK, Server, port_is_open
from audiotext.embedded.state import State

KEY_VARIABLE = "EMBEDDED_QDRANT_API_KEY"

# A name, because importing the module takes two seconds and is not needed to start it.
_SHIM = "audiotext.embedded.qdrant_shim"


def server(state: State) -> Server:
    """Returns the embedded vector store for `data_dir/qdrant`."""
    port = state.port("qdrant")
    key = state.secret("qdrant")
    return Server(
        name="qdrant",
        command=(sys.executable, "-m", _SHIM, "--data-dir", str(state.data_dir), "--port", str(port)),
        env={KEY_VARIABLE: key},
        addresses={"AUDIOTEXT_QDRANT__URL": f"http://{LOOPBACK}:{port}", "AUDIOTEXT_QDRANT__API_KEY": key},
        is_ready=lambda: port_is_open(port),  # it listens only after the files are open
    )
