"""Gaps as people read them. Pure."""

import pytest

from api.gaps import summary, worst_stretch
from api.models import Stretch
from schemas.events import Gap, TrackOutline


def gap(start_ms: int, length_ms: int = 20) -> Gap:
    """A gap of lost packets."""
    return Gap(start_ms=start_ms, end_ms=start_ms + length_ms, reason="missing")


def test_packet_loss_is_summed_up() -> None:
    """Sums up a minute with a lost packet a second, ten a second from 0:30 to 0:34, and gaps that the event leaves out.

    The worst stretch is where most is missing, not the longest gap, and it is no longer than the losses.
    """
    steady = [gap(second * 1000) for second in range(60) if not 30 <= second < 34]
    burst = [gap(30_000 + 100 * number) for number in range(40)]
    lost = 20 * (len(steady) + len(burst))
    track = TrackOutline(
        name="inbound", audio_ms=60_000 - lost - 60, gaps=[*burst, *steady], gaps_left_out=3, missing_ms=lost + 60
    )

    found = summary(track)

    assert (found.count, found.missing_ms) == (99, 1980)
    assert found.percent == pytest.approx(3.3)
    assert found.worst is not None
    assert (found.worst.start_ms, found.worst.missing_ms) == (25_000, 20 * (40 + 6))  # ten seconds with the burst
    assert found.worst.end_ms == 34_020


@pytest.mark.parametrize(
    ("gaps", "worst"),
    [
        ([], None),
        ([gap(20_000, 2_500)], Stretch(start_ms=20_000, end_ms=22_500, missing_ms=2_500)),
        ([gap(0), gap(60_000, 30_000)], Stretch(start_ms=60_000, end_ms=90_000, missing_ms=30_000)),
        ([gap(50_000), gap(0), gap(60_000)], Stretch(start_ms=0, end_ms=20, missing_ms=20)),
        ([gap(1_000), gap(5_000), gap(30_000)], Stretch(start_ms=1_000, end_ms=5_020, missing_ms=40)),
    ],
)
def test_the_worst_stretch(gaps: list[Gap], worst: Stretch | None) -> None:
    """Finds the worst stretch without gaps, with one, with a long and a short one, with equals, and with two that are
    near each other."""
    assert worst_stretch(gaps) == worst


def test_a_track_without_audio() -> None:
    """A track of which nothing came and nothing is missing: no division by zero."""
    found = summary(TrackOutline(name="inbound", audio_ms=0))
    assert (found.count, found.percent, found.worst) == (0, 0.0, None)
