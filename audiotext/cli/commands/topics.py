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
from pipelines.stages import STAGES

HELP = "create and check the topics of redpanda/topics.yaml"


def add_arguments(parser: Parser) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    create = add_command(commands, "apply", "create missing topics", apply)
    compare = add_command(commands, "check", "show how the topics on the log differ from redpanda/topics.yaml", check)
    add_json_option(compare)
    for command in (create, compare):
        add_running_stack_option(command)

    move = add_command(commands, "group", "show the position, end and lag of a consumer group, or move it", group)
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

    settings, stack = settings_for(args.data_dir)
    if args.since is not None or args.like is not None:
        try:
            group_offsets.move(settings.kafka, args.group, since_ms=args.since, like=args.like)
        except group_offsets.GroupHasMembersError as error:
            raise UserError(f"{error}. {_how_to_stop(args.group, local=stack is not None)}") from None
    found = group_offsets.positions(settings.kafka, args.group)
    if not found and args.group not in GROUPS:
        raise UserError(f"there is no group {args.group} on this log; AudioText's are {', '.join(GROUPS)}")
    if args.json:
        listing.show_json(asdict(position) for position in found)
        return 0
    if found:
        listing.show(
            ("topic", "partition", "position", "end", "lag"),
            [
                (one.topic, *("-" if at is None else str(at) for at in (one.partition, one.position, one.end, one.lag)))
                for one in found
            ],
        )
    lag = number_of(sum(one.lag for one in found), "record")
    print(f"group {args.group} has a lag of {lag} on {number_of(len(found), 'partition')}")
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
        print(*topics.advice(differences), sep="\n")
        return 1
    print(f"all {len(topics.load().topics)} topics match redpanda/topics.yaml")
    return 0


def _how_to_stop(group: str, *, local: bool) -> str:
    """Returns the steps that stop the service of a group. local: True if `audiotext up` runs the stack."""
    service = next((spec.service for spec in STAGES if spec.group == group), None)
    if service is None:
        return "Stop the programs that read with this group, and try again."
    if local:
        return (
            f"Stop `audiotext up`, start it with `--without {service}`, wait a minute, and repeat this command; then "
            "stop it and start it as usual."
        )
    return (
        f"Stop every process of the service {service} (`docker compose stop {service}`, "
        f"`kubectl scale deployment {service} --replicas=0`), wait until their sessions have timed out (a minute), and "
        "repeat this command; then start them again."
    )


def _position_ms(text: str) -> int:
    """Returns a point in time in ms since the epoch; `start` is 0."""
    return 0 if text == "start" else time_ms(text)
