"""`audiotext dlq list|show|replay`."""

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console

from audiotext.cli import listing
from audiotext.cli.connection import settings_for
from core.counting import number_of
from core.errors import UsageError, UserError
from core.settings import Settings
from pipelines.runtime.dead_letters import DeadLetterRecord, healed, is_replayable, read_dead_letters
from pipelines.runtime.dead_letters import replay as give_back
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.queries import CallStore

_LIST_ALL = "audiotext dlq list --all"


def show_all(args: argparse.Namespace) -> int:
    """Lists letters, oldest first."""
    settings, _ = settings_for(args.data_dir)
    letters = [one for one in _filtered(_letters(settings), args) if args.all or one.open]
    if args.json:
        listing.show_json({"id": one.id} | _content(one, payload=False) for one in letters)
        return 0
    if letters:
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
                for one in letters
            ],
        )
    Console(stderr=True).print(number_of(len(letters), "dead letter"), style="dim")
    return 0


def show(args: argparse.Namespace) -> int:
    """Prints a letter as JSON, its payload as JSON too where it is."""
    settings, _ = settings_for(args.data_dir)
    one = _named(_letters(settings), args.letter)
    content = _content(one, payload=True)
    with suppress(ValueError):  # what could not be read is shown as it is
        content["payload"] = json.loads(one.letter.payload)
    print(json.dumps(content, indent=2, ensure_ascii=False))
    return 0


def replay(args: argparse.Namespace) -> int:
    """Gives letters back to their stages and names each that was."""
    if not args.letters and args.stage is None and args.call is None and args.since is None:
        raise UsageError("which? name letters (see `audiotext dlq list`), or use --stage, --call or --since")
    settings, _ = settings_for(args.data_dir)
    letters = _letters(settings)
    if args.letters:
        letters = list({one.id: one for one in (_named(letters, text) for text in args.letters)}.values())
    wanted = _open(_filtered(letters, args))
    replayable = [one for one in wanted if is_replayable(one.letter)]
    for one in give_back(settings.kafka, replayable):
        print(f"{one.id}  {one.letter.stage}  {one.letter.call_id}  back on {one.letter.origin_topic}")
    broken = [one.id for one in wanted if not is_replayable(one.letter)]
    if broken:
        raise UserError(f"{', '.join(broken)}: the record was no text, so its letter does not carry it whole")
    Console(stderr=True).print(f"{len(replayable)} replayed", style="dim")
    return 0


def _letters(settings: Settings) -> list[DeadLetterRecord]:
    """All letters. Without ClickHouse nobody knows which of them are healed, and it says so."""
    letters = read_dead_letters(settings.kafka)
    try:
        return healed(letters, CallStore(settings.clickhouse))
    except StoreUnavailableError as error:
        hint = f"healed calls cannot be told from others: {error}"
        Console(stderr=True, soft_wrap=True).print(hint, style="dim", markup=False)
        return letters


def _filtered(letters: Sequence[DeadLetterRecord], args: argparse.Namespace) -> list[DeadLetterRecord]:
    return [
        one
        for one in letters
        if args.stage in (None, one.letter.stage)
        and args.call in (None, one.letter.call_id)
        and (args.since is None or one.letter.occurred_at_ms >= args.since)
    ]


def _open(letters: Sequence[DeadLetterRecord]) -> list[DeadLetterRecord]:
    """Those that are neither replayed nor healed; says which are. If they failed again, there is a new letter."""
    for one in letters:
        if one.replayed_at_ms is not None:
            at = listing.minute(one.replayed_at_ms)
            Console(stderr=True, soft_wrap=True).print(f"{one.id} was replayed {at} UTC", style="dim")
        elif one.healed:
            Console(stderr=True, soft_wrap=True).print(f"{one.id} is healed: its stage has a result", style="dim")
    return [one for one in letters if one.open]


def _named(letters: Sequence[DeadLetterRecord], text: str) -> DeadLetterRecord:
    """The letter whose id begins so."""
    letter_id = listing.id_of(text, (one.id for one in letters), "dead letter", _LIST_ALL)
    return next(one for one in letters if one.id == letter_id)


def _content(one: DeadLetterRecord, *, payload: bool) -> dict[str, object]:
    """A letter's fields as JSON has them. payload: whether the record that failed is one of them."""
    fields = one.letter.model_dump(mode="json", exclude=set() if payload else {"payload"})
    return fields | {"replayed_at_ms": one.replayed_at_ms, "healed": one.healed}
