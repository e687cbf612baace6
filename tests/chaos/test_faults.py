"""Schedule of the faults: repeatable, complete, and with the required distances."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.faults import SUPERVISOR, Action, Card, deck, schedule

ENDS = {Card(Action.KILL, "gateway"), Card(Action.END, "gateway"), Card(Action.KILL, SUPERVISOR)}


@given(st.integers(0, 1 << 31))
def test_a_seed_is_a_schedule(seed: int) -> None:
    """Creates two schedules with the same seed: they are equal, so that a failed run can be repeated."""
    cards = deck([], disk=True)
    assert schedule(seed, cards, seconds=100, every_s=3) == schedule(seed, cards, seconds=100, every_s=3)


@pytest.mark.parametrize("brokers", [[], ["kafka-1"], ["kafka-1", "kafka-2", "kafka-3"]])
def test_ten_minutes_see_every_fault_several_times(brokers: list[str]) -> None:
    """Creates the schedule of ten minutes: each card is used at least twice."""
    cards = deck(brokers, disk=True)
    played = Counter(fault.card for fault in schedule(1, cards, seconds=600, every_s=3))
    assert min(played[card] for card in cards) >= 2, played


@given(st.integers(0, 1 << 31))
def test_gateway_and_log_faults_keep_their_distance(seed: int) -> None:
    """Checks the distance between the end of the gateway and faults of the log.

    The limit for lost audio is promised only for a working log. Without the distance a run could fail without a defect.
    """
    faults = schedule(seed, deck(["kafka-1"], disk=False), seconds=300, every_s=2)
    for fault in faults:
        if fault.card in ENDS:
            for other in faults:
                hinders = other.card.target == "kafka-1" or other.card == Card(Action.PAUSE, "gateway", 1.0, 9.0)
                assert not hinders or other.at_s + other.for_s < fault.at_s - 2 or other.at_s > fault.at_s + 2
