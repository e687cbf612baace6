"""Command `audiotext env`: prints the addresses and credentials of a running stack."""

import argparse
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from audiotext.cli.arguments import Parser, add_running_stack_option
from core.errors import UserError

if TYPE_CHECKING:
    from core.settings import Settings

HELP = "print the addresses and credentials of the running stack"

_STORES = ("AUDIOTEXT_KAFKA__", "AUDIOTEXT_S3__", "AUDIOTEXT_CLICKHOUSE__", "AUDIOTEXT_QDRANT__")


def add_arguments(parser: Parser) -> None:
    """Declares the options."""
    parser.add_argument(
        "--analyst", action="store_true", help="print only the read-only access to ClickHouse (see docs/clickhouse.md)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines for a shell")
    add_running_stack_option(parser)


def run(args: argparse.Namespace) -> int:
    """Prints one variable per line, quoted for a shell. Without --analyst, the output gives full access."""
    from audiotext.cli.connection import NotRunningError, settings_for

    settings, stack = settings_for(args.data_dir)
    if stack is None:
        raise NotRunningError(
            f"no stack runs on {settings.data_dir}: start one with `audiotext up`, or give --data-dir"
        )
    if args.analyst:
        if "clickhouse" not in stack.embedded:
            raise UserError(
                "this stack uses a ClickHouse of its own: create a user there as docs/clickhouse.md describes"
            )
        found: Mapping[str, str] = _analyst(args.data_dir or settings.data_dir, settings)
    else:
        found = {"AUDIOTEXT_URL": settings.base_url} | {
            name: value for name, value in sorted(stack.environment.items()) if name.startswith(_STORES) and value
        }
    print(json.dumps(found, indent=1) if args.json else "\n".join(f"{k}={shlex.quote(v)}" for k, v in found.items()))
    return 0


def _analyst(data_dir: Path, settings: "Settings") -> dict[str, str]:
    """Returns the analyst's access to the embedded ClickHouse of the running stack."""
    from audiotext.embedded.clickhouse import analyst_dsn
    from audiotext.embedded.state import State

    assert settings.clickhouse.dsn is not None  # the running stack publishes it
    url = urlsplit(analyst_dsn(State(data_dir), settings.clickhouse.dsn.get_secret_value()))
    return {
        "CLICKHOUSE_URL": f"https://{url.hostname}:{url.port}",
        "CLICKHOUSE_CA_FILE": str(settings.clickhouse.ca_file),
        "CLICKHOUSE_USER": url.username or "",
        "CLICKHOUSE_PASSWORD": url.password or "",
        "CLICKHOUSE_DATABASE": url.path.strip("/"),
    }
