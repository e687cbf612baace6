"""Command `audiotext erase CALL…`: erases calls."""

import argparse
import sys

from audiotext.cli.arguments import Parser, add_running_stack_option, identifier, tenant
from core.counting import number_of
from core.errors import UserError

HELP = "erase calls, except their lines on the bill"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    parser.add_argument("calls", type=identifier, nargs="+", metavar="ID", help="ids of the calls")
    parser.add_argument(
        "--tenant", type=tenant, metavar="T", help="only calls of this tenant, if two tenants use the same call id"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation on a terminal")
    add_running_stack_option(parser)


def run(args: argparse.Namespace) -> int:
    """Hides the calls and requests the deletion of all their data. Erases no call if one of them is not found.

    With --tenant a call may be missing: after an earlier erasure some data may have been written again.
    """
    from audiotext.cli.connection import settings_for
    from pipelines.erase.handler import requested
    from redpanda.client import EventProducer
    from schemas.topics import Topic
    from sinks.clickhouse.ambiguity import require_one_tenant_each
    from sinks.clickhouse.call_queries import CallStore
    from sinks.clickhouse.replay_queries import ReplayStore

    settings, _ = settings_for(args.data_dir)
    found = CallStore(settings.clickhouse).find_calls(tuple(dict.fromkeys(args.calls)), args.tenant)
    missing = set(args.calls) - {call.id for call in found}
    if missing and args.tenant is None:
        raise UserError(f"there is no call {', '.join(sorted(missing))}")
    require_one_tenant_each(found)
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
    """Asks on the terminal for confirmation. No answer means no."""
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
