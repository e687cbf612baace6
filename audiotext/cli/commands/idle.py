"""Command `audiotext idle`: waits until the gateway has no live stream, so that an update does not cut calls off."""

import argparse
import http.client
import sys
import time

from audiotext.cli.arguments import Parser, add_running_stack_option, positive
from core.counting import number_of
from core.errors import UserError

HELP = "wait until the gateway on this machine has no live stream"

_POLL_INTERVAL_S = 1.0
_TIMEOUT_S = 5.0
_GAUGE = b"audiotext_gateway_streams_live "


class NoGatewayError(UserError):
    """No gateway answers on this machine."""


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    parser.add_argument("--timeout", type=positive, default=3600.0, metavar="S", help="wait at most S seconds (3600)")
    parser.add_argument(
        "--settle", type=positive, default=10.0, metavar="S", help="return after S seconds without a live stream (10)"
    )
    add_running_stack_option(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0 after `settle` seconds without a live stream, or 1 if streams are live after `timeout` seconds.

    Prints the number of live streams when it changes.
    """
    from audiotext.cli.connection import settings_for

    settings, _ = settings_for(args.data_dir, needs_servers=False)
    port = settings.gateway.port
    began = time.monotonic()
    idle_since: float | None = None
    printed: float | None = None
    while True:
        live = _streams_live(port)
        if live != printed:
            print(_progress(live, args.timeout, args.settle), file=sys.stderr, flush=True)
            printed = live
        now = time.monotonic()
        idle_since = (idle_since or now) if live == 0 else None
        if idle_since is not None and now - idle_since >= args.settle:
            return 0
        if now - began >= args.timeout:
            print(f"{_streams(live)} still live after {args.timeout:g} s")
            return 1
        time.sleep(_POLL_INTERVAL_S)


def _progress(live: float, timeout_s: float, settle_s: float) -> str:
    if not live:
        return f"no stream is live; waiting {settle_s:g} s for new streams"
    return f"{_streams(live)} live; waiting until all have ended, at most {timeout_s:g} s"


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
        raise NoGatewayError(
            f"no gateway answers on port {port}: {error}; start one, name the directory of a running stack "
            "with --data-dir, or set AUDIOTEXT_GATEWAY__PORT"
        ) from None
    finally:
        connection.close()
    raise NoGatewayError(f"the server on port {port} is not a gateway: set AUDIOTEXT_GATEWAY__PORT")
