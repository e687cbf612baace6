"""`audiotext versions list|compare|use`."""

import argparse
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from audiotext.cli.connection import settings_for
from core.errors import UserError
from pipelines.replay.transcript_diff import compare
from pipelines.replay.versions import chosen, to_compare, version_of, versions_of
from redpanda.client import EventProducer
from schemas.artifacts import Transcript
from schemas.topics import Topic
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.queries import CallStore
from sinks.object_store import ObjectStore


def show_all(args: argparse.Namespace) -> int:
    """Lists a call's versions; those that count have a star."""
    settings, _ = settings_for(args.data_dir)
    table = Table("", "id", "of", "part", "provider", "model", "language", "made (UTC)", "by replay", box=None)
    for one in versions_of(_call(CallStore(settings.clickhouse), args.call)):
        table.add_row(
            "*" if one.current else "",
            one.version_id,
            one.of,
            str(one.part),
            one.provider,
            one.model,
            one.language or "",
            datetime.fromtimestamp(one.made_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
            one.replay_id,
        )
    Console(width=None if Console().is_terminal else 200).print(table)
    return 0


def compare_two(args: argparse.Namespace) -> int:
    """Shows how two versions of a part's transcript differ."""
    settings, _ = settings_for(args.data_dir)
    objects = ObjectStore(settings.s3)
    versions = to_compare(_call(CallStore(settings.clickhouse), args.call), args.part, args.before, args.after)
    before, after = (Transcript.model_validate_json(objects.get_verified(one.object)) for one in versions)
    found = compare(before, after)
    for change in found.changes:
        minutes, ms = divmod(change.start_ms, 60_000)
        print(
            f"{minutes}:{ms / 1000:04.1f}  channel {change.channel}  - {change.before or '·'}  + {change.after or '·'}"
        )
    print(
        f"{versions[0].model} → {versions[1].model}: {found.words_before} and {found.words_after} words, "
        f"{found.replaced} replaced, {found.deleted} deleted, {found.inserted} inserted; "
        f"word error rate {found.word_error_rate:.1%} if the first is the truth"
    )
    return 0


def use(args: argparse.Namespace) -> int:
    """Makes a version the one that counts."""
    settings, _ = settings_for(args.data_dir)
    store = CallStore(settings.clickhouse)
    call = _call(store, args.call)
    event = chosen(call, version_of(call, args.version))
    EventProducer(settings.kafka).send(Topic.CALL_EVENTS, [event])
    store.put_event(event)
    print(f"{args.version} counts from now on")
    return 0


def _call(store: CallStore, call_id: str) -> CallDoc:
    call = store.get_call(call_id, None)
    if call is None:
        raise UserError(f"there is no call {call_id}")
    return call
