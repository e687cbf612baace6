"""The embedded vector store: qdrant-client's local mode in a process of its own (`qdrant_shim`)."""

import sys

from audiotext.embedded.server import LOOPBACK, Server, port_answers
from audiotext.embedded.state import State

KEY_VARIABLE = "EMBEDDED_QDRANT_API_KEY"

# By name: importing it takes two seconds, which whoever only starts it need not wait for.
_SHIM = "audiotext.embedded.qdrant_shim"


def server(state: State) -> Server:
    """The embedded vector store over `data_dir/qdrant`."""
    port = state.port("qdrant")
    key = state.secret("qdrant")
    return Server(
        name="qdrant",
        command=(sys.executable, "-m", _SHIM, "--data-dir", str(state.data_dir), "--port", str(port)),
        env={KEY_VARIABLE: key},
        addresses={"AUDIOTEXT_QDRANT__URL": f"http://{LOOPBACK}:{port}", "AUDIOTEXT_QDRANT__API_KEY": key},
        answers=lambda: port_answers(port),  # it listens only once the files are open
    )
