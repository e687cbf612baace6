"""Command that replays many calls while workers are killed.

python -m tests.replay [--calls 1000] [--log embedded|kafka] [--stages transcript media] [--kill-every 7]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.replay.run import run


def main() -> int:
    """Runs the suite, and exits with 1 if anything differs afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--log", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--stages", nargs="+", default=["transcript", "media"])
    parser.add_argument("--kill-every", type=float, default=7.0, metavar="S", help="0 spares everybody")
    parser.add_argument("--keep", type=Path, metavar="D", help="a new directory for everything, which stays")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audiotext-replay-") as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        results = run(
            folder,
            numbers=range(args.calls),
            stages=args.stages,
            on_kafka=args.log == "kafka",
            kill_every_s=args.kill_every,
            another_model=True,
            say=lambda line: print(line, flush=True),
        )
    return 1 if any(one.differences or one.replay.failed or one.replay.skipped for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
