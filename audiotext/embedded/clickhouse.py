"""Embedded ClickHouse: its engine (chDB) in a separate process (`clickhouse_shim`).

It has the certificate of the data directory. So clients never send the password to a program that took its port.
"""

import importlib.util
import sys
from urllib.parse import urlsplit

from audiotext.embedded import certificates
from audiotext.embedded.server import LOOPBACK, MissingExtraError, Server, port_is_open
from audiotext.embedded.state import State

USER = "audiotext"
PASSWORD_VARIABLE = "EMBEDDED_CLICKHOUSE_PASSWORD"
# User for analysts: see `clickhouse_readonly`.
ANALYST = "analyst"
ANALYST_PASSWORD_VARIABLE = "EMBEDDED_CLICKHOUSE_ANALYST_PASSWORD"
_ANALYST_SECRET = "clickhouse-analyst"

# A name, because importing the module takes long and is not needed to start it.
_SHIM = "audiotext.embedded.clickhouse_shim"


def server(state: State) -> Server:
    """Returns the embedded ClickHouse for `data_dir/clickhouse`. Raises MissingExtraError."""
    if importlib.util.find_spec("chdb") is None:
        raise MissingExtraError("the embedded ClickHouse (chdb)")
    port = state.port("clickhouse")
    password = state.secret("clickhouse")
    files = certificates.ensure(state.data_dir)
    return Server(
        name="clickhouse",
        command=(sys.executable, "-m", _SHIM, "--data-dir", str(state.data_dir), "--port", str(port)),
        env={
            PASSWORD_VARIABLE: password,
            ANALYST_PASSWORD_VARIABLE: state.secret(_ANALYST_SECRET),
            "TZ": "UTC",
        },
        addresses={
            "AUDIOTEXT_CLICKHOUSE__DSN": f"clickhouses://{USER}:{password}@{LOOPBACK}:{port}/default",
            "AUDIOTEXT_CLICKHOUSE__CA_FILE": str(files.ca),
        },
        is_ready=lambda: port_is_open(port),  # it listens only after the engine is open
    )


def analyst_dsn(state: State, dsn: str) -> str:
    """Returns the address of the embedded ClickHouse for analysts: read-only. dsn: the address for services."""
    url = urlsplit(dsn)
    return url._replace(netloc=f"{ANALYST}:{state.secret(_ANALYST_SECRET)}@{url.hostname}:{url.port}").geturl()
