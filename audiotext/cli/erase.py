"""`audiotext erase`."""

import argparse
import sys

from audiotext.cli.connection import settings_for
from core.counting import number_of
from core.errors import UserError
from pipelines.erase.handler import requested
from redpanda.client import EventProducer
from schemas.topics import Topic
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore


def run(args: argparse.Namespace) -> int:
    """Hides calls and has everything about them deleted; none of them if one cannot be found. Where the tenant is
    named a call need not be found: one that was erased may have left something since."""
    settings, _ = settings_for(args.data_dir)
    found = CallStore(settings.clickhouse).find_calls(tuple(dict.fromkeys(args.calls)), args.tenant)
    missing = set(args.calls) - {call.id for call in found}
    if missing and args.tenant is None:
        raise UserError(f"there is no call {', '.join(sorted(missing))}")
    for call_id in args.calls:
        if len(tenants := [call.tenant for call in found if call.id == call_id]) > 1:
            raise UserError(f"{call_id} is a call of {', '.join(sorted(tenants))}: say --tenant")
    calls = {(call.tenant, call.id) for call in found} | {(args.tenant, call_id) for call_id in missing}
    if sys.stdin.isatty() and not args.yes and not _confirmed(sorted(call_id for _, call_id in calls)):
        raise UserError("nothing was erased")
    requests = [requested(tenant, call_id) for tenant, call_id in sorted(calls)]
    EventProducer(settings.kafka).send(Topic.ERASURE_REQUESTS, requests)
    store = ReplayStore(settings.clickhouse)
    for request in requests:
        store.put(request)
        print(f"{request.call_id}  erasing")
    return 0


def _confirmed(call_ids: list[str]) -> bool:
    """Asks on the terminal whether these calls are to be erased. No answer is a no."""
    for call_id in call_ids:
        print(f"  {call_id}", file=sys.stderr)
    print(
        f"Erase {number_of(len(call_ids), 'call')}, with audio, texts and search entries? "
        "This cannot be undone. [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")
