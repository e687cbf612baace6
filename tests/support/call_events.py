"""Events of calls, as the services emit them."""

from collections.abc import Sequence
from decimal import Decimal

from schemas.events import (
    AnyEvent,
    CallStatusReported,
    DtmfReceived,
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
from sinks.clickhouse.call_projection import UsageLine
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import event_row, ledger_row

T0 = 1_764_000_000_000  # 2025-11-24 16:00 UTC, ms


class Call:
    """Factory for the events of one call. Times are ms from the start of the call, `t0` (ms since the epoch)."""

    def __init__(self, call_id: str, tenant: str = "acme", t0: int = T0) -> None:
        self.id = call_id
        self.tenant = tenant
        self.t0 = t0

    def started(self, at: int = 0, stream: str = "MZ1") -> StreamStarted:
        return StreamStarted(
            **self._base("started", at, stream),
            carrier="twilio",
            stream_id=stream,
            tracks=["inbound", "outbound"],
            codec="PCMU",
            rate_hz=8000,
            from_number="+4930111",
            to_number="+4930222",
        )

    def ended(self, at: int = 60_000, stream: str = "MZ1", reason: str = "carrier-stop") -> StreamEnded:
        return StreamEnded(**self._base("ended", at, stream), stream_id=stream, reason=reason)

    def digit(self, digit: str, at: int, stream: str = "MZ1", *, seq: int = 0, number: int = 0) -> DtmfReceived:
        return DtmfReceived(
            **self._base("digit", at, f"{stream} {seq} {number}"),
            stream_id=stream,
            track="inbound",
            digit=digit,
            seq=seq,
            number=number,
        )

    def recording(self, at: int = 61_000, part: int = 1, start: int = 0, end: int = 60_000) -> RecordingReady:
        return RecordingReady(
            **self._base("recording", at, part),
            part=part,
            carrier="twilio",
            audio=self._object(f"audio{part}.wav"),
            peaks=self._object("peaks.json"),
            manifest=self._object("manifest.json"),
            duration_ms=end - start,
            rate_hz=8000,
            tracks=[
                TrackOutline(name="inbound", audio_ms=end - start),
                TrackOutline(
                    name="outbound", audio_ms=end - start - 400, gaps=[Gap(start_ms=0, end_ms=400, reason="lost")]
                ),
            ],
            started_at_ms=self.t0 + start,
            ended_at_ms=self.t0 + end,
            close_reason="ended",
        )

    def transcript(self, at: int = 65_000, part: int = 1, ref: ObjectRef | None = None) -> TranscriptReady:
        return TranscriptReady(
            **self._base("transcript", at, part),
            part=part,
            transcript_id=self._transcript_id(part),
            transcript=ref or self._object("transcript.json"),
            recording_sha256="0" * 64,
            language="en",
            duration_ms=60_000,
            provider="whisper",
            model="base",
            segments=2,
            words=7,
            engine_ms=3_000,
            call_started_at_ms=self.t0,
        )

    def summary(self, at: int = 65_200, part: int = 1) -> SummaryReady:
        return SummaryReady(
            **self._base("summary", at, part),
            part=part,
            transcript_id=self._transcript_id(part),
            summary=self._object("summary.json"),
            provider="extractive",
            model="1",
            abstract=f"About part {part}.",
            key_points=["one"],
            action_items=["call back"],
            engine_ms=20,
            call_started_at_ms=self.t0,
        )

    def embedding(self, at: int = 65_300, part: int = 1) -> EmbeddingReady:
        return EmbeddingReady(
            **self._base("embedding", at, part),
            part=part,
            transcript_id=self._transcript_id(part),
            provider="local",
            model="minilm",
            collection="calls",
            dimension=384,
            points=2,
            engine_ms=30,
            call_started_at_ms=self.t0,
        )

    def failed(self, stage: str, at: int = 70_000, part: int = 1) -> StageFailed:
        return StageFailed(
            **self._base("failed", at, stage, part),
            part=part,
            stage=stage,
            error_class="permanent",
            error=f"{stage} cannot",
            attempts=1,
            origin_topic="recording.ready",
            origin_partition=0,
            origin_offset=0,
            payload="{}",
        )

    def reported(self, status: str = "completed", at: int = 0) -> CallStatusReported:
        return CallStatusReported(**self._base("status", at, status), carrier="x", status=status, over=True)

    def complete(self) -> list[AnyEvent]:
        """Returns all events of a successful call."""
        return [
            self.started(),
            self.ended(),
            self.recording(),
            self.transcript(),
            self.summary(),
            self.embedding(),
        ]

    def usage(
        self,
        *,
        cost: str = "0.0005",
        price: str = "0.01",
        units: int = 50,
        at: int = 65_000,
        currency: str = "USD",
        part: int = 1,
    ) -> UsageRecorded:
        key = f"transcription_{self._transcript_id(part)}"
        return UsageRecorded(
            **self._base("usage", at, key),
            part=part,
            key=key,
            kind="transcription",
            units=units,
            duration_ms=60_000,
            provider="whisper",
            model="base",
            provider_cost=Decimal(cost),
            price=Decimal(price),
            currency=currency,
            call_started_at_ms=self.t0,
        )

    def _base(self, kind: str, at: int, *key: str | int) -> "dict[str, object]":
        return {
            "event_id": uuid_of(kind, self.tenant, self.id, *key),
            "call_id": self.id,
            "tenant": self.tenant,
            "occurred_at_ms": self.t0 + at,
        }

    def _transcript_id(self, part: int) -> str:
        return uuid_of("transcript", self.tenant, self.id, part)

    def _object(self, name: str) -> ObjectRef:
        return ObjectRef(key=f"{self.tenant}/{self.id}/{name}", sha256="0" * 64, size=10)


def line_of(event: UsageRecorded) -> UsageLine:
    """Returns the ledger line of an event."""
    return UsageLine(
        key=event.key,
        kind=event.kind,
        provider=event.provider,
        model=event.model,
        replay_id=event.replay_id,
        charged_at_ms=event.occurred_at_ms,
        units=event.units,
        duration_ms=event.duration_ms,
        provider_cost=str(event.provider_cost),
        price=str(event.price),
        currency=event.currency,
    )


def insert(database: Database, events: Sequence[AnyEvent]) -> None:
    """Stores the events as the services do: usage in the ledger, all others in `events`."""
    database.insert([ledger_row(event) if isinstance(event, UsageRecorded) else event_row(event) for event in events])
