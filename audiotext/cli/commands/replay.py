"""Command `audiotext replay start|list|status|stop|resume`: processes calls again."""

from __future__ import annotations

import argparse
import sys
import time
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
from core.errors import UsageError

if TYPE_CHECKING:
    from core.settings import Settings
    from pipelines.replay.estimate import Estimate
    from pipelines.replay.service import ReplayService
    from sinks.clickhouse.replay_projection import ReplayDoc
    from sinks.clickhouse.replay_queries import ReplayStore

HELP = "process calls again, from any stage"

_FIRST_STAGES = ("media", "recording", "transcript", "summary", "embedding")
_POLL_INTERVAL_S = 1.0


def add_arguments(parser: Parser) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    started = add_command(commands, "start", "process calls again, from a stage on", start)
    _add_start_arguments(started)
    listed = add_command(commands, "list", "list replays, newest first", show_all)
    shown = add_command(commands, "status", "show the progress of a replay", status)
    shown.add_argument("--wait", action="store_true", help="show its progress until it has finished")
    stopped = add_command(commands, "stop", "stop a replay; calls in progress are finished", stop)
    resumed = add_command(commands, "resume", "continue a stopped replay", resume)
    for command in (shown, stopped, resumed):
        command.add_argument("replay", metavar="ID", help="id from `audiotext replay list`, or its beginning")
    for command in (listed, shown):
        add_json_option(command)
    for command in (started, listed, shown, stopped, resumed):
        add_running_stack_option(command)


def _add_start_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("--stage", required=True, choices=_FIRST_STAGES, help="first stage: " + ", ".join(_FIRST_STAGES))
    add("--calls", nargs="+", metavar="ID", help="only these calls")
    add("--tenant", type=tenant, metavar="T", help="only calls of this tenant")
    add(
        "--from",
        dest="since",
        type=time_ms,
        metavar="T",
        help="only calls started since 12h, 30d or a UTC time",
    )
    add("--to", dest="until", type=time_ms, metavar="T", help="only calls started before")
    add("--failed", action="store_true", help="only calls that failed")
    add("--query", metavar="TEXT", help="only calls whose id or numbers contain this text")
    add("--all", action="store_true", help="all calls")
    add("--provider", help="another provider for the first engine that runs again")
    add("--model", help="another model of this provider")
    add("--language", help="language of the calls (ISO 639-1), for the transcription")
    add("--prompt", help="another prompt for the summary")
    add(
        "--keep-current",
        action="store_true",
        help="keep the current versions; the new ones are stored in addition",
    )
    add("--dry-run", action="store_true", help="only show the number of calls, the minutes and the cost")
    add("--wait", action="store_true", help="show its progress until it has finished")


def start(args: argparse.Namespace) -> int:
    """Prints an estimate on stderr, starts a replay and prints its id. With --dry-run it only prints the estimate."""
    from audiotext.cli.connection import settings_for
    from pipelines.replay.engine_cache import engines_of
    from pipelines.replay.estimate import estimate
    from pipelines.replay.overrides import overridden
    from pipelines.replay.selection import choose, selection
    from schemas.events import ReplayOverrides
    from sinks.clickhouse.call_queries import CallStore
    from sinks.clickhouse.replay_queries import ReplayStore

    selected = selection(
        call_ids=args.calls,
        tenant=args.tenant,
        since_ms=args.since,
        until_ms=args.until,
        failed=args.failed,
        query=args.query,
        every=args.all,
    )
    if not selected.has_filter and not args.all:
        raise UsageError("no calls are selected: use --calls, a filter, or --all")
    settings, _ = settings_for(args.data_dir)
    overrides = ReplayOverrides(provider=args.provider, model=args.model, language=args.language, prompt=args.prompt)
    changed = overridden(settings, args.stage, overrides)
    engines = engines_of(changed, args.stage)
    chosen = choose(CallStore(settings.clickhouse), selected, args.stage)
    print(estimate_line(estimate(chosen, engines, changed.pricing)), file=sys.stderr)
    if args.dry_run:
        return 0
    replay_id = _service(settings).start(chosen, args.stage, overrides, tenant=None, keep_current=args.keep_current)
    print(replay_id)
    return _watch(ReplayStore(settings.clickhouse), replay_id) if args.wait else 0


def show_all(args: argparse.Namespace) -> int:
    """Lists replays."""
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for
    from sinks.clickhouse.replay_queries import LISTED, ReplayStore

    settings, _ = settings_for(args.data_dir)
    replays = ReplayStore(settings.clickhouse).list_replays(None)
    if args.json:
        listing.show_json(one.model_dump(mode="json") for one in replays)
    else:
        listing.show(
            ("id", "when (UTC)", "from", "state", "done", "failed", "skipped", "of"),
            [
                (
                    one.id,
                    listing.minute(one.requested_at_ms),
                    one.stage,
                    one.state,
                    *map(str, (one.done, one.failed, one.skipped, one.parts)),
                )
                for one in replays
            ],
        )
    if len(replays) == LISTED:
        print(f"These are the {LISTED} newest replays.", file=sys.stderr)
    return 0


def status(args: argparse.Namespace) -> int:
    """Shows one replay. Returns 1 if parts of it failed."""
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for
    from sinks.clickhouse.replay_queries import NOTED, ReplayStore

    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    replay = find_replay(store, args.replay)
    if args.wait:
        return _watch(store, replay.id)
    noted = store.parts_with_notes(replay.id)
    if args.json:
        listing.show_json([replay.model_dump(mode="json") | {"noted": [one.model_dump(mode="json") for one in noted]}])
        return 1 if replay.failed else 0
    print(progress_line(replay))
    for part in noted:
        print(f"  {part.call_id} part {part.part}: {part.outcome}: {part.note}")
    if len(noted) == NOTED:
        print(f"  These are the first {NOTED} parts with a note.")
    return 1 if replay.failed else 0


def stop(args: argparse.Namespace) -> int:
    """Stops a replay and prints its progress."""
    from audiotext.cli.connection import settings_for
    from sinks.clickhouse.replay_queries import ReplayStore

    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    _service(settings).stop(find_replay(store, args.replay))
    print(progress_line(find_replay(store, args.replay)))
    return 0


def resume(args: argparse.Namespace) -> int:
    """Continues a replay and prints its progress."""
    from audiotext.cli.connection import settings_for
    from sinks.clickhouse.replay_queries import ReplayStore

    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    _service(settings).resume(find_replay(store, args.replay))
    print(progress_line(find_replay(store, args.replay)))
    return 0


def estimate_line(costs: Estimate) -> str:
    """Returns an estimate as one line."""
    minutes = costs.duration_ms / 60_000
    calls, recordings = number_of(costs.calls, "call"), number_of(costs.parts, "recording")
    line = f"{calls} ({recordings}), {minutes:.1f} minutes"
    if costs.left_out:
        line += f"; {number_of(costs.left_out, 'recording')} cannot be processed from this stage"
    return (
        f"{line}. To transcribe: {costs.to_transcribe_ms / 60_000:.1f} minutes, to summarize: {costs.to_summarize}, "
        f"to embed: {costs.to_embed}; cost {costs.provider_cost}, price {costs.price} {costs.currency}"
    )


def progress_line(replay: ReplayDoc) -> str:
    """Returns the state and the progress of a replay as one line."""
    line = f"{replay.id}: {replay.state}, {replay.done} of {replay.parts} done"
    if replay.failed:
        line += f", {replay.failed} failed"
    if replay.skipped:
        line += f", {replay.skipped} skipped"
    if replay.reused:
        line += f", {replay.reused} had every result already"
    if replay.done:
        line += ", the current versions are kept" if replay.keep_current else f", {replay.switched} switched to it"
    if replay.state == "running":
        line += f", {replay.per_minute:g} per minute"
        line += f", {replay.eta_s} s left" if replay.eta_s is not None else ""
    return line


def find_replay(store: ReplayStore, text: str) -> ReplayDoc:
    """Returns the replay whose id is the text, or the only listed one whose id begins with it. Raises UserError."""
    from audiotext.cli import listing

    found = store.get_replay(text, None)
    if found is None:
        known = {one.id: one for one in store.list_replays(None)}
        found = known[listing.id_of(text, known, "replay", "audiotext replay list")]
    return found


def _watch(store: ReplayStore, replay_id: str) -> int:
    """Prints the progress of a replay until it has finished or is stopped. Returns 1 if parts of it failed."""
    printed = ""
    while True:
        replay = find_replay(store, replay_id)
        if (line := progress_line(replay)) != printed:
            print(line, file=sys.stderr)
            printed = line
        if replay.state != "running":
            return 1 if replay.failed else 0
        time.sleep(_POLL_INTERVAL_S)


def _service(settings: Settings) -> ReplayService:
    from pipelines.replay.service import ReplayService
    from redpanda.client import EventProducer
    from sinks.clickhouse.replay_queries import ReplayStore
    from sinks.object_store import ObjectStore

    return ReplayService(EventProducer(settings.kafka).send, ObjectStore(settings.s3), ReplayStore(settings.clickhouse))
