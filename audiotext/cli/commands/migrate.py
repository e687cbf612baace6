"""Command `audiotext migrate`: brings the schemas of the stores up to date."""

import argparse

from audiotext.cli.arguments import Parser, add_running_stack_option

HELP = "bring ClickHouse, Qdrant and the S3 bucket up to date"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    parser.add_argument("--check", action="store_true", help="only list what is missing; exit code 1 if anything is")
    add_running_stack_option(parser)


def run(args: argparse.Namespace) -> int:
    """Migrates the stores and lists the steps. With --check it only lists them, and returns 1 if there are any."""
    from audiotext import migrations
    from audiotext.cli.connection import settings_for

    settings, _ = settings_for(args.data_dir)
    steps = migrations.pending(settings)
    if steps and not args.check:
        migrations.apply(settings)
    for step in steps:
        print(step.pending if args.check else step.done)
    if not steps:
        print("everything is up to date")
    elif args.check:
        print("run `audiotext migrate`")
    return 1 if steps and args.check else 0
