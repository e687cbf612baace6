"""`audiotext doctor`."""

import argparse
import asyncio
import logging
from dataclasses import asdict

from audiotext.cli import listing
from audiotext.cli.connection import settings_for
from audiotext.doctor.checks import examine, looks
from audiotext.embedded import log


def run(args: argparse.Namespace) -> int:
    """Looks at everything at once and prints a line each; the exit code is 1 if something is wrong."""
    settings, stack = settings_for(args.data_dir)
    logging.getLogger().addHandler(logging.NullHandler())  # what clients say besides is in the findings
    found = asyncio.run(examine(looks(settings, embedded=stack is not None and log.NAME in stack.embedded)))
    if args.json:
        listing.show_json(asdict(check) for check in found)
        return 0 if all(check.ok for check in found) else 1
    width = max(len(check.name) for check in found)
    for check in found:
        mark = "ok   " if check.ok else "WRONG"
        print(f"{mark}  {check.name:<{width}}  {check.detail}" + (f" → {check.fix}" if check.fix else ""))
    return 0 if all(check.ok for check in found) else 1
