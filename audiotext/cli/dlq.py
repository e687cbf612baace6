"""`audiotext dlq list|show|replay`."""

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from audiotext.cli.connection import settings_for
from core.errors import UserError
from pipelines.runtime.dead_letters import DeadLetterRecord, is_replayable, read_dead_letters
from pipelines.runtime.dead_letters import replay as give_back

_SHORT = 8  # digits of an id that are shown


def show_all(args: argparse.Namespace) -> int:
    """Lists letters, oldest first."""
    settings, _ = settings_for(args.data_dir)
    letters = [
        one for one in _filtered(read_dead_letters(settings.kafka), args) if args.all or one.replayed_at_ms is None
    ]
    table = Table("id", "when (UTC)", "stage", "call", "class", "attempts", "error", "replayed", box=None)
    for one in letters:
        letter = one.letter
        table.add_row(
            one.id[:_SHORT],
            _time(letter.occurred_at_ms),
            letter.stage,
            letter.call_id,
            letter.error_class,
            str(letter.attempts),
            letter.error,
            _time(one.replayed_at_ms),
        )
    console = Console()
    if letters:
        console.print(table)
    Console(stderr=True).print(f"{len(letters)} dead letters", style="dim")
    return 0


def show(args: argparse.Namespace) -> int:
    """Prints a letter as JSON, its payload as JSON too where it is."""
    settings, _ = settings_for(args.data_dir)
    one = _named(read_dead_letters(settings.kafka), args.letter)
    content = one.letter.model_dump(mode="json") | {"replayed_at_ms": one.replayed_at_ms}
    with suppress(ValueError):  # what could not be read is shown as it is
        content["payload"] = json.loads(one.letter.payload)
    print(json.dumps(content, indent=2, ensure_ascii=False))
    return 0


def replay(args: argparse.Namespace) -> int:
    """Gives letters back to their stages and names each that was."""
    if not args.letters and args.stage is None and args.call is None and args.since is None:
        raise UserError("which? name letters (see `audiotext dlq list`), or use --stage, --call or --since")
    settings, _ = settings_for(args.data_dir)
    letters = read_dead_letters(settings.kafka)
    if args.letters:
        letters = list({one.id: one for one in (_named(letters, text) for text in args.letters)}.values())
    wanted = _open(_filtered(letters, args))
    replayable = [one for one in wanted if is_replayable(one.letter)]
    for one in give_back(settings.kafka, replayable):
        print(f"{one.id[:_SHORT]}  {one.letter.stage}  {one.letter.call_id}  back on {one.letter.origin_topic}")
    broken = [one.id[:_SHORT] for one in wanted if not is_replayable(one.letter)]
    if broken:
        raise UserError(f"{', '.join(broken)}: the record was no text, so its letter does not carry it whole")
    Console(stderr=True).print(f"{len(replayable)} replayed", style="dim")
    return 0


def _filtered(letters: Sequence[DeadLetterRecord], args: argparse.Namespace) -> list[DeadLetterRecord]:
    return [
        one
        for one in letters
        if args.stage in (None, one.letter.stage)
        and args.call in (None, one.letter.call_id)
        and (args.since is None or one.letter.occurred_at_ms >= args.since)
    ]


def _open(letters: Sequence[DeadLetterRecord]) -> list[DeadLetterRecord]:
    """Those nobody has replayed; says which somebody has. If they failed again, there is a new letter."""
    for one in letters:
        if one.replayed_at_ms is not None:
            Console(stderr=True).print(f"{one.id[:_SHORT]} was replayed {_time(one.replayed_at_ms)}", style="dim")
    return [one for one in letters if one.replayed_at_ms is None]


def _named(letters: Sequence[DeadLetterRecord], text: str) -> DeadLetterRecord:
    """The letter whose id begins so."""
    found = [one for one in letters if one.id.startswith(text)]
    if len(found) != 1:
        reason = "is not there" if not found else f"could be any of {len(found)}: give more of it"
        raise UserError(f"dead letter {text} {reason} (see `audiotext dlq list --all`)")
    return found[0]


def _time(at_ms: int | None) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else ""
