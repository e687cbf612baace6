"""`audiotext versions list|compare|use`."""

import argparse

from audiotext.cli import listing
from audiotext.cli.connection import settings_for
from audiotext.cli.replay import named
from core.counting import number_of
from core.errors import UsageError
from pipelines.replay.selection import selection
from pipelines.replay.switching import Target, VersionSwitcher
from pipelines.replay.transcript_diff import compare
from pipelines.replay.versions import chosen, to_compare, version_of, versions_of
from redpanda.client import EventProducer
from schemas.artifacts import Transcript
from schemas.topics import Topic
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore

_ALIKE = 200  # calls among which the beginning of an id is looked for


def show_all(args: argparse.Namespace) -> int:
    """Lists a call's versions; those that count have a star."""
    settings, _ = settings_for(args.data_dir)
    versions = versions_of(_call(CallStore(settings.clickhouse), args.call))
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


def compare_two(args: argparse.Namespace) -> int:
    """Shows how two versions of a part's transcript differ."""
    settings, _ = settings_for(args.data_dir)
    objects = ObjectStore(settings.s3)
    call = _call(CallStore(settings.clickhouse), args.call)
    named = [text and _version_id(call, text) for text in (args.before, args.after)]
    versions = to_compare(call, args.part, *named)
    before, after = (Transcript.model_validate_json(objects.get_verified(one.object)) for one in versions)
    found = compare(before, after)
    for change in found.changes:
        minutes, ms = divmod(change.start_ms, 60_000)
        print(
            f"{minutes}:{ms / 1000:04.1f}  channel {change.channel}  - {change.before or '·'}  + {change.after or '·'}"
        )
    print(
        f"{versions[0].model} → {versions[1].model}: {found.words_before} and {number_of(found.words_after, 'word')}, "
        f"{found.replaced} replaced, {found.deleted} deleted, {found.inserted} inserted; "
        f"word error rate {found.word_error_rate:.1%} if the first is the truth"
    )
    return 0


def use(args: argparse.Namespace) -> int:
    """Makes versions count from now on: one of a call, or those of many calls."""
    many = args.replay is not None or args.before is not None
    if many == (args.call is not None) or (args.replay is not None and args.before is not None):
        raise UsageError("name a call and a version, or say --replay ID, or --before TIME")
    return _use_many(args) if many else _use_one(args)


def _use_one(args: argparse.Namespace) -> int:
    if args.version is None:
        raise UsageError(f"name a version of {args.call} (see `audiotext versions list {args.call}`)")
    settings, _ = settings_for(args.data_dir)
    store = CallStore(settings.clickhouse)
    call = _call(store, args.call)
    version_id = _version_id(call, args.version)
    event = chosen(call, version_of(call, version_id))
    EventProducer(settings.kafka).send(Topic.CALL_EVENTS, [event])
    store.put_events([event])
    print(f"{version_id} counts from now on")
    return 0


def _use_many(args: argparse.Namespace) -> int:
    wanted = selection(
        call_ids=args.calls,
        tenant=args.tenant,
        since_ms=args.since,
        until_ms=args.until,
        query=args.query,
    )
    settings, _ = settings_for(args.data_dir)
    store, replays = CallStore(settings.clickhouse), ReplayStore(settings.clickhouse)
    replay = args.replay and named(replays, args.replay).id
    before = named(replays, args.before).id if isinstance(args.before, str) else args.before
    board = VersionSwitcher(store, replays, EventProducer(settings.kafka).send)
    found = board.switch(Target(replay=replay, before=before), wanted, tenant=None, dry_run=args.dry_run)
    verb = "would switch" if args.dry_run else "switched"
    print(f"{verb} {found.switched_calls} of {number_of(found.calls, 'call')}; the others count already")
    if args.replay is not None and not found.switched_calls and found.calls:
        print(f"to go back to what counted before that replay: audiotext versions use --before {replay}")
    return 0


def _call(store: CallStore, call_id: str) -> CallDoc:
    """The call with that id, or the only one whose id begins so."""
    call = store.get_call(call_id, None)
    if call is None:
        beginning = call_id.removesuffix("…").removesuffix("...")
        alike = {one.id: one for one in store.list_calls(query=beginning, limit=_ALIKE)[0]}
        call = alike[listing.id_of(call_id, alike, "call", "the web page or GET /v1/calls")]
    return call


def _version_id(call: CallDoc, text: str) -> str:
    known = (one.version_id for one in versions_of(call))
    return listing.id_of(text, known, f"version of {call.id} called", f"audiotext versions list {call.id}")
