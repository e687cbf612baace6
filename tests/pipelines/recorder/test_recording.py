"""What is told of a recording."""

import time
from pathlib import Path

from pipelines.recorder.recording import Recording
from pipelines.runtime.errors import RetryableError
from pipelines.runtime.jobs import job_of
from schemas.artifacts import Manifest, Peaks
from schemas.events import Gap, ObjectRef, TrackReport
from schemas.topics import Topic

REF = ObjectRef(key="k", sha256="0" * 64, size=1)
LOG_TAKES = 1_000_000  # bytes of a record, by librdkafka's and Kafka's defaults


def told(gaps: list[Gap]) -> Recording:
    """A recording of two tracks with these gaps each."""
    manifest = Manifest(
        call_id="CA1",
        tenant="acme",
        part=1,
        carrier="twilio",
        rate_hz=8000,
        duration_ms=36_000_000,
        tracks=[TrackReport(name=name, audio_ms=35_000_000, gaps=gaps) for name in ("inbound", "outbound")],
        streams=["MZ1"],
        close_reason="ended",
        audio_sha256="0" * 64,
        audio_size=44,
        started_at_ms=1_764_000_000_000,
        ended_at_ms=1_764_036_000_000,
        partition=0,
        first_offset=0,
        close_offset=9,
    )
    return Recording(
        Path("audio.wav"), Peaks(rate_hz=8000, samples_per_peak=80, channels=[]), manifest, 1_764_036_000_000
    )


def test_a_call_full_of_holes_fits_on_the_log() -> None:
    """Ten hours at 3 % loss: 54,000 gaps a track. The event has the longest of them in their order, says how many more
    there are and how long those are together, and fits into a record, also when a stage puts it aside for a retry. With
    all gaps the log refused it for ever: the recording lay in storage, and nobody was told."""
    gaps = [
        Gap(start_ms=at * 660, end_ms=at * 660 + (400 if at % 50 == 0 else 20), reason="lost") for at in range(54_000)
    ]
    event = told(gaps).event(audio=REF, peaks=REF, manifest=REF)

    for track in event.tracks:
        lost_ms = sum(gap.end_ms - gap.start_ms for gap in gaps)
        assert sum(gap.end_ms - gap.start_ms for gap in track.gaps) + track.more_gaps_ms == lost_ms
        assert len(track.gaps) + track.more_gaps == len(gaps)
        assert [gap for gap in track.gaps if gap.end_ms - gap.start_ms == 400] == gaps[::50]
        assert track.gaps == sorted(track.gaps, key=lambda gap: gap.start_ms)
    payload = event.model_dump_json()
    assert len(payload) < LOG_TAKES / 2
    job = job_of(
        "transcribe", Topic.TRANSCRIBE_RETRY, topic=Topic.RECORDING_READY, partition=0, offset=7, value=payload
    )
    now_ms = time.time_ns() // 1_000_000
    again = job.scheduled(event, RetryableError("503"), attempts=1, now_ms=now_ms, delay_s=1)
    letter = job.failed(RetryableError("503"), attempts=9, now_ms=now_ms, call_id="CA1")
    assert max(len(one.model_dump_json()) for one in (again, letter)) < LOG_TAKES


def test_a_call_with_a_few_holes_tells_of_each() -> None:
    """What fits is told as it is."""
    gaps = [Gap(start_ms=at * 660, end_ms=at * 660 + 20, reason="lost") for at in range(2_000)]
    event = told(gaps).event(audio=REF, peaks=REF, manifest=REF)
    assert event.tracks == told(gaps).manifest.tracks
