"""Command `python -m tests.chaos`: runs the suite and prints the results. It exits with 1 if a promise is broken."""

import argparse
import random
import signal
import sys
from collections import Counter

from tests.chaos.promises import KILL_BOUND_S, Wrong
from tests.chaos.run import Options, Outcome, Run
from tests.chaos.target import LOGS


def main() -> int:
    """Runs the suite and returns the exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of calls and faults (default: 10)")
    parser.add_argument("--calls", type=int, default=400, help="how many (default: 400)")
    parser.add_argument("--log", choices=LOGS, default="embedded", help="what the calls travel on")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two faults (default: 3)")
    parser.add_argument("--seed", type=int, help="repeats a run; by default a new one, which is printed")
    parser.add_argument("--keep", action="store_true", help="keep the data directory of a good run, too")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.randrange(1 << 31)
    options = Options(args.minutes, args.calls, seed, args.log, args.every, args.keep)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started and mounted is ended
    outcome = Run(options, lambda line: print(line, flush=True)).run()
    report(outcome)
    return 1 if outcome.findings or outcome.quiet_s is None else 0


def report(outcome: Outcome) -> None:
    """Prints the tables of the results."""
    _table("calls", Counter(call.plan.kind.value for call in outcome.calls))
    _table("faults", Counter(str(fault.card) for fault in outcome.done))
    if not outcome.disk:
        print("  no disk could be mounted for the recorder (that takes root): none was filled")
    measured = outcome.measured
    _table("checked", measured.checked)
    _table("told more than once, counted once", +measured.retold)
    print(f"\ngateway ended {len(outcome.ends)} times with {measured.streams_broken} streams live:")
    print(f"  {measured.lost_ms} ms of audio lost, the oldest {measured.oldest_lost_s:.2f} s before", end="")
    print(f" (allowed: {KILL_BOUND_S:g} s)")
    print(f"  took calls again after {measured.away_s:.1f} s at most")
    found = Counter(finding.kind for finding in outcome.findings)
    _table("broken promises", Counter({kind.value: found[kind] for kind in Wrong}))
    for finding in outcome.findings[:40]:
        print(f"  {finding.kind}: {finding.subject}: {finding.detail[:300]}")
    if outcome.quiet_s is None:
        print("never became quiet")
    else:
        print(f"\nquiet {outcome.quiet_s:.0f} s after the last call")
    if outcome.directory.exists():
        print(f"everything is kept in {outcome.directory}")


def _table(title: str, counts: Counter[str]) -> None:
    print(f"\n{title}: {counts.total()}" if title in ("calls", "faults") else f"\n{title}:")
    for name, count in sorted(counts.items()):
        print(f"  {count:>10,}  {name}")


if __name__ == "__main__":
    sys.exit(main())
