"""Summarizes the gaps of a track: how much audio is missing, and where most of it is missing. Pure."""

from collections.abc import Sequence

from api.models import GapSummary, Stretch
from schemas.events import Gap, TrackOutline

STRETCH_MS = 10_000  # gaps that begin within this time of the first one belong to one stretch


def summary(track: TrackOutline) -> GapSummary:
    """Returns the summary of a track's gaps.

    The event carries only the longest gaps, so the worst stretch is the worst among those.
    """
    expected_ms = track.audio_ms + track.missing_ms
    return GapSummary(
        count=len(track.gaps) + track.gaps_left_out,
        missing_ms=track.missing_ms,
        percent=round(100 * track.missing_ms / expected_ms, 2) if expected_ms else 0.0,
        worst=worst_stretch(track.gaps),
    )


def worst_stretch(gaps: Sequence[Gap]) -> Stretch | None:
    """Returns the stretch with the most missing audio, or None without gaps.

    A stretch lasts from the start of its first gap to the end of its last gap. The shortest of equal stretches is the
    worst. Gaps of a track do not overlap.
    """
    ordered = sorted(gaps, key=lambda gap: gap.start_ms)
    best: Stretch | None = None
    end = missing = 0
    for at, first in enumerate(ordered):
        while end < len(ordered) and (end <= at or ordered[end].start_ms < first.start_ms + STRETCH_MS):
            missing += ordered[end].end_ms - ordered[end].start_ms
            end += 1
        found = Stretch(start_ms=first.start_ms, end_ms=ordered[end - 1].end_ms, missing_ms=missing)
        if best is None or _badness(found) > _badness(best):
            best = found
        missing -= first.end_ms - first.start_ms
    return best


def _badness(stretch: Stretch) -> tuple[int, int]:
    return stretch.missing_ms, stretch.start_ms - stretch.end_ms
