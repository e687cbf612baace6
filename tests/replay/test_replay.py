"""A few calls, replayed from the audio, with the replayer killed meanwhile.

`python -m tests.replay` does the same with a thousand, and on Apache Kafka.
"""

from pathlib import Path

import pytest

from tests.replay.run import run


@pytest.mark.timeout(300)
def test_everything_is_as_it_was(tmp_path: Path) -> None:
    """What does this test do? Makes three calls (one is left by its gateway, one comes back after its end), replays all
    of them from the audio while the replayer is killed, and compares every object's SHA-256, every row and view of
    ClickHouse, and every vector with what was there before.

    If it failed, a replay would change a bill, a recording, or what a search finds.
    """
    results = run(
        tmp_path,
        numbers=(0, 3, 7),
        stages=["media"],
        on_kafka=False,
        kill_every_s=0.5,
        most_kills=1,
        say=lambda _line: None,
    )
    for result in results:
        assert result.differences == []
        assert (result.replay.done, result.replay.failed, result.replay.skipped) == (4, 0, 0)
