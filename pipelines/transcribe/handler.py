"""recording.ready → transcript.ready and usage.recorded: the transcript, and its one ledger line."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from core import work_directory
from core.settings import PricingSettings, Settings
from pipelines.billing.charge_policy import ChargePolicy
from pipelines.billing.pricing import Charge, cost_discrepancy, transcription_charge
from pipelines.billing.usage_lines import usage_line
from pipelines.jobs import documents
from pipelines.jobs.completion_listener import CompletionListener, listen
from pipelines.jobs.documents import Document
from pipelines.jobs.job_record import JobDocument
from pipelines.jobs.remote_orders import RemoteTranscription, Timing
from pipelines.jobs.result_cache import PendingResults
from pipelines.jobs.stage_record import IdempotentStage, StageRecord
from pipelines.providers import registry
from pipelines.providers.base import Bill, RemoteJobs, SpeechToText, TranscriptionJob, config_hash_for
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.errors import PermanentError
from pipelines.runtime.stage import Output, Stage
from pipelines.stages import TRANSCRIBE
from pipelines.transcribe.metrics import TranscriptMetrics
from schemas.artifacts import Transcript, transcript_key
from schemas.events import ObjectRef, RecordingReady, TranscriptReady
from schemas.ids import job_key, uuid_of
from schemas.topics import Topic
from schemas.usage_keys import UsageKey, UsageKind
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

SPEAKERS = ("inbound", "outbound")  # by channel, as the recorder writes them
_MAX_BYTES = 0xFFFFFFFF  # limit of a WAV; no engine takes more, and this machine's memory may not either
_PENDING = 256  # transcripts kept until they are stored: some 100 kB for half an hour


@dataclass(frozen=True, slots=True)
class _Made:
    """A transcript that is not stored yet. engine_ms: the time the engine took."""

    transcript: Transcript
    bill: Bill | None
    engine_ms: int


class TranscribeHandler:
    """Handler of one recording.

    The keys of record and result follow from audio and configuration, so that a stored result is not made again, and
    events that are published again have the same ids.
    """

    def __init__(
        self,
        provider: SpeechToText | RemoteJobs,
        objects: ObjectStore,
        pricing: PricingSettings,
        timing: Timing | None = None,
        notices: CompletionListener | None = None,
        *,
        live: bool = True,
        metrics: TranscriptMetrics | None = None,
        work: Path | None = None,
    ) -> None:
        """Connects to nothing.

        timing, notices: for a provider that works remotely. live: False for replays. work: directory for temporary
        files, by default the system's.
        """
        self._engine = (
            RemoteTranscription(provider, objects, timing, notices=notices)
            if isinstance(provider, RemoteJobs)
            else provider
        )
        self._objects = objects
        self._pricing = pricing
        self._charges = ChargePolicy(TRANSCRIBE.group, objects, pricing, live=live)
        self._hash_for = config_hash_for(provider)
        self._metrics = metrics or TranscriptMetrics(TRANSCRIBE.group)
        self._pending: PendingResults[_Made] = PendingResults(_PENDING)
        self._work = work

    async def __call__(
        self, event: RecordingReady, stage_record: Document[StageRecord] | None = None
    ) -> Sequence[Output]:
        """Returns the transcript's event and its ledger line. Raises pipelines.runtime.errors."""
        transcript_id = job_key(
            tenant=event.tenant,
            call_id=event.call_id,
            stage=TRANSCRIBE.group,
            input_sha256=event.audio.sha256,
            config_hash=self._hash_for(event.tenant),
        )
        key = UsageKey(UsageKind.TRANSCRIPTION, transcript_id)
        record = JobDocument(self._objects, event.tenant, event.call_id, transcript_id)
        result = Document(self._objects, transcript_key(event.tenant, event.call_id, transcript_id), Transcript)
        engine_ms = 0  # of this attempt: a result that is found cost nothing now
        bill = None
        # The record is written before the result: without a record there is no result to look for.
        transcript = await result.get() if await record.get() else None
        found = transcript is not None
        if transcript is None:
            made = await self._pending.get(
                transcript_id, lambda: self._transcribe(event, transcript_id, record, result)
            )
            transcript, bill, engine_ms = made.transcript, made.bill, made.engine_ms
        provider = transcript.provider
        usual = self._usual_charge(event, provider, bill)
        charge = await record.charge(lambda _: self._charges(event, key, usual, stage_record))
        charge = charge or usual  # every transcription has a ledger line, one of 0 ms too
        if not found:
            # After the charge: once the result is visible, nothing but the record knows the bill.
            transcript = await result.put_if_absent(transcript)
            self._pending.stored(transcript_id)
        if isinstance(self._engine, RemoteTranscription):
            await self._engine.release(record)
        line = usage_line(
            event, key, charge, self._hash_for(event.tenant), provider=transcript.provider, model=transcript.model
        )
        return [
            Output(Topic.TRANSCRIPT_READY, self._ready(event, transcript_id, transcript, result.ref, engine_ms)),
            Output(Topic.USAGE_RECORDED, line),
        ]

    def _usual_charge(self, recording: RecordingReady, provider: str, bill: Bill | None) -> Charge:
        """Returns the charge by the settings, and warns if the provider's cost differs from its rate."""
        charge = transcription_charge(recording.duration_ms, provider, self._pricing, bill)
        expected = cost_discrepancy(charge, provider, self._pricing)
        if expected is not None:
            logger.warning(
                "%s charged %s for call %s, but the rate in the settings gives %s: the call was ordered twice, or the "
                "rate is outdated",
                provider,
                charge.provider_cost,
                recording.call_id,
                expected,
            )
        return charge

    async def _transcribe(
        self, recording: RecordingReady, transcript_id: str, record: JobDocument, result: Document[Transcript]
    ) -> _Made:
        """Returns the engine's transcript."""
        if recording.audio.size > _MAX_BYTES:
            raise PermanentError(
                f"the recording has {recording.audio.size / 1e9:.1f} GB; recordings over 4 GB cannot be transcribed"
            )
        with TemporaryDirectory(prefix="audiotext-", dir=self._work) as folder:
            audio = Path(folder) / "audio.wav"
            await documents.download(self._objects, recording.audio, audio)
            logger.info("transcribing %.1f s of call %s", recording.duration_ms / 1000, recording.call_id)
            started = time.monotonic()
            job = TranscriptionJob(
                key=transcript_id,
                call_id=recording.call_id,
                audio=audio,
                duration_ms=recording.duration_ms,
                speakers=SPEAKERS[: recording.channels],
                tenant=recording.tenant,
            )
            if isinstance(self._engine, RemoteTranscription):
                made = await self._engine.transcribe(job, record, result)
            else:
                made = await self._engine.transcribe(job)
            self._metrics.record(made.transcript)
            return _Made(made.transcript, made.bill, round((time.monotonic() - started) * 1000))

    def _ready(
        self,
        recording: RecordingReady,
        transcript_id: str,
        transcript: Transcript,
        ref: ObjectRef,
        engine_ms: int,
    ) -> TranscriptReady:
        return TranscriptReady(
            event_id=uuid_of("transcript.ready", recording.tenant, recording.call_id, recording.part, transcript_id),
            call_id=recording.call_id,
            tenant=recording.tenant,
            part=recording.part,
            occurred_at_ms=time.time_ns() // 1_000_000,
            config_hash=self._hash_for(recording.tenant),
            transcript_id=transcript_id,
            transcript=ref,
            recording_sha256=recording.audio.sha256,
            language=transcript.language,
            duration_ms=transcript.duration_ms,
            provider=transcript.provider,
            model=transcript.model,
            segments=len(transcript.segments),
            words=sum(len(segment.words) for segment in transcript.segments),
            engine_ms=engine_ms,
            call_started_at_ms=recording.started_at_ms,
        )


def run(settings: Settings) -> None:
    """Runs the service until SIGTERM or SIGINT. Raises SettingsError."""
    provider = registry.speech_to_text(settings)
    notices = listen(settings.kafka) if registry.callback_url(settings) else None
    objects = ObjectStore(settings.s3)
    metrics = TranscriptMetrics(TRANSCRIBE.group)
    work = work_directory.create(settings.data_dir / "transcriber")
    handler = TranscribeHandler(provider, objects, settings.pricing, notices=notices, metrics=metrics, work=work)
    registry.load_in_background(provider)
    run_stage(
        settings,
        Stage(
            name=TRANSCRIBE.group,
            source=TRANSCRIBE.source,
            retry=TRANSCRIBE.retry_topic,
            event_type=RecordingReady,
            handler=IdempotentStage(TRANSCRIBE.group, handler, objects),
            concurrency=registry.transcription_concurrency(settings),
            timeout_s=settings.stt.timeout_s,
            per_minute=settings.stt.per_minute,
            registry=metrics.registry,
        ),
    )
