"""Transcripts of a call's parts, joined."""

from api.transcripts import join_transcripts
from schemas.artifacts import Omitted, Transcript
from sinks.clickhouse.call_projection import PartDoc


def test_omitted_stretches_are_on_the_joined_timeline() -> None:
    """Joins two parts of 30 s with an omitted stretch each.

    The second part's stretch must be 30 s later in the joined transcript, or a person listens at the wrong place.
    """
    parts = [
        (
            PartDoc(part=number, status="complete", duration_ms=30_000),
            Transcript(
                call_id="CA1",
                language="en",
                duration_ms=30_000,
                provider="whisper",
                model="base",
                segments=[],
                omitted=[Omitted(start_ms=1_000, end_ms=2_000, channel=number - 1, reason="echo")],
            ),
        )
        for number in (1, 2)
    ]

    found = [(one.start_ms, one.end_ms, one.channel, one.reason) for one in join_transcripts(parts).omitted]
    assert found == [(1_000, 2_000, 0, "echo"), (31_000, 32_000, 1, "echo")]
