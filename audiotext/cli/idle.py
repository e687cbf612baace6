"""`audiotext idle`: waits for a gateway's last live stream, so that nobody ends it before."""

import argparse
import http.client
import sys
import time

from audiotext.cli.connection import settings_for
from core.counting import number_of
from core.errors import UserError

_EVERY_S = 1.0
_TIMEOUT_S = 5.0
_GAUGE = b"audiotext_gateway_streams_live "


class NoGatewayError(UserError):
    """No gateway answers on this machine."""


def run(args: argparse.Namespace) -> int:
    """Returns 0 once no stream has been live for `settle` seconds, 1 if some still are after `timeout` seconds. Says
    what it waits for whenever that changes."""
    settings, _ = settings_for(args.data_dir)
    port = settings.gateway.port
    began = time.monotonic()
    idle_since: float | None = None
    said: float | None = None
    while True:
        live = _streams_live(port)
        if live != said:
            print(_told(live, args.timeout, args.settle), file=sys.stderr, flush=True)
            said = live
        now = time.monotonic()
        idle_since = (idle_since or now) if live == 0 else None
        if idle_since is not None and now - idle_since >= args.settle:
            return 0
        if now - began >= args.timeout:
            print(f"{_streams(live)} still live after {args.timeout:g} s")
            return 1
        time.sleep(_EVERY_S)


def _told(live: float, timeout_s: float, settle_s: float) -> str:
    if not live:
        return f"no stream is live; waiting {settle_s:g} s for another"
    return f"{_streams(live)} live; waiting until none is, {timeout_s:g} s at most"


def _streams(live: float) -> str:
    return number_of(round(live), "stream is", "streams are")


def _streams_live(port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        for line in connection.getresponse().read().splitlines():
            if line.startswith(_GAUGE):
                return float(line.removeprefix(_GAUGE))
    except (OSError, http.client.HTTPException) as error:
        raise NoGatewayError(f"no gateway answers on port {port}: {error}") from None
    finally:
        connection.close()
    raise NoGatewayError(f"what answers on port {port} is no gateway")
