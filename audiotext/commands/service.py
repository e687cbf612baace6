"""`audiotext run SERVICE`."""

import argparse

from audiotext import logs
from audiotext.services import entry_point
from audiotext.settings import load


def run(args: argparse.Namespace) -> int:
    """Runs the service until SIGTERM or Ctrl-C."""
    settings = load()
    logs.configure(args.service, settings.log_level)
    entry_point(args.service)(settings)
    return 0
