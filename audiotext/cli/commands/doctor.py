"""Command `audiotext doctor`: checks every configured system."""

import argparse
import asyncio
import logging
from dataclasses import asdict

from audiotext.cli.arguments import Parser, add_json_option, add_running_stack_option

HELP = "check every configured system and say how to fix it"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    add_json_option(parser)
    add_running_stack_option(parser)


def run(args: argparse.Namespace) -> int:
    """Runs all checks at the same time and prints a line for each.

    Returns 1 if one fails, also if there is neither a running stack nor a configured server.
    """
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for
    from audiotext.doctor.checks import checks_for, run_checks
    from audiotext.embedded import log

    settings, stack = settings_for(args.data_dir, needs_servers=False)
    logging.getLogger().addHandler(logging.NullHandler())  # the findings contain what the clients would log
    embedded = stack is not None and log.NAME in stack.embedded
    found = asyncio.run(run_checks(checks_for(settings, embedded=embedded)))
    exit_code = 0 if all(check.ok for check in found) else 1
    if args.json:
        listing.show_json(asdict(check) for check in found)
        return exit_code
    width = max(len(check.name) for check in found)
    for check in found:
        mark = "ok   " if check.ok else "WRONG"
        print(f"{mark}  {check.name:<{width}}  {check.detail}" + (f" → {check.fix}" if check.fix else ""))
    return exit_code
