"""`audiotext topics apply|check|group`."""

import argparse
from dataclasses import asdict

from audiotext.cli import listing
from audiotext.cli.connection import settings_for
from audiotext.stack.services import GROUPS
from core.counting import number_of
from core.errors import UserError
from redpanda import group_offsets as consumer_groups
from redpanda import topics


def apply(args: argparse.Namespace) -> int:
    """Creates what is missing and says what."""
    settings, stack = settings_for(args.data_dir)
    embedded = stack is not None and "log" in stack.embedded
    created = topics.apply(settings.kafka, embedded=embedded)
    number = topics.partitions(settings.kafka, embedded=embedded)
    for topic in created:
        print(f"created {topic} with {number_of(number, 'partition')}")
    print(f"{len(created)} created, {len(topics.load().topics) - len(created)} were there")
    return 0


def groups(args: argparse.Namespace) -> int:
    """Shows where a consumer group stands, or puts it elsewhere."""
    settings, _ = settings_for(args.data_dir)
    if args.since is None and args.like is None:
        found = consumer_groups.committed_offsets(settings.kafka, args.group)
        if not found and args.group not in GROUPS:
            raise UserError(f"there is no group {args.group} on this log; AudioText's are {', '.join(GROUPS)}")
    else:
        found = consumer_groups.move(settings.kafka, args.group, since_ms=args.since, like=args.like)
    places = sorted(found.items())
    if args.json:
        listing.show_json({"topic": topic, "partition": part, "position": at} for (topic, part), at in places)
        return 0
    for (topic, partition), offset in places:
        print(f"{topic}[{partition}]  {offset}")
    print(f"group {args.group} stands on {number_of(len(found), 'partition')}")
    return 0


def check(args: argparse.Namespace) -> int:
    """Says where the log differs from what is written; the exit code is 1 if it does."""
    settings, stack = settings_for(args.data_dir)
    differences = topics.check(settings.kafka, embedded=stack is not None and "log" in stack.embedded)
    if args.json:
        listing.show_json(asdict(one) for one in differences)
        return 1 if differences else 0
    for difference in differences:
        print(difference)
    if differences:
        print("missing topics: `audiotext topics apply`; the rest changes what is on the log, so it is left to you")
        return 1
    print(f"all {len(topics.load().topics)} topics are as written")
    return 0
