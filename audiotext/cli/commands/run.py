"""Command `audiotext run SERVICE`: runs one service."""

import argparse
import os

from audiotext.cli.arguments import Parser
from audiotext.stack.services import SERVICES, entry_point, refuse_newer_stores

HELP = "run one service"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    parser.add_argument("service", choices=list(SERVICES), metavar="SERVICE", help=", ".join(SERVICES))


def run(args: argparse.Namespace) -> int:
    """Runs the service until SIGTERM or Ctrl-C."""
    from core import logs, process
    from core.settings import load

    os.umask(process.PRIVATE_UMASK)
    settings = load()
    logs.configure(args.service, settings.log_level, settings.log_format)
    service = entry_point(args.service)
    refuse_newer_stores(args.service, settings)
    service(settings)
    return 0
