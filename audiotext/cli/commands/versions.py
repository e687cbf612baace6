"""Command `audiotext versions list|compare|use`: compares the versions of a call and chooses the current ones."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from audiotext.cli.arguments import (
    Parser,
    add_command,
    add_json_option,
    add_running_stack_option,
    subcommands,
    tenant,
    time_ms,
)
from core.counting import number_of
from core.errors import UsageError, UserError

if TYPE_CHECKING:
    from sinks.clickhouse.call_projection import CallDoc
    from sinks.clickhouse.call_queries import CallStore

HELP = "compare the versions of a call's texts, and choose one"

_MAX_CANDIDATES = 200  # calls among which the beginning of an id is looked up


def add_arguments(parser: Parser) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    listed = add_command(commands, "list", "list the versions of a call", show_all)
    compared = add_command(commands, "compare", "compare two transcripts of a part", compare)
    used = add_command(commands, "use", "make a version current, or the versions of many calls", use)
    for command in (listed, compared):
        command.add_argument("call", metavar="CALL", help="id of the call, or its beginning")
    used.add_argument("call", nargs="?", metavar="CALL", help="id of the call, or its beginning")
    for command in (listed, compared, used):
        add_running_stack_option(command)
    for command in (listed, compared):
        command.add_argument("--tenant", type=tenant, metavar="T", help="the tenant, if several have this call id")
    compared.add_argument("--part", type=int, default=1, metavar="N", help="part of the call (1)")
    compared.add_argument("--before", metavar="ID", help="first version (the oldest)")
    compared.add_argument("--after", metavar="ID", help="second version (the current one)")
    add_json_option(listed)
    _add_use_arguments(used)


def _add_use_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("version", nargs="?", metavar="ID", help="id from `audiotext versions list`, or its beginning")
    add("--replay", metavar="ID", help="for all calls of this replay: the versions that it made or found")
    add(
        "--before",
        type=_time_or_replay,
        metavar="T",
        help="for all calls that have changed since T: the versions that were current at T. T is an age (30m, 12h, "
        "7d), a UTC time, or the id of a replay, for its calls and the time before it",
    )
    add("--calls", nargs="+", metavar="ID", help="only these calls")
    add("--tenant", type=tenant, metavar="T", help="only calls of this tenant")
    add("--from", dest="since", type=time_ms, metavar="T", help="only calls started since")
    add("--to", dest="until", type=time_ms, metavar="T", help="only calls started before")
    add("--query", metavar="TEXT", help="only calls whose id or numbers contain this text")
    add("--dry-run", action="store_true", help="only show how many calls would be switched")


def show_all(args: argparse.Namespace) -> int:
    """Lists the versions of a call. A star marks the current ones."""
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for
    from pipelines.replay.versions import versions_of
    from sinks.clickhouse.call_queries import CallStore

    settings, _ = settings_for(args.data_dir)
    versions = versions_of(_find_call(CallStore(settings.clickhouse), args.call, args.tenant))
    if args.json:
        listing.show_json(one.model_dump(mode="json") for one in versions)
        return 0
    listing.show(
        ("", "id", "of", "part", "provider", "model", "language", "made (UTC)", "by replay"),
        [
            (
                "*" if one.current else "",
                one.version_id,
                one.of,
                str(one.part),
                one.provider,
                one.model,
                {None: "", "und": "unknown"}.get(one.language, one.language or ""),
                listing.minute(one.made_at_ms),
                one.replay_id,
            )
            for one in versions
        ],
    )
    return 0


def compare(args: argparse.Namespace) -> int:
    """Prints the differences between two versions of a part's transcript."""
    from audiotext.cli.connection import settings_for
    from pipelines.replay import transcript_diff
    from pipelines.replay.versions import to_compare
    from schemas.artifacts import Transcript
    from sinks.clickhouse.call_queries import CallStore
    from sinks.object_store import ObjectStore

    settings, _ = settings_for(args.data_dir)
    objects = ObjectStore(settings.s3)
    call = _find_call(CallStore(settings.clickhouse), args.call, args.tenant)
    version_ids = [text and _version_id(call, text) for text in (args.before, args.after)]
    versions = to_compare(call, args.part, *version_ids)
    before, after = (Transcript.model_validate_json(objects.get_verified(one.object)) for one in versions)
    found = transcript_diff.compare(before, after)
    for change in found.changes:
        minutes, ms = divmod(change.start_ms, 60_000)
        print(
            f"{minutes}:{ms / 1000:04.1f}  channel {change.channel}  - {change.before or '·'}  + {change.after or '·'}"
        )
    print(
        f"{versions[0].model} → {versions[1].model}: {found.words_before} and {number_of(found.words_after, 'word')}, "
        f"{found.replaced} replaced, {found.deleted} deleted, {found.inserted} inserted; "
        f"word error rate {found.word_error_rate:.1%} if the first transcript is correct"
    )
    return 0


def use(args: argparse.Namespace) -> int:
    """Makes one version of a call current, or the versions of many calls."""
    many = args.replay is not None or args.before is not None
    if many == (args.call is not None) or (args.replay is not None and args.before is not None):
        raise UsageError("give a call and a version, or --replay ID, or --before TIME")
    return _use_many(args) if many else _use_one(args)


def _use_one(args: argparse.Namespace) -> int:
    from audiotext.cli.connection import settings_for
    from pipelines.replay.versions import chosen, version_of
    from redpanda.client import EventProducer
    from schemas.topics import Topic
    from sinks.clickhouse.call_queries import CallStore

    if args.version is None:
        raise UsageError(f"give a version of {args.call} (see `audiotext versions list {args.call}`)")
    settings, _ = settings_for(args.data_dir)
    store = CallStore(settings.clickhouse)
    call = _find_call(store, args.call, args.tenant)
    version_id = _version_id(call, args.version)
    event = chosen(call, version_of(call, version_id))
    EventProducer(settings.kafka).send(Topic.CALL_EVENTS, [event])
    store.put_events([event])
    print(f"{version_id} is current now")
    return 0


def _use_many(args: argparse.Namespace) -> int:
    from audiotext.cli.commands.replay import find_replay
    from audiotext.cli.connection import settings_for
    from pipelines.replay.selection import selection
    from pipelines.replay.switching import Target, VersionSwitcher
    from redpanda.client import EventProducer
    from sinks.clickhouse.call_queries import CallStore
    from sinks.clickhouse.replay_queries import ReplayStore

    selected = selection(
        call_ids=args.calls,
        tenant=args.tenant,
        since_ms=args.since,
        until_ms=args.until,
        query=args.query,
    )
    settings, _ = settings_for(args.data_dir)
    store, replays = CallStore(settings.clickhouse), ReplayStore(settings.clickhouse)
    replay = args.replay and find_replay(replays, args.replay).id
    before = find_replay(replays, args.before).id if isinstance(args.before, str) else args.before
    board = VersionSwitcher(store, replays, EventProducer(settings.kafka).send)
    found = board.switch(Target(replay=replay, before=before), selected, tenant=None, dry_run=args.dry_run)
    verb = "would switch" if args.dry_run else "switched"
    print(f"{verb} {found.switched_calls} of {number_of(found.calls, 'call')}; the others use these versions already")
    if args.replay is not None and not found.switched_calls and found.calls:
        print(f"to use the versions from before that replay: audiotext versions use --before {replay}")
    return 0


def _find_call(store: CallStore, text: str, owner: str | None) -> CallDoc:
    """Returns the call whose id is the text, or the only one whose id begins with it.

    owner: its tenant; None = every tenant. Raises UserError, also for an id that several tenants have.
    """
    from audiotext.cli import listing
    from sinks.clickhouse.call_list_query import CallFilter

    call = store.get_call(text, owner)
    if call is None:
        beginning = text.removesuffix("…").removesuffix("...")
        wanted = CallFilter(tenant=owner, query=beginning)
        candidates = [one.id for one in store.list_calls(wanted, limit=_MAX_CANDIDATES)[0]]
        call = store.get_call(listing.id_of(text, candidates, "call", "the web page or GET /v1/calls"), owner)
    if call is None:
        raise UserError(f"the call {text} was erased")
    return call


def _version_id(call: CallDoc, text: str) -> str:
    from audiotext.cli import listing
    from pipelines.replay.versions import versions_of

    known = (one.version_id for one in versions_of(call))
    return listing.id_of(text, known, f"version of {call.id} called", f"audiotext versions list {call.id}")


def _time_or_replay(text: str) -> int | str:
    """Returns a point in time in ms since the epoch, or the id of a replay unchanged."""
    return text if text.startswith("rp-") else time_ms(text)
