"""Runner of the benchmarks (`make bench`). Each row has a figure and the value to compare it with.

Machines are noisy and shared: read the ratios, and the CPU per unit of work, rather than absolute times.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import cast

from rich.console import Console
from rich.table import Table

ON_REQUEST = ("speech",)  # takes half an hour
BENCHMARKS = ("gateway", "recorder", "replay", "abuse")
Row = tuple[str, str, str]


def main(chosen: Sequence[str]) -> int:
    """Runs the named benchmarks, or all but those on request. Returns the exit code."""
    unknown = set(chosen) - {*BENCHMARKS, *ON_REQUEST}
    if unknown:
        known = ", ".join((*BENCHMARKS, *ON_REQUEST))
        print(f"unknown benchmark {', '.join(sorted(unknown))}: one of {known}", file=sys.stderr)
        return 2
    table = Table("what", "figure", "beside", title="bench", title_justify="left")
    for name in chosen or BENCHMARKS:
        print(f"measuring {name} ...", file=sys.stderr)
        rows = cast(Callable[[], Sequence[Row]], importlib.import_module(f"bench.{name}").rows)
        for row in rows():
            table.add_row(*row)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
