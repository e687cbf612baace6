"""Command `audiotext topics apply|check|group`: manages the topics and the positions of consumer groups."""

import argparse
from dataclasses import asdict

from audiotext.cli.arguments import (
    Parser,
    add_command,
    add_json_option,
    add_running_stack_option,
    subcommands,
    time_ms,
)
from audiotext.stack.services import GROUPS
from core.counting import number_of
from core.errors import UserError

HELP = "create and check the topics of redpanda/topics.yaml"


def add_arguments(parser: Parser) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    create = add_command(commands, "apply", "create missing topics", apply)
    compare = add_command(commands, "check", "show how the topics on the log differ from redpanda/topics.yaml", check)
    add_json_option(compare)
    for command in (create, compare):
        add_running_stack_option(command)

    move = add_command(commands, "group", "show the positions of a consumer group, or move it", group)
    move.add_argument("group", metavar="GROUP", help=", ".join(GROUPS) + ", or another group")
    target = move.add_mutually_exclusive_group()
    target.add_argument(
        "--since", type=_position_ms, metavar="T", help="move it to: start, an age (30m, 12h, 7d) or a UTC time"
    )
    target.add_argument("--like", metavar="OTHER", help="move it to the positions of this group")
    add_json_option(move)
    add_running_stack_option(move)


def apply(args: argparse.Namespace) -> int:
    """Creates the missing topics and prints them."""
    from audiotext.cli.connection import settings_for
    from redpanda import topics

    settings, stack = settings_for(args.data_dir)
    embedded = stack is not None and "log" in stack.embedded
    created = topics.apply(settings.kafka, embedded=embedded)
    partitions = topics.partitions(settings.kafka, embedded=embedded)
    for topic in created:
        print(f"created {topic} with {number_of(partitions, 'partition')}")
    existing = len(topics.load().topics) - len(created)
    print(f"{len(created)} created, {existing} existed already")
    return 0


def group(args: argparse.Namespace) -> int:
    """Prints the positions of a consumer group, after moving it if --since or --like is given."""
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for
    from redpanda import group_offsets

    settings, _ = settings_for(args.data_dir)
    if args.since is None and args.like is None:
        found = group_offsets.committed_offsets(settings.kafka, args.group)
        if not found and args.group not in GROUPS:
            raise UserError(f"there is no group {args.group} on this log; AudioText's are {', '.join(GROUPS)}")
    else:
        found = group_offsets.move(settings.kafka, args.group, since_ms=args.since, like=args.like)
    positions = sorted(found.items())
    if args.json:
        listing.show_json({"topic": topic, "partition": part, "position": at} for (topic, part), at in positions)
        return 0
    for (topic, partition), offset in positions:
        print(f"{topic}[{partition}]  {offset}")
    print(f"group {args.group} has positions on {number_of(len(found), 'partition')}")
    return 0


def check(args: argparse.Namespace) -> int:
    """Prints how the topics on the log differ from redpanda/topics.yaml. Returns 1 if they do."""
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for
    from redpanda import topics

    settings, stack = settings_for(args.data_dir)
    differences = topics.check(settings.kafka, embedded=stack is not None and "log" in stack.embedded)
    if args.json:
        listing.show_json(asdict(difference) for difference in differences)
        return 1 if differences else 0
    for difference in differences:
        print(difference)
    if differences:
        print(
            "`audiotext topics apply` creates missing topics. It does not change existing ones, because that affects "
            "their data: change those yourself"
        )
        return 1
    print(f"all {len(topics.load().topics)} topics match redpanda/topics.yaml")
    return 0


def _position_ms(text: str) -> int:
    """Returns a point in time in ms since the epoch; `start` is 0."""
    return 0 if text == "start" else time_ms(text)
