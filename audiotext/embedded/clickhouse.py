"""The embedded ClickHouse: its engine (chDB) in a process of its own (`clickhouse_shim`)."""

import importlib.util
import sys

from audiotext.embedded.server import LOOPBACK, MissingExtraError, Server, port_answers
from audiotext.embedded.state import State

USER = "audiotext"
PASSWORD_VARIABLE = "EMBEDDED_CLICKHOUSE_PASSWORD"

# By name: whoever only starts it need not wait for its imports.
_SHIM = "audiotext.embedded.clickhouse_shim"


def server(state: State) -> Server:
    """The embedded ClickHouse over `data_dir/clickhouse`. Raises MissingExtraError."""
    if importlib.util.find_spec("chdb") is None:
        raise MissingExtraError("the embedded ClickHouse (chdb)")
    port = state.port("clickhouse")
    password = state.secret("clickhouse")
    return Server(
        name="clickhouse",
        command=(sys.executable, "-m", _SHIM, "--data-dir", str(state.data_dir), "--port", str(port)),
        env={PASSWORD_VARIABLE: password, "TZ": "UTC"},
        addresses={"AUDIOTEXT_CLICKHOUSE__DSN": f"clickhouse://{USER}:{password}@{LOOPBACK}:{port}/default"},
        answers=lambda: port_answers(port),  # it listens only once the engine is open
    )
