"""Which consumers have stopped."""

from pipelines.runtime.stall import PartitionKey, Progress, StallDetector

A: PartitionKey = ("t", 0)


def seen(detector: StallDetector, *looks: tuple[float, int, int]) -> list[bool]:
    """Whether A is stalled at each look: time (s), position, end."""
    return [detector.observe(now, {A: Progress(position, end)}) == [A] for now, position, end in looks]


def test_a_consumer_that_stands_still_while_the_log_grows_is_stalled() -> None:
    """Nothing is got for two minutes although records come: stalled, not before."""
    assert seen(StallDetector(120), (0, 5, 5), (30, 5, 6), (90, 5, 7), (149, 5, 9), (150, 5, 9)) == [
        *[False] * 4,
        True,
    ]


def test_idle_busy_and_waiting_consumers_are_not() -> None:
    """Nothing to get; always something got; an end that is never reached (a transaction's marker) but does not move:
    ending such a process would only cost its work."""
    assert not any(seen(StallDetector(120), (0, 5, 5), (500, 5, 5), (1000, 5, 5)))
    assert not any(seen(StallDetector(120), (0, 5, 50), (500, 6, 60), (1000, 7, 70)))
    assert not any(seen(StallDetector(120), (0, 5, 6), (500, 5, 6), (1000, 5, 6)))


def test_what_is_not_looked_at_is_forgotten() -> None:
    """The log was away for ten minutes, or the topic paused: time begins anew."""
    detector = StallDetector(120)
    seen(detector, (0, 5, 5), (30, 5, 6))
    detector.observe(60, {})

    assert seen(detector, (600, 5, 6), (630, 5, 7), (700, 5, 8)) == [False] * 3
