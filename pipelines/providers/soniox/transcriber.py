"""Speech to text by Soniox' asynchronous API: audio is uploaded (or fetched from a presigned URL), ordered, polled for.

It hears one channel, so a call's channels are sent one after the other in one order
(pipelines.providers.common.trimmed_audio): who
spoke is known and not guessed, and there is one order, one transcript, one charge. A recording of one channel is
diarized.
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
from pipelines.providers.common.http import checked
from pipelines.providers.soniox.api import SonioxApi
from pipelines.providers.soniox.errors import failed_job
from pipelines.providers.soniox.tokens import language_of, turns_of
from pipelines.runtime.errors import PermanentError, RetryableError, StageError
from schemas.artifacts import Transcript, sent_audio_key
from schemas.provider_callbacks import WEBHOOK_HEADER
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

# Raised when what makes a transcript here changes, so that the job key does.
_REVISION = 1
_LONGEST_MIN = 300  # Soniox takes no longer audio
_URL_LIFETIME = timedelta(days=1)  # Soniox may queue an order for long before it fetches the audio
_ABANDONED = timedelta(hours=1)  # an upload is ordered within a minute or never
_PREFIX = "audiotext-"  # of the names of our uploads: nothing else is touched
_LOGGED = timedelta(days=30)  # a question about charges may span 31


class Soniox:
    """RemoteJobs over the REST API."""

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
        """key: the API key. language: the only one expected. objects: where audio is put for Soniox to fetch, if it is
        not to be uploaded. webhook_url: where Soniox tells that an order is done."""
        self.model = settings.model
        self._settings = settings
        self._hints = [language] if language else list(settings.language_hints)
        self._objects = objects
        self._webhook_url = webhook_url if settings.webhook_secret else None
        self._api = SonioxApi(settings.base_url, key)

    def config(self) -> Mapping[str, object]:
        """Model, languages and context, and how the audio is prepared."""
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
        """Uploads the audio, or puts it where Soniox can fetch it. Returns the file's id or that URL."""
        audio = await asyncio.to_thread(_audio, job)
        if self._objects is not None:
            with translate_store_errors():
                return await asyncio.to_thread(_offer, self._objects, job, audio)
        name = f"{_PREFIX}{job.key}.flac"
        async for file in self._api.files():
            if file.filename == name:
                return file.id  # of an attempt that was killed before it could order
        return await self._api.upload(name, audio, job.key)

    async def withdraw(self, prepared: str) -> None:
        """Deletes the upload, or the audio in object storage. `tidy` finds an upload that stays."""
        try:
            if "://" not in prepared:
                await self._api.delete_file(prepared)
            elif self._objects is not None:
                with translate_store_errors():
                    await asyncio.to_thread(self._objects.remove, self._objects.key_from_url(prepared))
        except StageError as error:
            logger.warning("audio that nobody needs is still there: %s", error)

    async def submit(self, job: TranscriptionJob, prepared: str) -> str:
        """Creates the transcription."""
        try:
            return await self._api.create(self._order(job, prepared))
        except StageError as error:
            # Only what surely was not ordered: else the audio is still to be heard.
            if not isinstance(error, RetryableError) or error.refused:
                await self.withdraw(prepared)
            raise

    async def find(self, key: str) -> str | None:
        """The transcription with that reference, unless it failed."""
        async for one in self._api.transcriptions():
            if one.client_reference_id == key and not one.failed:
                return one.id
        return None

    async def result(self, remote_id: str, job: TranscriptionJob) -> Transcript | None:
        """The transcript, once the transcription is completed."""
        one = await self._api.transcription(remote_id)
        if one is None:
            raise RemoteJobGoneError(f"Soniox has no transcription {remote_id}")
        if one.failed:
            await self._release_quietly(remote_id)
            raise failed_job(one.error_type, one.error_message)
        if one.status != "completed":
            return None
        heard = await self._api.transcript(remote_id)
        if heard is None:
            raise RemoteJobGoneError(f"Soniox has no transcript of {remote_id} any more")
        reel = await asyncio.to_thread(_reel, job)
        return Transcript(
            call_id=job.call_id,
            language=language_of(heard.tokens),
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=turns_of(heard.tokens, reel, job.speakers, job.duration_ms),
        )

    async def bill(self, remote_id: str) -> Bill | None:
        """What Soniox charges for everything ordered under the job's key, as far as its log says so already."""
        one = await self._api.transcription(remote_id)
        if one is None:
            return None
        now = datetime.now(UTC)
        try:
            charges = await self._api.charges(
                one.client_reference_id, max(one.created_at, now - _LOGGED), now + timedelta(minutes=5)
            )
        except StageError as error:
            logger.info("Soniox does not say what %s costs: %s", remote_id, error)
            charges = []
        return Bill(one.audio_duration_ms, cost=sum(charges, Decimal(0)) if charges else None, currency="USD")

    async def release(self, remote_id: str) -> None:
        """Deletes the transcription and its audio."""
        one = await self._api.transcription(remote_id)
        if one is None:
            return
        await self._api.delete_transcription(remote_id)
        if one.file_id:
            # Deleting the transcription does it too, by the docs; twice is harmless, once forgotten is not.
            await self._api.delete_file(one.file_id)
        if one.audio_url:
            await self.withdraw(one.audio_url)

    async def delete_orphans(self) -> int:
        """Deletes our uploads that no order uses, and our orders that failed. Returns how many."""
        before = datetime.now(UTC) - _ABANDONED
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
        """Whether it answers, takes the key and has the model."""
        return await checked("Soniox", self._api.models(), self.model, "SONIOX")

    async def close(self) -> None:
        """Closes its connections."""
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
            logger.warning("Soniox still keeps %s: %s", remote_id, error)


def _reel(job: TranscriptionJob) -> trimmed_audio.TrimmedAudio:
    return trimmed_audio.whole(trimmed_audio.read(job.audio, len(job.speakers)))


def _audio(job: TranscriptionJob) -> bytes:
    """What is sent. Raises PermanentError."""
    recording = trimmed_audio.read(job.audio, len(job.speakers))
    reel = trimmed_audio.whole(recording)
    if reel.duration_ms > _LONGEST_MIN * 60_000:
        raise PermanentError(f"{reel.duration_ms // 60_000} minutes of audio; Soniox takes {_LONGEST_MIN}")
    return trimmed_audio.flac(reel.samples(recording), recording.rate_hz)


def _offer(objects: ObjectStore, job: TranscriptionJob, audio: bytes) -> str:
    ref = objects.put(sent_audio_key(job.tenant, job.call_id, job.key), audio, "audio/flac")
    return objects.presigned(ref.key, _URL_LIFETIME)
