"""Recordings and transcripts in object storage, and the events that name them."""

import uuid

from schemas.artifacts import Segment, Transcript, recording_prefix, transcript_key
from schemas.events import ObjectRef, RecordingReady, TrackOutline, TranscriptReady
from sinks.object_store import ObjectStore

STARTED_MS = 1_770_000_000_000
NOTHING = ObjectRef(key="none", sha256="0" * 64, size=0)


def recording(
    objects: ObjectStore, call_id: str, wav: bytes, duration_ms: int, *, tenant: str = "acme"
) -> RecordingReady:
    """Stores a recording and returns its event."""
    audio = objects.put(f"{recording_prefix(tenant, call_id, 1)}/audio.wav", wav, "audio/wav")
    return RecordingReady(
        event_id=f"recorded-{call_id}",
        call_id=call_id,
        tenant=tenant,
        occurred_at_ms=STARTED_MS + duration_ms + 900,
        carrier="twilio",
        audio=audio,
        peaks=NOTHING,
        manifest=NOTHING,
        duration_ms=duration_ms,
        rate_hz=8000,
        tracks=[TrackOutline(name=name, audio_ms=duration_ms) for name in ("inbound", "outbound")],
        started_at_ms=STARTED_MS,
        ended_at_ms=STARTED_MS + duration_ms,
        close_reason="ended",
    )


def said(call_id: str, *turns: str) -> Transcript:
    """Returns a transcript in which the speakers alternate every second, inbound first."""
    return Transcript(
        call_id=call_id,
        language="en",
        duration_ms=1000 * len(turns),
        provider="whisper",
        model="base",
        segments=[
            Segment(
                start_ms=1000 * index,
                end_ms=1000 * index + 900,
                channel=index % 2,
                speaker=("inbound", "outbound")[index % 2],
                text=text,
            )
            for index, text in enumerate(turns)
        ],
    )


def transcribed(objects: ObjectStore, transcript: Transcript, *, tenant: str = "acme") -> TranscriptReady:
    """Stores a transcript and returns its event."""
    transcript_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{transcript.call_id}"))
    key = transcript_key(tenant, transcript.call_id, transcript_id)
    return TranscriptReady(
        event_id=f"transcribed-{transcript.call_id}",
        call_id=transcript.call_id,
        tenant=tenant,
        occurred_at_ms=STARTED_MS,
        transcript_id=transcript_id,
        transcript=objects.put(key, transcript.model_dump_json().encode(), "application/json"),
        recording_sha256="0" * 64,
        language=transcript.language,
        duration_ms=transcript.duration_ms,
        provider=transcript.provider,
        model=transcript.model,
        segments=len(transcript.segments),
        words=0,
        engine_ms=1,
        call_started_at_ms=STARTED_MS,
    )
