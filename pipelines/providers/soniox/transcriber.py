"""Speech to text by Soniox' asynchronous API.

We upload the audio (or Soniox downloads it from a presigned URL), place an order, and poll for the result. Soniox
processes one channel, so the channels of a call are sent one after the other in one order
(pipelines.providers.common.trimmed_audio). The speaker of each word is then known instead of guessed, and there is one
order, one transcript and one charge. For a recording with one channel, Soniox separates the speakers.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from core.health_check import Check
from core.settings import SonioxSettings
from pipelines.jobs.documents import translate_store_errors
from pipelines.providers.base import Bill, PerTenant, RemoteJobGoneError, TranscriptionJob
from pipelines.providers.common import trimmed_audio
from pipelines.providers.common.http import check_model_available
from pipelines.providers.soniox.api import SonioxApi
from pipelines.providers.soniox.errors import failed_job
from pipelines.providers.soniox.tokens import language_of, turns_of
from pipelines.runtime.errors import PermanentError, RetryableError, StageError
from schemas.artifacts import Transcript, sent_audio_key
from schemas.provider_callbacks import WEBHOOK_HEADER
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

# Increase it when the same recording gives another transcript than before, so that the job key changes.
_REVISION = 1
_MAX_MINUTES = 300  # the longest audio that Soniox accepts
_URL_LIFETIME = timedelta(days=1)  # an order may wait for long in Soniox' queue before Soniox downloads the audio
_ORPHAN_AGE = timedelta(hours=1)  # an upload that is not ordered within a minute is never ordered
_PREFIX = "audiotext-"  # name prefix of our uploads: other files in the project are never touched
_USAGE_LOG_WINDOW = timedelta(days=30)  # a request for charges may span 31 days


class Soniox:
    """RemoteJobs with Soniox' REST API."""

    name = "soniox"

    def __init__(
        self,
        settings: SonioxSettings,
        key: str,
        *,
        language: str | None = None,
        objects: ObjectStore | None = None,
        webhook_url: str | None = None,
    ) -> None:
        """Creates the client. It connects with the first request.

        Args:
            settings: Settings of Soniox.
            key: API key.
            language: Only language to expect; takes precedence over the language hints.
            objects: Object storage from which Soniox downloads audio; None uploads the audio to Soniox.
            webhook_url: Address at which Soniox reports a finished order.
        """
        self.model = settings.model
        self._settings = settings
        self._hints = [language] if language else list(settings.language_hints)
        self._objects = objects
        self._webhook_url = webhook_url if settings.webhook_secret else None
        self._api = SonioxApi(settings.base_url, key)

    def config(self) -> Mapping[str, object]:
        """Returns the model, languages and context, and the revision of the audio's preparation."""
        return {
            "provider": self.name,
            "model": self.model,
            "language_hints": self._hints,
            "context": self._settings.context,
            "terms": list(self._settings.terms),
            "tenant_terms": PerTenant({tenant: list(terms) for tenant, terms in self._settings.tenant_terms.items()}),
            "reels": trimmed_audio.REVISION,
            "revision": _REVISION,
        }

    async def prepare(self, job: TranscriptionJob) -> str:
        """Uploads the audio to Soniox, or stores it for download. Returns the file's id or the presigned URL."""
        audio = await asyncio.to_thread(_audio_to_send, job)
        if self._objects is not None:
            with translate_store_errors():
                return await asyncio.to_thread(_store_for_download, self._objects, job, audio)
        name = f"{_PREFIX}{job.key}.flac"
        async for file in self._api.files():
            if file.filename == name:
                return file.id  # from an attempt that was killed before it placed the order
        return await self._api.upload(name, audio, job.key)

    async def withdraw(self, prepared: str) -> None:
        """Deletes the upload, or the audio in object storage. `delete_orphans` deletes an upload that remains."""
        try:
            if "://" not in prepared:
                await self._api.delete_file(prepared)
            else:
                await self._remove_stored(prepared)
        except StageError as error:
            logger.warning("Soniox: unused audio could not be deleted yet: %s", error)

    async def _remove_stored(self, url: str) -> None:
        """Deletes the audio that Soniox downloads from object storage. Raises pipelines.runtime.errors."""
        if self._objects is not None:
            with translate_store_errors():
                await asyncio.to_thread(self._objects.remove, self._objects.key_from_url(url))

    async def submit(self, job: TranscriptionJob, prepared: str) -> str:
        """Places the order."""
        try:
            return await self._api.create(self._order(job, prepared))
        except StageError as error:
            # Delete the audio only if no order was placed: otherwise Soniox still needs it.
            if not isinstance(error, RetryableError) or error.refused:
                await self.withdraw(prepared)
            raise

    async def find(self, key: str) -> str | None:
        """Returns the id of the order with this reference, unless it failed."""
        async for one in self._api.transcriptions():
            if one.client_reference_id == key and not one.failed:
                return one.id
        return None

    async def result(self, remote_id: str, job: TranscriptionJob) -> Transcript | None:
        """Returns the transcript of a completed order; None while it is in progress."""
        one = await self._api.transcription(remote_id)
        if one is None:
            raise RemoteJobGoneError(f"Soniox has no order {remote_id}")
        if one.failed:
            await self._release_quietly(remote_id)
            raise failed_job(one.error_type, one.error_message)
        if one.status != "completed":
            return None
        transcript = await self._api.transcript(remote_id)
        if transcript is None:
            raise RemoteJobGoneError(f"Soniox no longer has the transcript of order {remote_id}")
        audio = await asyncio.to_thread(_trimmed, job)
        return Transcript(
            call_id=job.call_id,
            language=language_of(transcript.tokens),
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=turns_of(transcript.tokens, audio, job.speakers, job.duration_ms),
        )

    async def bill(self, remote_id: str) -> Bill | None:
        """Returns the cost of all orders under the job's key, as far as Soniox' usage log has it already."""
        one = await self._api.transcription(remote_id)
        if one is None:
            return None
        now = datetime.now(UTC)
        try:
            charges = await self._api.charges(
                one.client_reference_id, max(one.created_at, now - _USAGE_LOG_WINDOW), now + timedelta(minutes=5)
            )
        except StageError as error:
            logger.info("Soniox does not report the cost of order %s: %s", remote_id, error)
            charges = []
        return Bill(one.audio_duration_ms, cost=sum(charges, Decimal(0)) if charges else None, currency="USD")

    async def release(self, remote_id: str) -> None:
        """Deletes the order and its audio."""
        one = await self._api.transcription(remote_id)
        if one is None:
            return
        # The audio in object storage goes first: only the order knows its address, so after a crash in between the next
        # attempt still finds it.
        if one.audio_url:
            await self._remove_stored(one.audio_url)
        await self._api.delete_transcription(remote_id)
        if one.file_id:
            # By the docs the previous request deletes the file too. Deleting it twice is harmless, keeping it is not.
            await self._api.delete_file(one.file_id)

    async def delete_orphans(self) -> int:
        """Deletes our uploads that no order uses, and our failed orders. Returns their number."""
        before = datetime.now(UTC) - _ORPHAN_AGE
        used: set[str | None] = set()
        failed = []
        async for one in self._api.transcriptions():
            used.add(one.file_id)
            if one.failed and one.filename.startswith(_PREFIX) and one.created_at < before:
                failed.append(one.id)
        unused = [
            file.id
            async for file in self._api.files()
            if file.id not in used and file.filename.startswith(_PREFIX) and file.created_at < before
        ]
        for remote_id in failed:
            await self.release(remote_id)
        for file_id in unused:
            await self._api.delete_file(file_id)
        return len(failed) + len(unused)

    async def check(self) -> Check:
        """Checks that Soniox responds, accepts the key and has the model."""
        return await check_model_available("Soniox", self._api.models(), self.model, "SONIOX")

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    def _order(self, job: TranscriptionJob, prepared: str) -> dict[str, object]:
        order: dict[str, object] = {
            "model": self.model,
            "audio_url" if "://" in prepared else "file_id": prepared,
            "client_reference_id": job.key,
            "enable_speaker_diarization": len(job.speakers) == 1,
            "enable_language_identification": True,
        }
        if self._hints:
            order["language_hints"] = self._hints
        terms = [*self._settings.terms, *self._settings.tenant_terms.get(job.tenant, ())]
        if terms or self._settings.context:
            order["context"] = {"terms": terms} | ({"text": self._settings.context} if self._settings.context else {})
        if self._webhook_url and self._settings.webhook_secret:
            order["webhook_url"] = self._webhook_url
            order["webhook_auth_header_name"] = WEBHOOK_HEADER
            order["webhook_auth_header_value"] = self._settings.webhook_secret.get_secret_value()
        return order

    async def _release_quietly(self, remote_id: str) -> None:
        try:
            await self.release(remote_id)
        except StageError as error:
            logger.warning("Soniox: order %s is not deleted yet: %s", remote_id, error)


def _trimmed(job: TranscriptionJob) -> trimmed_audio.TrimmedAudio:
    return trimmed_audio.trimmed(trimmed_audio.read_wav(job.audio, len(job.speakers)))


def _audio_to_send(job: TranscriptionJob) -> bytes:
    """Returns the FLAC file to send.

    Raises:
        PermanentError: The recording cannot be read, or is longer than Soniox accepts.
    """
    recording = trimmed_audio.read_wav(job.audio, len(job.speakers))
    audio = trimmed_audio.trimmed(recording)
    if audio.duration_ms > _MAX_MINUTES * 60_000:
        raise PermanentError(
            f"the call has {audio.duration_ms // 60_000} minutes of audio, but Soniox accepts only {_MAX_MINUTES}: "
            "transcribe it with another provider"
        )
    return trimmed_audio.encode_flac(audio.samples(recording), recording.rate_hz)


def _store_for_download(objects: ObjectStore, job: TranscriptionJob, audio: bytes) -> str:
    ref = objects.put(sent_audio_key(job.tenant, job.call_id, job.key), audio, "audio/flac")
    return objects.presigned(ref.key, _URL_LIFETIME)
