"""`audiotext replay start|list|status|stop|resume`."""

import argparse
import sys
import time
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from audiotext.cli.connection import settings_for
from core.errors import UserError
from core.settings import Settings
from pipelines.replay.engine_cache import engines_of
from pipelines.replay.estimate import Estimate, estimate
from pipelines.replay.overrides import overridden
from pipelines.replay.selection import Selection, choose
from pipelines.replay.service import ReplayService
from redpanda.client import EventProducer
from schemas.events import ReplayOverrides
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_projection import ReplayDoc
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore

_LOOK_S = 1.0


def start(args: argparse.Namespace) -> int:
    """Asks for a replay and prints its id; or says what it would do."""
    filters = (args.tenant, args.since, args.until, args.query)
    if not (args.calls or args.failed or args.all or any(one is not None for one in filters)):
        raise UserError("which calls? name them with --calls, filter them, or say --all")
    settings, _ = settings_for(args.data_dir)
    overrides = ReplayOverrides(provider=args.provider, model=args.model, language=args.language, prompt=args.prompt)
    changed = overridden(settings, args.stage, overrides)
    engines = engines_of(changed, args.stage)
    selection = Selection(
        call_ids=tuple(dict.fromkeys(args.calls)),
        tenant=args.tenant,
        since_ms=args.since,
        until_ms=args.until,
        status="failed" if args.failed else None,
        query=args.query,
    )
    chosen = choose(CallStore(settings.clickhouse), selection, args.stage)
    print(told(estimate(chosen, engines, changed.pricing)), file=sys.stderr)
    if args.dry_run:
        return 0
    replay_id = _desk(settings).start(chosen, args.stage, overrides, tenant=None)
    print(replay_id)
    return _watch(ReplayStore(settings.clickhouse), replay_id) if args.wait else 0


def show_all(args: argparse.Namespace) -> int:
    """Lists replays."""
    settings, _ = settings_for(args.data_dir)
    table = Table("id", "when (UTC)", "from", "state", "done", "failed", "skipped", "of", box=None)
    for one in ReplayStore(settings.clickhouse).list_replays(None):
        when = datetime.fromtimestamp(one.requested_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(one.id, when, one.stage, one.state, *map(str, (one.done, one.failed, one.skipped, one.parts)))
    console = Console()
    # Into a file or a pipe nothing is cut off.
    (console if console.is_terminal else Console(width=200)).print(table)
    return 0


def status(args: argparse.Namespace) -> int:
    """Shows one replay; exit code 1 if parts of it failed."""
    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    if args.wait:
        return _watch(store, args.replay)
    replay = _named(store, args.replay)
    print(progress(replay))
    for part in store.noted(replay.id):
        print(f"  {part.call_id} part {part.part}: {part.outcome}: {part.note}")
    return 1 if replay.failed else 0


def stop(args: argparse.Namespace) -> int:
    """Stops a replay."""
    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    _desk(settings).stop(_named(store, args.replay))
    print(progress(_named(store, args.replay)))
    return 0


def resume(args: argparse.Namespace) -> int:
    """Goes on with a replay."""
    settings, _ = settings_for(args.data_dir)
    store = ReplayStore(settings.clickhouse)
    _desk(settings).resume(_named(store, args.replay))
    print(progress(_named(store, args.replay)))
    return 0


def told(costs: Estimate) -> str:
    """An estimate in a line."""
    minutes = costs.duration_ms / 60_000
    line = f"{costs.calls} calls ({costs.parts} recordings), {minutes:.1f} minutes"
    if costs.left_out:
        line += f"; {costs.left_out} recordings cannot be processed from there"
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
    if replay.state == "running":
        line += f", {replay.per_minute:g} a minute"
        line += f", {replay.eta_s} s to go" if replay.eta_s is not None else ""
    return line


def _watch(store: ReplayStore, replay_id: str) -> int:
    """Shows the replay's progress until it is through or stopped."""
    said = ""
    while True:
        replay = _named(store, replay_id)
        if (line := progress(replay)) != said:
            Console(stderr=True).print(line, style="dim")
            said = line
        if replay.state != "running":
            return 1 if replay.failed else 0
        time.sleep(_LOOK_S)


def _named(store: ReplayStore, replay_id: str) -> ReplayDoc:
    found = store.get_replay(replay_id, None)
    if found is None:
        raise UserError(f"there is no replay {replay_id} (see `audiotext replay list`)")
    return found


def _desk(settings: Settings) -> ReplayService:
    return ReplayService(EventProducer(settings.kafka).send, ObjectStore(settings.s3), ReplayStore(settings.clickhouse))
