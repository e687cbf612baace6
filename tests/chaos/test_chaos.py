"""Short run of the chaos suite. `make chaos` is the long one, also on Apache Kafka."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.server, pytest.mark.alone]

SEED = "20261122"
CHECKOUT = Path(__file__).parents[2]


@pytest.mark.timeout(420)
def test_nothing_is_lost_or_doubled_whatever_is_killed() -> None:
    """Plays 30 calls of all kinds into `audiotext up` within 24 s, with a fault every 1.2 s.

    Services and servers are killed, paused or cut off, and disks are filled or lost. Then every recording, event,
    object, vector and ledger line is compared with what was sent. The output names the broken promises and the command
    that repeats the run.
    """
    command = [sys.executable, "-m", "tests.chaos", "--minutes", "0.4", "--calls", "30", "--every", "1.2"]
    command += ["--seed", SEED]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
