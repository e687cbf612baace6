"""`audiotext run SERVICE`."""

import argparse

from audiotext.stack.services import entry_point, refuse_newer_stores
from core import logs
from core.settings import load


def run(args: argparse.Namespace) -> int:
    """Runs the service until SIGTERM or Ctrl-C."""
    settings = load()
    logs.configure(args.service, settings.log_level)
    service = entry_point(args.service)
    refuse_newer_stores(args.service, settings)
    service(settings)
    return 0
