"""Speech to text by servers with OpenAI's /v1/audio/transcriptions: OpenAI itself, speaches, vLLM and others.

The response to the request is the result, so after a crash it cannot be retrieved; docs/reliability/guarantees.md
describes what that costs. Responses stay in memory while the process runs: if one request of a call fails, the next
attempt does not pay for the others again.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import TypeVar

import httpx
import numpy as np
import soxr
from pydantic import BaseModel, ValidationError

from core.health_check import Check
from core.settings import OpenAiSettings
from pipelines.providers.base import Bill, Transcription, TranscriptionJob
from pipelines.providers.common import trimmed_audio
from pipelines.providers.common.http import CONNECT_S, check_model_available, error_for_status, translate_http_errors
from pipelines.providers.common.utterances import SpokenWord, segments_of
from pipelines.providers.openai.words import UNDETERMINED, TranscriptionResponse, language_code, words_of
from pipelines.runtime.errors import BilledFailureError, PermanentError, QuotaError, RetryableError, StageError
from schemas.artifacts import Transcript

logger = logging.getLogger(__name__)

# Increase it when the same recording gives another transcript than before, so that the job key changes.
_REVISION = 1
_RATE_HZ = 16_000  # the rate of these models' training data: a higher rate only means more bytes
_MAX_BYTES = 24_000_000  # OpenAI accepts 25 MB per request, including the other form fields
_MAX_S = 20 * 60.0  # the most audio that is paid again if one request fails
_CONCURRENCY = 4  # requests of one call at the same time
_MAX_REMEMBERED = 256  # responses of unfinished calls
# OpenAI's codes for a 429 that waiting does not clear: https://platform.openai.com/docs/guides/error-codes
_QUOTA_CODES = {
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credit_balance_exhausted",
    "organization_spend_limit_exceeded", "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
}  # fmt: skip


K = TypeVar("K")
V = TypeVar("V")
M = TypeVar("M", bound=BaseModel)


class _ErrorDetail(BaseModel):
    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _ErrorBody(BaseModel):
    error: _ErrorDetail


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class OpenAi:
    """SpeechToText with OpenAI's HTTP API."""

    name = "openai"

    def __init__(self, settings: OpenAiSettings, *, language: str | None = None, timeout_s: float = 900.0) -> None:
        """Creates the client. It connects with the first request.

        Args:
            settings: Settings of the server.
            language: ISO 639-1 code; None lets the server detect the language.
            timeout_s: Time-out of one request, in seconds.
        """
        self.model = settings.model
        self._settings = settings
        self._language = language
        self._responses: OrderedDict[tuple[str, int], TranscriptionResponse] = OrderedDict()
        key = settings.api_key.get_secret_value() if settings.api_key else None
        self._http = httpx.AsyncClient(
            base_url=settings.base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
        )

    def config(self) -> Mapping[str, object]:
        """Returns the server, model, language and prompt, and the revision of the audio's preparation.

        The server is part of it because two servers may offer different models under the same name.
        """
        return {
            "provider": self.name,
            "base_url": str(self._http.base_url),
            "model": self.model,
            "language": self._language,
            "prompt": self._settings.prompt,
            "timestamps": self._settings.timestamps,
            "reels": trimmed_audio.REVISION,
            "revision": _REVISION,
        }

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        """Transcribes the recording, each channel in its own requests.

        The bill has the audio that the server counted. The server does not report its cost.

        Raises:
            StageError: See pipelines.runtime.errors.
        """
        audios, files = await asyncio.to_thread(_prepare, job)
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def one(number: int) -> TranscriptionResponse:
            async with slots:
                return await self._transcribe_one(job, number, files[number])

        # Every request runs to its end, even if another fails: its response is paid for and kept for the next attempt.
        responses = _all_or_raise(
            await asyncio.gather(*(one(number) for number in range(len(files))), return_exceptions=True)
        )
        for number in range(len(files)):
            self._responses.pop((job.key, number), None)
        channels: list[list[SpokenWord]] = [[] for _ in job.speakers]
        for audio, response in zip(audios, responses, strict=True):
            for word in words_of(response, audio.duration_ms):
                channel, start_ms, end_ms = audio.to_source_time(word.start_ms, word.end_ms)
                end_ms = min(max(start_ms, end_ms), job.duration_ms)
                channels[channel].append(SpokenWord(min(start_ms, end_ms), end_ms, word.text, word.confidence))
        transcript = Transcript(
            call_id=job.call_id,
            language=self._language or _language(responses),
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=segments_of(channels, job.speakers),
        )
        return Transcription(transcript, Bill(_billed_ms(audios, responses), cost=None, currency=""))

    async def check(self) -> Check:
        """Checks that the server responds, accepts the key and has the model."""
        return await check_model_available("OpenAI-compatible speech to text", self._models(), self.model, "OPENAI")

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _models(self) -> list[str]:
        with translate_http_errors(self.name):
            response = await self._http.get("models")
        if not response.is_success:
            raise error_of(response)
        return [model.id for model in _parsed(_Models, response).data]

    async def _transcribe_one(self, job: TranscriptionJob, number: int, audio: bytes) -> TranscriptionResponse:
        """Transcribes one piece of audio, unless its response is in memory."""
        if (known := self._responses.get((job.key, number))) is not None:
            return known
        form: dict[str, str | list[str]] = {
            "model": self.model,
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"] if self._settings.timestamps == "word" else ["segment"],
        }
        if self._language:
            form["language"] = self._language
        if self._settings.prompt:
            form["prompt"] = self._settings.prompt
        with translate_http_errors(self.name):
            response = await self._http.post(
                "audio/transcriptions",
                data=form,
                files={"file": ("audio.flac", audio, "audio/flac")},
                # OpenAI does not document this header, but gateways in front of such servers use it.
                headers={"Idempotency-Key": f"{job.key}-{number}"},
            )
        if not response.is_success:
            raise error_of(response)
        transcription = _parsed(TranscriptionResponse, response)
        _remember(self._responses, (job.key, number), transcription)
        return transcription


def error_of(response: httpx.Response) -> StageError:
    """Returns the error for a response with an error status."""
    try:
        problem = _ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        problem = _ErrorDetail(message=response.text[:300])
    text = f"the server responded {response.status_code} {problem.code or problem.type or ''}: {problem.message}"
    if problem.code in _QUOTA_CODES or problem.type in _QUOTA_CODES:
        return QuotaError(f"{text}; add credit or raise the limit there")
    if response.status_code == 409:
        return RetryableError(text)
    return error_for_status(response.status_code, text, response.headers)


def _prepare(job: TranscriptionJob) -> tuple[list[trimmed_audio.TrimmedAudio], list[bytes]]:
    """Returns the pieces of audio to send, and each as a FLAC file. A silent recording has no pieces.

    Raises:
        PermanentError: The recording cannot be read.
    """
    recording = trimmed_audio.read_wav(job.audio, len(job.speakers))
    rate_hz = min(recording.rate_hz, _RATE_HZ)
    audios = trimmed_audio.trimmed_by_channel(recording, min(_MAX_S, _MAX_BYTES / (2 * rate_hz)))
    return audios, [_encode(audio, recording, rate_hz) for audio in audios]


def _encode(audio: trimmed_audio.TrimmedAudio, recording: trimmed_audio.Recording, rate_hz: int) -> bytes:
    samples = audio.samples(recording)
    if recording.rate_hz != rate_hz:
        samples = soxr.resample(samples, recording.rate_hz, rate_hz).astype(np.int16)
    return trimmed_audio.encode_flac(samples, rate_hz)


def _all_or_raise(results: Sequence[TranscriptionResponse | BaseException]) -> list[TranscriptionResponse]:
    """Returns the responses. If requests failed, raises one error: a lasting one takes precedence."""
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if isinstance(error, (PermanentError, QuotaError))), errors[0])
    return [result for result in results if isinstance(result, TranscriptionResponse)]


def _billed_ms(audios: Sequence[trimmed_audio.TrimmedAudio], responses: Sequence[TranscriptionResponse]) -> int:
    return sum(
        audio.duration_ms if response.billed_ms is None else response.billed_ms
        for audio, response in zip(audios, responses, strict=True)
    )


def _language(responses: Sequence[TranscriptionResponse]) -> str:
    """Returns the language with the most characters of text."""
    characters: Counter[str] = Counter()
    for response in responses:
        if response.text.strip():
            characters[language_code(response.language)] += len(response.text.strip())
    return characters.most_common(1)[0][0] if characters else UNDETERMINED


def _remember(store: OrderedDict[K, V], key: K, value: V) -> None:
    store[key] = value
    while len(store) > _MAX_REMEMBERED:
        store.popitem(last=False)


def _parsed(model: type[M], response: httpx.Response) -> M:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise BilledFailureError(f"the server's response does not match the API: {error}") from error
