"""Speech to text by Soniox' asynchronous API: audio is uploaded (or fetched from a presigned URL), ordered, polled for.

It hears one channel, so a call's channels are sent one after the other in one order (pipelines.providers.reels): who
spoke is known and not guessed, and there is one order, one transcript, one charge. A recording of one channel is
diarized. Reference: https://soniox.com/docs/api-reference
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from audiotext.settings import SonioxSettings
from pipelines.claims import classified as storage_classified
from pipelines.providers import Bill, RemoteJobGoneError, TranscriptionJob, reels
from pipelines.providers.checking import Check
from pipelines.providers.http import CONNECT_S, checked, classified
from pipelines.providers.soniox_errors import error_of, failed_job
from pipelines.providers.soniox_tokens import Heard, language_of, turns_of
from pipelines.runtime.errors import PermanentError, RetryableError, StageError
from schemas.artifacts import Transcript, sent_audio_key
from schemas.notices import WEBHOOK_HEADER
from sinks.objects import ObjectStore

logger = logging.getLogger(__name__)

# Raised when what makes a transcript here changes, so that the job key does.
_REVISION = 1
_TIMEOUT_S = 60.0  # of one request; an upload makes progress or ends earlier
_LONGEST_MIN = 300  # Soniox takes no longer audio
_PAGE = 1000  # the most a page can have
_LOG_PAGES = 3
_URL_LIFETIME = timedelta(days=1)  # Soniox may queue an order for long before it fetches the audio
_ABANDONED = timedelta(hours=1)  # an upload is ordered within a minute or never
_PREFIX = "audiotext-"
_FAILED = ("error", "failed")  # its reference says the first, its page of errors the second

M = TypeVar("M", bound=BaseModel)


class _File(BaseModel):
    id: str
    filename: str
    created_at: datetime


class _Files(BaseModel):
    files: list[_File]
    next_page_cursor: str | None = None


class _Transcription(BaseModel):
    id: str
    status: str
    created_at: datetime
    filename: str = ""
    file_id: str | None = None
    audio_url: str | None = None
    audio_duration_ms: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    client_reference_id: str | None = None


class _Transcriptions(BaseModel):
    transcriptions: list[_Transcription]
    next_page_cursor: str | None = None


class _LogEntry(BaseModel):
    client_reference_id: str | None = None
    cost_usd: Decimal


class _UsageLogs(BaseModel):
    usage_logs: list[_LogEntry]
    next_page_cursor: str | None = None


class _Model(BaseModel):
    id: str
    aliased_model_id: str | None = None


class _Models(BaseModel):
    models: list[_Model]


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
        self._http = httpx.AsyncClient(
            base_url=base_url(settings.base_url),
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(_TIMEOUT_S, connect=CONNECT_S),
        )

    def config(self) -> Mapping[str, object]:
        """Model, languages and context, and how the audio is prepared."""
        return {
            "provider": self.name,
            "model": self.model,
            "language_hints": self._hints,
            "context": self._settings.context,
            "terms": list(self._settings.terms),
            "tenant_terms": {tenant: list(terms) for tenant, terms in self._settings.tenant_terms.items()},
            "reels": reels.REVISION,
            "revision": _REVISION,
        }

    async def prepare(self, job: TranscriptionJob) -> str:
        """Uploads the audio, or puts it where Soniox can fetch it. Returns the file's id or that URL."""
        audio = await asyncio.to_thread(_audio, job)
        if self._objects is not None:
            with storage_classified():
                return await asyncio.to_thread(_offer, self._objects, job, audio)
        name = f"{_PREFIX}{job.key}.flac"
        async for file in self._files():
            if file.filename == name:
                return file.id  # of an attempt that was killed before it could order
        answer = await self._ask(
            "POST", "files", files={"file": (name, audio, "audio/flac")}, data={"client_reference_id": job.key}
        )
        return _parsed(_File, answer).id

    async def submit(self, job: TranscriptionJob, prepared: str) -> str:
        """Creates the transcription."""
        try:
            answer = await self._ask("POST", "transcriptions", json=self._order(job, prepared))
        except StageError as error:
            # Only what surely was not ordered: else the audio is still to be heard.
            if not isinstance(error, RetryableError) or error.refused:
                await self._withdraw(prepared)
            raise
        return _parsed(_Transcription, answer).id

    async def find(self, key: str) -> str | None:
        """The transcription with that reference, unless it failed."""
        async for one in self._transcriptions():
            if one.client_reference_id == key and one.status not in _FAILED:
                return one.id
        return None

    async def result(self, remote_id: str, job: TranscriptionJob) -> Transcript | None:
        """The transcript, once the transcription is completed."""
        one = await self._transcription(remote_id)
        if one is None:
            raise RemoteJobGoneError(f"Soniox has no transcription {remote_id}")
        if one.status in _FAILED:
            await self._release_quietly(remote_id)
            raise failed_job(one.error_type, one.error_message)
        if one.status != "completed":
            return None
        answer = await self._ask("GET", f"transcriptions/{remote_id}/transcript", gone=(404, 409))
        if answer is None:
            raise RemoteJobGoneError(f"Soniox has no transcript of {remote_id} any more")
        heard = _parsed(Heard, answer)
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
        one = await self._transcription(remote_id)
        if one is None:
            return None
        cost = None
        try:
            cost = await self._cost(one)
        except StageError as error:
            logger.info("Soniox does not say what %s costs: %s", remote_id, error)
        return Bill(audio_ms=one.audio_duration_ms, cost=cost, currency="USD")

    async def release(self, remote_id: str) -> None:
        """Deletes the transcription and its audio."""
        one = await self._transcription(remote_id)
        if one is None:
            return
        await self._ask("DELETE", f"transcriptions/{remote_id}", gone=(404,))
        if one.file_id:
            # Deleting the transcription does it too, by the docs; twice is harmless, once forgotten is not.
            await self._ask("DELETE", f"files/{one.file_id}", gone=(404,))
        if one.audio_url:
            await self._withdraw(one.audio_url)

    async def tidy(self) -> int:
        """Deletes our uploads that no order uses, and our orders that failed. Returns how many."""
        before = datetime.now(UTC) - _ABANDONED
        used: set[str | None] = set()
        failed = []
        async for one in self._transcriptions():
            used.add(one.file_id)
            if one.status in _FAILED and one.filename.startswith(_PREFIX) and one.created_at < before:
                failed.append(one.id)
        unused = [
            file.id
            async for file in self._files()
            if file.id not in used and file.filename.startswith(_PREFIX) and file.created_at < before
        ]
        for remote_id in failed:
            await self.release(remote_id)
        for file_id in unused:
            await self._ask("DELETE", f"files/{file_id}", gone=(404,))
        return len(failed) + len(unused)

    async def check(self) -> Check:
        """Whether it answers, takes the key and has the model."""
        return await checked("Soniox", self._models(), self.model, "SONIOX")

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

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

    async def _models(self) -> list[str]:
        models = _parsed(_Models, await self._ask("GET", "models")).models
        return [name for one in models for name in (one.id, one.aliased_model_id) if name]

    async def _cost(self, one: _Transcription) -> Decimal | None:
        """The sum of what its usage log has under the transcription's reference."""
        entries: list[_LogEntry] = []
        cursor: dict[str, str] = {}
        now = datetime.now(UTC)
        window = {
            "start_time": _timestamp(max(one.created_at, now - timedelta(days=30))),
            "end_time": _timestamp(now + timedelta(minutes=5)),
            "sort": "end_time_desc",
        }
        for _ in range(_LOG_PAGES):
            page = _parsed(_UsageLogs, await self._ask("GET", "usage-logs", params=window | cursor))
            entries += [entry for entry in page.usage_logs if entry.client_reference_id == one.client_reference_id]
            if not page.next_page_cursor:
                break
            cursor = {"cursor": page.next_page_cursor}
        return sum((entry.cost_usd for entry in entries), Decimal(0)) if entries else None

    async def _transcription(self, remote_id: str) -> _Transcription | None:
        answer = await self._ask("GET", f"transcriptions/{remote_id}", gone=(404,))
        return _parsed(_Transcription, answer) if answer is not None else None

    async def _transcriptions(self) -> AsyncIterator[_Transcription]:
        cursor: dict[str, str] = {}
        while True:
            page = _parsed(_Transcriptions, await self._ask("GET", "transcriptions", params={"limit": _PAGE} | cursor))
            for one in page.transcriptions:
                yield one
            if not page.next_page_cursor:
                return
            cursor = {"cursor": page.next_page_cursor}

    async def _files(self) -> AsyncIterator[_File]:
        cursor: dict[str, str] = {}
        while True:
            page = _parsed(_Files, await self._ask("GET", "files", params={"limit": _PAGE} | cursor))
            for one in page.files:
                yield one
            if not page.next_page_cursor:
                return
            cursor = {"cursor": page.next_page_cursor}

    async def _withdraw(self, prepared: str) -> None:
        """Takes back what was prepared, as far as that goes: what stays is found by `tidy`."""
        try:
            if "://" not in prepared:
                await self._ask("DELETE", f"files/{prepared}", gone=(404,))
            elif self._objects is not None:
                with storage_classified():
                    await asyncio.to_thread(self._objects.remove, self._objects.key_in(prepared))
        except StageError as error:
            logger.warning("audio that nobody needs is still there: %s", error)

    async def _release_quietly(self, remote_id: str) -> None:
        try:
            await self.release(remote_id)
        except StageError as error:
            logger.warning("Soniox still keeps %s: %s", remote_id, error)

    async def _ask(
        self, method: str, path: str, *, gone: tuple[int, ...] = (), **more: object
    ) -> httpx.Response | None:
        """The answer, or None for a status that means it is not there."""
        with classified("Soniox"):
            answer = await self._http.request(method, path, **more)  # type: ignore[arg-type]  # json, data, files, params
        if answer.is_success:
            return answer
        if answer.status_code in gone:
            return None
        raise error_of(answer.status_code, answer.content, answer.headers)


def base_url(configured: str) -> str:
    """Where the API begins: its version is part of it, also where only the server is named."""
    url = configured.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _parsed(model: type[M], answer: httpx.Response | None) -> M:
    """The body. Raises RetryableError for something else: a proxy's page, a server that is being changed."""
    try:
        return model.model_validate_json(answer.content if answer is not None else b"")
    except ValidationError as error:
        raise RetryableError(f"Soniox answered what its reference does not describe: {error}") from error


def _reel(job: TranscriptionJob) -> reels.Reel:
    return reels.whole(reels.read(job.audio, len(job.speakers)))


def _audio(job: TranscriptionJob) -> bytes:
    """What is sent. Raises PermanentError."""
    recording = reels.read(job.audio, len(job.speakers))
    reel = reels.whole(recording)
    if reel.duration_ms > _LONGEST_MIN * 60_000:
        raise PermanentError(f"{reel.duration_ms // 60_000} minutes of audio; Soniox takes {_LONGEST_MIN}")
    return reels.flac(reel.samples(recording), recording.rate_hz)


def _offer(objects: ObjectStore, job: TranscriptionJob, audio: bytes) -> str:
    ref = objects.put(sent_audio_key(job.tenant, job.call_id, job.key), audio, "audio/flac")
    return objects.presigned(ref.key, _URL_LIFETIME)


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
