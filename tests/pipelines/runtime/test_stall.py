"""The detection of stalled consumers."""

from pipelines.runtime.stall import PartitionKey, Progress, StallDetector

A: PartitionKey = ("t", 0)


def seen(detector: StallDetector, *looks: tuple[float, int, int]) -> list[bool]:
    """Returns if A is stalled at each observation: time (s), position, end."""
    return [detector.observe(now, {A: Progress(position, end)}) == [A] for now, position, end in looks]


def test_no_progress_while_the_log_grows_is_a_stall() -> None:
    """Observes a consumer that receives nothing for two minutes while records arrive.

    It is stalled then, not before.
    """
    assert seen(StallDetector(120), (0, 5, 5), (30, 5, 6), (90, 5, 7), (149, 5, 9), (150, 5, 9)) == [
        *[False] * 4,
        True,
    ]


def test_idle_busy_and_waiting_consumers_are_not_stalled() -> None:
    """Observes consumers without records, with progress, and behind an end that does not move (a transaction marker).

    None is stalled: to end such a process would only lose its work.
    """
    assert not any(seen(StallDetector(120), (0, 5, 5), (500, 5, 5), (1000, 5, 5)))
    assert not any(seen(StallDetector(120), (0, 5, 50), (500, 6, 60), (1000, 7, 70)))
    assert not any(seen(StallDetector(120), (0, 5, 6), (500, 5, 6), (1000, 5, 6)))


def test_an_unobserved_partition_starts_again() -> None:
    """Leaves a partition out for ten minutes, as if the log was unreachable or the topic paused.

    Its time must start again.
    """
    detector = StallDetector(120)
    seen(detector, (0, 5, 5), (30, 5, 6))
    detector.observe(60, {})

    assert seen(detector, (600, 5, 6), (630, 5, 7), (700, 5, 8)) == [False] * 3
