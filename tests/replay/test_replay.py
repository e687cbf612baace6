"""Replay of a few calls from their audio, while the replayer is killed.

`python -m tests.replay` does the same with a thousand calls, also on Apache Kafka.
"""

from pathlib import Path

import pytest

from tests.replay.run import run

pytestmark = pytest.mark.server


@pytest.mark.timeout(300)
def test_everything_is_as_it_was(tmp_path: Path) -> None:
    """Replays three calls from their audio while the replayer is killed.

    One call was left by its gateway, and one has two parts. Then it compares the SHA-256 of every object, every row and
    view of ClickHouse, and every vector with the state before. A failure means that a replay changes a bill, a
    recording, or the search.
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
