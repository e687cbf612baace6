"""Command `audiotext dlq list|show|replay`: shows and replays dead letters."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from audiotext.cli.arguments import (
    Parser,
    add_command,
    add_json_option,
    add_running_stack_option,
    identifier,
    subcommands,
    tenant,
    time_ms,
)
from audiotext.stack.services import GROUPS
from core.counting import number_of
from core.errors import UsageError, UserError

if TYPE_CHECKING:
    from core.settings import Settings
    from pipelines.runtime.dead_letters import DeadLetterRecord

HELP = "show and replay dead letters"

_LIST_ALL = "audiotext dlq list --all"


def add_arguments(parser: Parser) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    listed = add_command(commands, "list", "list the dead letters that are still open", show_all)
    listed.add_argument("--all", action="store_true", help="list replayed and healed ones too")
    add_json_option(listed)
    shown = add_command(commands, "show", "print one dead letter with its payload", show_one)
    shown.add_argument("dead_letter", metavar="ID", help="id from `audiotext dlq list`, or its beginning")
    replayed = add_command(commands, "replay", "send dead letters back to their stage", replay)
    replayed.add_argument(
        "dead_letters", nargs="*", metavar="ID", help="ids; without, all open ones that match the options"
    )
    for command in (listed, replayed):
        stages = ", ".join(GROUPS)
        command.add_argument("--stage", choices=GROUPS, metavar="S", help=f"only this stage: {stages}")
        command.add_argument("--call", type=identifier, metavar="ID", help="only this call")
        command.add_argument("--tenant", type=tenant, metavar="T", help="only calls of this tenant")
        command.add_argument("--since", type=time_ms, metavar="T", help="not older than 30m, 12h, 7d or a UTC time")
    for command in (listed, shown, replayed):
        add_running_stack_option(command)


def show_all(args: argparse.Namespace) -> int:
    """Lists dead letters, oldest first."""
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for

    settings, _ = settings_for(args.data_dir)
    found = [one for one in _filtered(_read(settings), args) if args.all or one.open]
    if args.json:
        listing.show_json({"id": one.id} | _content(one, payload=False) for one in found)
        return 0
    if found:
        listing.show(
            ("id", "when (UTC)", "stage", "call", "class", "attempts", "replayed (UTC)", "error"),
            [
                (
                    one.id,
                    listing.minute(one.letter.occurred_at_ms),
                    one.letter.stage,
                    one.letter.call_id,
                    one.letter.error_class,
                    str(one.letter.attempts),
                    listing.minute(one.replayed_at_ms),
                    one.letter.error,
                )
                for one in found
            ],
        )
    _note(number_of(len(found), "dead letter"))
    return 0


def show_one(args: argparse.Namespace) -> int:
    """Prints a dead letter as JSON. Its payload is printed as JSON too, if it is JSON."""
    from audiotext.cli.connection import settings_for

    settings, _ = settings_for(args.data_dir)
    found = _find(_read(settings), args.dead_letter)
    content = _content(found, payload=True)
    with suppress(ValueError):  # a payload that is not JSON is printed as text
        content["payload"] = json.loads(found.letter.payload)
    print(json.dumps(content, indent=2, ensure_ascii=False))
    return 0


def replay(args: argparse.Namespace) -> int:
    """Sends dead letters back to the topics of their stages and prints each of them."""
    from audiotext.cli.connection import settings_for
    from pipelines.runtime import dead_letters

    filters = (args.stage, args.call, args.tenant, args.since)
    if not args.dead_letters and all(one is None for one in filters):
        raise UsageError(
            "no dead letter is selected: give ids (see `audiotext dlq list`), or use --stage, --call, --tenant or "
            "--since"
        )
    settings, _ = settings_for(args.data_dir)
    found = _read(settings)
    if args.dead_letters:
        found = list({one.id: one for one in (_find(found, text) for text in args.dead_letters)}.values())
    selected = _open(_filtered(found, args))
    replayable = [one for one in selected if dead_letters.is_replayable(one.letter)]
    for one in dead_letters.replay(settings.kafka, replayable):
        print(f"{one.id}  {one.letter.stage}  {one.letter.call_id}  back on {one.letter.origin_topic}")
    broken = [one.id for one in selected if not dead_letters.is_replayable(one.letter)]
    if broken:
        raise UserError(
            f"{', '.join(broken)}: cannot be replayed, because the record was not text and the dead letter does not "
            "contain all its bytes"
        )
    _note(f"{len(replayable)} replayed")
    return 0


def _read(settings: Settings) -> list[DeadLetterRecord]:
    """Returns all dead letters. Without ClickHouse it is unknown which of them are healed; a note on stderr says so."""
    from pipelines.runtime.dead_letters import healed, read_dead_letters
    from sinks.clickhouse.call_queries import CallStore
    from sinks.clickhouse.client import StoreUnavailableError
    from sinks.clickhouse.replay_queries import ReplayStore

    found = read_dead_letters(settings.kafka)
    try:
        return healed(found, CallStore(settings.clickhouse), ReplayStore(settings.clickhouse))
    except StoreUnavailableError as error:
        _note(f"dead letters of healed calls are listed as open: {error}")
        return found


def _filtered(records: Sequence[DeadLetterRecord], args: argparse.Namespace) -> list[DeadLetterRecord]:
    return [
        one
        for one in records
        if args.stage in (None, one.letter.stage)
        and args.call in (None, one.letter.call_id)
        and args.tenant in (None, one.letter.tenant)
        and (args.since is None or one.letter.occurred_at_ms >= args.since)
    ]


def _open(records: Sequence[DeadLetterRecord]) -> list[DeadLetterRecord]:
    """Returns the dead letters that are neither replayed nor healed, and prints a note for each other one.

    A replayed record that failed again has a new dead letter.
    """
    from audiotext.cli import listing

    for one in records:
        if one.replayed_at_ms is not None:
            _note(f"{one.id} was replayed {listing.minute(one.replayed_at_ms)} UTC")
        elif one.healed:
            _note(f"{one.id} is healed: its stage has a result")
    return [one for one in records if one.open]


def _find(records: Sequence[DeadLetterRecord], text: str) -> DeadLetterRecord:
    """Returns the dead letter whose id is the text or begins with it. Raises UserError."""
    from audiotext.cli import listing

    found_id = listing.id_of(text, (one.id for one in records), "dead letter", _LIST_ALL)
    return next(one for one in records if one.id == found_id)


def _content(one: DeadLetterRecord, *, payload: bool) -> dict[str, object]:
    """Returns the fields of a dead letter for JSON. payload: include the record that failed."""
    fields = one.letter.model_dump(mode="json", exclude=set() if payload else {"payload"})
    return fields | {"replayed_at_ms": one.replayed_at_ms, "healed": one.healed}


def _note(text: str) -> None:
    print(text, file=sys.stderr)
