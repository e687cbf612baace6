"""`audiotext replay start|list|status|stop|resume`."""

import argparse
import sys
import time

from rich.console import Console

from audiotext.cli import listing
from audiotext.cli.connection import settings_for
from core.counting import number_of
from core.errors import UsageError
from core.settings import Settings
from pipelines.replay.engine_cache import engines_of
from pipelines.replay.estimate import Estimate, estimate
from pipelines.replay.overrides import overridden
from pipelines.replay.selection import choose, selection
from pipelines.replay.service import ReplayService
from redpanda.client import EventProducer
from schemas.events import ReplayOverrides
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_projection import ReplayDoc
from sinks.clickhouse.replay_queries import LISTED, NOTED, ReplayStore
from sinks.object_store import ObjectStore

_LOOK_S = 1.0


def start(args: argparse.Namespace) -> int:
    """Asks for a replay and prints its id; or says what it would do."""
    wanted = selection(
        call_ids=args.calls,
        tenant=args.tenant,
        since_ms=args.since,
        until_ms=args.until,
        failed=args.failed,
        query=args.query,
        every=args.all,
    )
    if not wanted.has_filter and not args.all:
        raise UsageError("which calls? name them with --calls, filter them, or say --all")
    settings, _ = settings_for(args.data_dir)
    overrides = ReplayOverrides(provider=args.provider, model=args.model, language=args.language, prompt=args.prompt)
    changed = overridden(settings, args.stage, overrides)
    engines = engines_of(changed, args.stage)
    chosen = choose(CallStore(settings.clickhouse), wanted, args.stage)
    print(told(estimate(chosen, engines, changed.pricing)), file=sys.stderr)
    if args.dry_run:
        return 0
    replay_id = _desk(settings).start(chosen, args.stage, overrides, tenant=None, keep_current=args.keep_current)
    print(replay_id)
    return _watch(ReplayStore(settings.clickhouse), replay_id) if args.wait else 0


def show_all(args: argparse.Namespace) -> int:
    """Lists replays."""
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
        Console(stderr=True).print(f"These are the {LISTED} newest replays.", style="dim")
    return 0


def status(args: argparse.Namespace) -> int:
    """Shows one replay; exit code 1 if parts of it failed."""
    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    replay = named(store, args.replay)
    if args.wait:
        return _watch(store, replay.id)
    noted = store.parts_with_notes(replay.id)
    if args.json:
        listing.show_json([replay.model_dump(mode="json") | {"noted": [one.model_dump(mode="json") for one in noted]}])
        return 1 if replay.failed else 0
    print(progress(replay))
    for part in noted:
        print(f"  {part.call_id} part {part.part}: {part.outcome}: {part.note}")
    if len(noted) == NOTED:
        print(f"  These are the first {NOTED} parts with a note.")
    return 1 if replay.failed else 0


def stop(args: argparse.Namespace) -> int:
    """Stops a replay."""
    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    _desk(settings).stop(named(store, args.replay))
    print(progress(named(store, args.replay)))
    return 0


def resume(args: argparse.Namespace) -> int:
    """Goes on with a replay."""
    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    _desk(settings).resume(named(store, args.replay))
    print(progress(named(store, args.replay)))
    return 0


def told(costs: Estimate) -> str:
    """An estimate in a line."""
    minutes = costs.duration_ms / 60_000
    calls, recordings = number_of(costs.calls, "call"), number_of(costs.parts, "recording")
    line = f"{calls} ({recordings}), {minutes:.1f} minutes"
    if costs.left_out:
        line += f"; {number_of(costs.left_out, 'recording')} cannot be processed from there"
    return (
        f"{line}. To transcribe: {costs.to_transcribe_ms / 60_000:.1f} minutes, to summarize: {costs.to_summarize}, "
        f"to embed: {costs.to_embed}; cost {costs.provider_cost}, price {costs.price} {costs.currency}"
    )


def progress(replay: ReplayDoc) -> str:
    """A replay in a line."""
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
        line += f", {replay.per_minute:g} a minute"
        line += f", {replay.eta_s} s to go" if replay.eta_s is not None else ""
    return line


def _watch(store: ReplayStore, replay_id: str) -> int:
    """Shows the replay's progress until it is through or stopped."""
    said = ""
    while True:
        replay = named(store, replay_id)
        if (line := progress(replay)) != said:
            Console(stderr=True).print(line, style="dim")
            said = line
        if replay.state != "running":
            return 1 if replay.failed else 0
        time.sleep(_LOOK_S)


def named(store: ReplayStore, replay_id: str) -> ReplayDoc:
    """The replay with that id, or the only one of the listed whose id begins so."""
    found = store.get_replay(replay_id, None)
    if found is None:
        known = {one.id: one for one in store.list_replays(None)}
        found = known[listing.id_of(replay_id, known, "replay", "audiotext replay list")]
    return found


def _desk(settings: Settings) -> ReplayService:
    return ReplayService(EventProducer(settings.kafka).send, ObjectStore(settings.s3), ReplayStore(settings.clickhouse))
