"""`audiotext migrate`."""

import argparse

from audiotext import migrations
from audiotext.cli.connection import settings_for


def run(args: argparse.Namespace) -> int:
    """Brings the stores' schemas up to date; with --check only says what would be done, and returns 1 if anything."""
    settings, _ = settings_for(args.data_dir)
    todo = migrations.pending(settings)
    if todo and not args.check:
        migrations.apply(settings)
    for line in todo:
        print(line if args.check else line.replace("is to be ", "").replace("is to become", "is now"))
    if not todo:
        print("everything is up to date")
    elif args.check:
        print("`audiotext migrate` does it")
    return 1 if todo and args.check else 0
