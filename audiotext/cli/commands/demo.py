"""Command `audiotext demo`: runs the stack, plays two real calls and prints their results."""

import argparse
import os

from audiotext.cli.arguments import Parser, add_stack_options, positive

HELP = "run everything, play two real calls and show the results"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    add_stack_options(parser)
    parser.add_argument("--keep", action="store_true", help="keep everything running afterwards")
    parser.add_argument("--speed", type=positive, default=4.0, metavar="N", help="play N times as fast (4)")


def run(args: argparse.Namespace) -> int:
    """Runs the demo. Returns 0 if both calls have every result."""
    from audiotext.demo.main import run_demo
    from core import process

    os.umask(process.PRIVATE_UMASK)
    return run_demo(args.data_dir, args.port, args.speed, keep=args.keep)
