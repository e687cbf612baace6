"""Documents of calls, stored like the pipelines store them: real speech, its true words and a real summary.

Only the times are chosen.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pipelines.jobs.job_record import JobDocument
from pipelines.providers.base import SummaryJob
from pipelines.providers.extractive.summarizer import Extractive
from pipelines.recorder import wav
from pipelines.recorder.decoding import EncodedAudio
from pipelines.recorder.timeline import Layout
from pipelines.recorder.timeline import Segment as Run
from schemas.artifacts import Omitted, Segment, Summary, Transcript, Word, recording_prefix, transcript_key
from schemas.events import (
    AnyEvent,
    EmbeddingReady,
    Gap,
    ObjectRef,
    RecordingReady,
    StageFailed,
    StreamEnded,
    StreamStarted,
    SummaryReady,
    TrackOutline,
    TranscriptReady,
    UsageRecorded,
)
from schemas.ids import uuid_of
from schemas.media import Codec
from tests.api.conftest import Put, WordEmbedder
from tests.support.demo_calls import DemoCall, demo_call

GAP = Gap(start_ms=20_000, end_ms=22_500, reason="missing")  # in the caller's track
_TRACKS = ("inbound", "outbound")


@dataclass(frozen=True)
class CallEvents:
    """Events of one call. started_ms: start of the call, ms since the epoch."""

    tenant: str
    call_id: str
    started_ms: int
    from_number: str = "+14155550132"
    to_number: str = "+14155550187"
    carrier: str = "twilio"

    def base(self, kind: str, at_ms: int) -> dict[str, object]:
        """Returns the fields that all its events share."""
        return {
            "event_id": uuid_of(self.tenant, self.call_id, kind, at_ms),
            "call_id": self.call_id,
            "tenant": self.tenant,
            "occurred_at_ms": at_ms,
        }

    def started(self) -> StreamStarted:
        """Returns the event of the start of its stream."""
        return StreamStarted.model_validate(
            self.base("started", self.started_ms)
            | {
                "carrier": self.carrier,
                "stream_id": f"MZ{self.call_id}",
                "tracks": list(_TRACKS),
                "codec": "PCMU",
                "rate_hz": 8000,
                "from_number": self.from_number,
                "to_number": self.to_number,
            }
        )

    def ended(self, duration_ms: int) -> StreamEnded:
        """Returns the event of the end of its stream."""
        at = self.started_ms + duration_ms
        return StreamEnded.model_validate(
            self.base("ended", at) | {"stream_id": f"MZ{self.call_id}", "reason": "carrier-stop"}
        )

    def recorded(self, audio: ObjectRef, peaks: ObjectRef, duration_ms: int, gaps: Sequence[Gap]) -> RecordingReady:
        """Returns the event of its recording."""
        missing = sum(gap.end_ms - gap.start_ms for gap in gaps)
        return RecordingReady.model_validate(
            self.base("recorded", self.started_ms + duration_ms + 700)
            | {
                "carrier": self.carrier,
                "audio": audio,
                "peaks": peaks,
                "manifest": ObjectRef(key="manifest", sha256="0" * 64, size=1),
                "duration_ms": duration_ms,
                "rate_hz": 8000,
                "tracks": [
                    TrackOutline(name="inbound", audio_ms=duration_ms - missing, gaps=list(gaps)),
                    TrackOutline(name="outbound", audio_ms=duration_ms),
                ],
                "started_at_ms": self.started_ms,
                "ended_at_ms": self.started_ms + duration_ms,
                "close_reason": "ended",
            }
        )

    def done(self, duration_ms: int, text: ObjectRef, transcript: Transcript, short: Summary) -> list[AnyEvent]:
        """Returns the events of its transcript, charge, summary and vectors."""
        transcript_id = uuid_of(self.tenant, self.call_id)
        at = self.started_ms + duration_ms
        shared = {"transcript_id": transcript_id, "call_started_at_ms": self.started_ms, "engine_ms": 5_100}
        units = duration_ms * 50 // 60_000
        return [
            TranscriptReady.model_validate(
                self.base("transcribed", at + 5_900)
                | shared
                | {
                    "transcript": text,
                    "recording_sha256": "0" * 64,
                    "language": "en",
                    "duration_ms": duration_ms,
                    "provider": "whisper",
                    "model": "base",
                    "segments": len(transcript.segments),
                    "words": sum(len(segment.words) for segment in transcript.segments),
                }
            ),
            UsageRecorded.model_validate(
                self.base("usage", at + 5_900)
                | {
                    "key": f"transcription_{transcript_id}",
                    "kind": "transcription",
                    "units": units,
                    "duration_ms": duration_ms,
                    "provider": "whisper",
                    "model": "base",
                    "provider_cost": Decimal("0.003") * duration_ms / 3_600_000,
                    "price": Decimal("0.0002") * units,
                    "currency": "USD",
                    "call_started_at_ms": self.started_ms,
                }
            ),
            SummaryReady.model_validate(
                self.base("summarized", at + 6_000)
                | shared
                | {
                    "summary": ObjectRef(key="summary", sha256="0" * 64, size=1),
                    "provider": short.provider,
                    "model": short.model,
                    "abstract": short.abstract,
                    "key_points": short.key_points,
                    "action_items": short.action_items,
                    "engine_ms": 70,
                }
            ),
            EmbeddingReady.model_validate(
                self.base("embedded", at + 6_400)
                | shared
                | {
                    "provider": "local",
                    "model": "minilm",
                    "collection": "c",
                    "dimension": 384,
                    "points": len(transcript.segments),
                    "engine_ms": 300,
                }
            ),
        ]

    def failed(self, stage: str, error: str, duration_ms: int) -> StageFailed:
        """Returns the event of a stage that failed."""
        return StageFailed.model_validate(
            self.base(f"failed-{stage}", self.started_ms + duration_ms + 9_000)
            | {
                "stage": stage,
                "error_class": "permanent",
                "error": error,
                "attempts": 7,
                "origin_topic": "recording.ready",
                "origin_partition": 0,
                "origin_offset": 0,
                "payload": "{}",
            }
        )


def _summary(put: Put, told: CallEvents, transcript: Transcript) -> Summary:
    """The real engine's. In a thread, since the browser's driver has a loop running in this one."""
    job = SummaryJob(told.tenant, transcript, JobDocument(put.objects, told.tenant, told.call_id, "job"))
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(Extractive().summarize(job))).result()


def transcript_of(call: DemoCall, call_id: str) -> Transcript:
    """Returns the true words. The words of a turn share its time in proportion to their lengths."""
    segments = []
    for turn in call.turns:
        start_ms, length_ms = round(turn.start * 1000), (turn.end - turn.start) * 1000
        letters = len(turn.text.replace(" ", ""))
        words, said = [], 0
        for word in turn.text.split():
            begin, said = said, said + len(word)
            words.append(
                Word(
                    start_ms=start_ms + round(length_ms * begin / letters),
                    end_ms=start_ms + round(length_ms * said / letters),
                    text=word,
                    confidence=0.9,
                )
            )
        segments.append(
            Segment(
                start_ms=start_ms,
                end_ms=round(turn.end * 1000),
                channel=turn.channel,
                speaker=_TRACKS[turn.channel],
                text=turn.text,
                words=words,
            )
        )
    return Transcript(
        call_id=call_id,
        language="en",
        duration_ms=call.duration_ms,
        provider="whisper",
        model="base",
        segments=segments,
    )


def put_recording(put: Put, told: CallEvents, call: DemoCall, gaps: Sequence[Gap] = ()) -> RecordingReady:
    """Stores the WAV and its waveform like the recorder, with silence in the gaps."""
    samples = call.samples.copy()
    for gap in gaps:
        samples[gap.start_ms * 8 : gap.end_ms * 8, 0] = 0
    length = len(samples)
    plan = Layout(8000, length, tuple((Run(0, length, track, 0),) for track in range(2)), ())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audio.wav"
        rendered = wav.write_wav(
            plan, lambda track: EncodedAudio("s", Codec.L16, 8000, samples[:, track].astype("<i2").tobytes()), path
        )
        prefix = recording_prefix(told.tenant, told.call_id, 1)
        audio = put.object(f"{prefix}/audio.wav", path.read_bytes(), "audio/wav")
    peaks = put.object(f"{prefix}/peaks.json", rendered.peaks.model_dump_json().encode(), "application/json")
    return told.recorded(audio, peaks, call.duration_ms, gaps)


def put_real_call(
    put: Put,
    told: CallEvents,
    name: str,
    words: WordEmbedder,
    gaps: Sequence[Gap] = (),
    *,
    omitted: Sequence[Omitted] = (),
    mixed_ms: int = 0,
) -> None:
    """Stores one of tests.support.demo_calls.CALLS, complete.

    omitted: stretches without text. mixed_ms: audio of several streams on its inbound track.
    """
    call = demo_call(name)
    transcript = transcript_of(call, told.call_id).model_copy(update={"omitted": list(omitted)})
    transcript_id = uuid_of(told.tenant, told.call_id)
    text = put.object(transcript_key(told.tenant, told.call_id, transcript_id), transcript.model_dump_json().encode())
    summary = _summary(put, told, transcript)
    recorded = put_recording(put, told, call, gaps)
    inbound, outbound = recorded.tracks
    tracks = [inbound.model_copy(update={"mixed_ms": mixed_ms}), outbound]
    put.events(
        told.started(),
        told.ended(call.duration_ms),
        recorded.model_copy(update={"tracks": tracks}),
        *told.done(call.duration_ms, text, transcript, summary),
    )
    put.turns(words, told.tenant, told.call_id, transcript_id, transcript)
