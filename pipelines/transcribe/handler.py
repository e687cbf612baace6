"""recording.ready → transcript.ready and usage.recorded: what was said, and the one line of the bill for it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from core.settings import PricingSettings, Settings
from pipelines.billing.charge_policy import ChargeOncePolicy
from pipelines.billing.pricing import Charge, Charges, cost_discrepancy, transcription_charge
from pipelines.jobs import documents
from pipelines.jobs.completion_listener import CompletionListener, listen
from pipelines.jobs.outbox import IdempotentStage
from pipelines.jobs.remote_orders import ObjectKeys, RemoteTranscription, Timing
from pipelines.jobs.result_cache import PendingResults
from pipelines.providers import registry
from pipelines.providers.base import Bill, Billing, RemoteJobs, SpeechToText, TranscriptionJob, config_hash_for
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.errors import PermanentError
from pipelines.runtime.stage import Output, Stage
from schemas.artifacts import Transcript, charge_key, intent_key, transcript_key
from schemas.events import ObjectRef, RecordingReady, TranscriptReady, UsageRecorded
from schemas.ids import job_key, uuid_of
from schemas.topics import Topic
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

NAME = "transcribe"
SPEAKERS = ("inbound", "outbound")  # by channel, as the recorder writes them


_MOST_BYTES = 0xFFFFFFFF  # what a WAV can have; no engine takes more, and this machine's memory need not
_UNSTORED = 256  # transcripts kept until storage takes them: some 100 kB for half an hour


@dataclass(frozen=True, slots=True)
class _Made:
    """A transcript. engine_ms: what the engine took. bill: what it said it charges."""

    transcript: Transcript
    engine_ms: int
    bill: Bill | None


class TranscribeHandler:
    """The work on one recording. The result's key follows from audio and configuration: what is there is not made
    again, and what is told again has the same ids."""

    def __init__(
        self,
        provider: SpeechToText | RemoteJobs,
        objects: ObjectStore,
        pricing: PricingSettings,
        timing: Timing | None = None,
        notices: CompletionListener | None = None,
        *,
        charges: Charges | None = None,
    ) -> None:
        """timing: of orders at a provider that works remotely; notices: where is told that one is done. charges: what
        the customer pays, if not the usual."""
        self._engine = (
            RemoteTranscription(provider, objects, timing, notices=notices)
            if isinstance(provider, RemoteJobs)
            else provider
        )
        self._objects = objects
        self._pricing = pricing
        self._charges = charges or ChargeOncePolicy(objects, pricing)
        self._hash_for = config_hash_for(provider)
        self._unstored: PendingResults[_Made] = PendingResults(_UNSTORED)

    async def __call__(self, event: RecordingReady) -> Sequence[Output]:
        """The transcript's event and its ledger line. Raises pipelines.runtime.errors."""
        transcript_id = job_key(
            tenant=event.tenant,
            call_id=event.call_id,
            stage=NAME,
            input_sha256=event.audio.sha256,
            config_hash=self._hash_for(event.tenant),
        )
        key = transcript_key(event.tenant, event.call_id, transcript_id)
        place = ObjectKeys(intent_key(event.tenant, event.call_id, transcript_id), key)
        engine_ms = 0  # of this attempt: a result that is found cost nothing now
        result = await documents.get_result(self._objects, key, Transcript)
        if result is None:
            made = await self._unstored.get(transcript_id, lambda: self._transcribe(event, transcript_id, place))
            engine_ms = made.engine_ms
            if isinstance(self._engine, Billing):
                # Before the transcript is there: after that nobody knows.
                await self._charge(event, transcript_id, made.transcript, made.bill)
            result = await documents.store_result(self._objects, key, made.transcript)
            self._unstored.stored(transcript_id)
        transcript = result.content
        bill = await self._engine.release(place) if isinstance(self._engine, RemoteTranscription) else None
        charge = await self._charge(event, transcript_id, transcript, bill)
        return [
            Output(Topic.TRANSCRIPT_READY, self._ready(event, transcript_id, transcript, result.ref, engine_ms)),
            Output(Topic.USAGE_RECORDED, self._usage(event, transcript_id, transcript, charge)),
        ]

    async def _charge(
        self, recording: RecordingReady, transcript_id: str, transcript: Transcript, bill: Bill | None
    ) -> Charge:
        """What the job costs. Prices may change before this is told again: the first ones stand, so that the line
        stays the same."""
        charge = transcription_charge(recording.duration_ms, transcript.provider, self._pricing, bill)
        expected = cost_discrepancy(charge, transcript.provider, self._pricing)
        if expected is not None:
            logger.warning(
                "%s charges %s for call %s where its rate makes %s: ordered twice, or the rate in the settings is old",
                transcript.provider,
                charge.provider_cost,
                recording.call_id,
                expected,
            )
        charge = await self._charges(recording, f"transcription_{transcript_id}", charge) or charge
        key = charge_key(recording.tenant, recording.call_id, transcript_id)
        return await documents.put_if_absent(self._objects, key, charge)

    async def _transcribe(self, recording: RecordingReady, transcript_id: str, place: ObjectKeys) -> _Made:
        """The engine's transcript."""
        if recording.audio.size > _MOST_BYTES:
            raise PermanentError(f"a recording of {recording.audio.size / 1e9:.1f} GB: none is transcribed over 4 GB")
        with TemporaryDirectory(prefix="audiotext-") as folder:
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
                transcript = await self._engine.transcribe(job, place)
            else:
                transcript = await self._engine.transcribe(job)
            engine_ms = round((time.monotonic() - started) * 1000)
            bill = self._engine.billed(transcript_id) if isinstance(self._engine, Billing) else None
            return _Made(transcript, engine_ms, bill)

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

    def _usage(
        self, recording: RecordingReady, transcript_id: str, transcript: Transcript, charge: Charge
    ) -> UsageRecorded:
        """The ledger line. All of it follows from the recording and the charge, so that telling it again tells the
        same. A recording of 0 ms has one too, over 0 units: every transcription can be found on the bill."""
        key = f"transcription_{transcript_id}"
        return UsageRecorded(
            event_id=uuid_of("usage.recorded", key),
            call_id=recording.call_id,
            tenant=recording.tenant,
            part=recording.part,
            occurred_at_ms=recording.ended_at_ms,
            config_hash=self._hash_for(recording.tenant),
            key=key,
            kind="transcription",
            units=charge.units,
            duration_ms=recording.duration_ms,
            provider=transcript.provider,
            model=transcript.model,
            provider_cost=charge.provider_cost,
            price=charge.price,
            currency=charge.currency,
            call_started_at_ms=recording.started_at_ms,
            provider_ms=charge.provider_ms,
            cost_source=charge.cost_source,
        )


def run(settings: Settings) -> None:
    """The service: blocks until it is told to end. Raises SettingsError."""
    provider = registry.speech_to_text(settings)
    notices = listen(settings.kafka) if registry.callback_url(settings) else None
    objects = ObjectStore(settings.s3)
    handler = TranscribeHandler(provider, objects, settings.pricing, notices=notices)
    registry.load_in_background(provider)
    run_stage(
        settings,
        Stage(
            name=NAME,
            source=Topic.RECORDING_READY,
            retry=Topic.TRANSCRIBE_RETRY,
            event_type=RecordingReady,
            handler=IdempotentStage(NAME, handler, objects),
            concurrency=registry.transcription_concurrency(settings),
            timeout_s=settings.stt.timeout_s,
            per_minute=settings.stt.per_minute,
        ),
    )
