"""Speech to text by anything that speaks OpenAI's /v1/audio/transcriptions: OpenAI itself, speaches, vLLM and others.

The request is the order and its answer the result, so there is nothing to ask for after a crash: what that means for
money is in docs/reliability/guarantees.md. What was heard already is kept while the process lives, so that a call of
which one request failed does not pay for the others again.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeVar

import httpx
import numpy as np
import soxr
from pydantic import BaseModel, ValidationError

from core.health_check import Check
from core.settings import OpenAiSettings
from pipelines.providers.base import Bill, TranscriptionJob
from pipelines.providers.common import trimmed_audio
from pipelines.providers.common.http import CONNECT_S, checked, classified, failure
from pipelines.providers.common.utterances import SpokenWord, segments_of
from pipelines.providers.openai.words import UNDETERMINED, Answer, language_code, words_of
from pipelines.runtime.errors import BilledFailureError, PermanentError, QuotaError, RetryableError, StageError
from schemas.artifacts import Transcript

logger = logging.getLogger(__name__)

# Raised when what makes a transcript here changes, so that the job key does.
_REVISION = 1
_RATE_HZ = 16_000  # what these models were trained on: more is only more to send
_MOST_BYTES = 24_000_000  # OpenAI takes 25 MB a request, in what is sent besides the audio, too
_MOST_S = 20 * 60.0  # one request that fails is so much to pay again
_AT_ONCE = 4  # requests of a call
_REMEMBERED = 256  # answers of calls that are not done yet
# OpenAI's codes of a 429 that no waiting clears: https://platform.openai.com/docs/guides/error-codes
_UNPAID = {
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credit_balance_exhausted",
    "organization_spend_limit_exceeded", "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
}  # fmt: skip


K = TypeVar("K")
V = TypeVar("V")
M = TypeVar("M", bound=BaseModel)


class _Problem(BaseModel):
    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _Refused(BaseModel):
    error: _Problem


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class OpenAi:
    """SpeechToText over HTTP."""

    name = "openai"

    def __init__(self, settings: OpenAiSettings, *, language: str | None = None, timeout_s: float = 900.0) -> None:
        """language: ISO 639-1, or None to let the server find out. timeout_s: of one request."""
        self.model = settings.model
        self._settings = settings
        self._language = language
        self._heard: OrderedDict[tuple[str, int], Answer] = OrderedDict()
        self._bills: OrderedDict[str, Bill] = OrderedDict()
        key = settings.api_key.get_secret_value() if settings.api_key else None
        self._http = httpx.AsyncClient(
            base_url=settings.base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
        )

    def config(self) -> Mapping[str, object]:
        """Server, model, language and prompt, and how the audio is prepared. The server too: under one name two of them
        may serve two models."""
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

    async def transcribe(self, job: TranscriptionJob) -> Transcript:
        """The call's transcript: each channel in requests of its own. Raises pipelines.runtime.errors."""
        pieces, audio = await asyncio.to_thread(_prepared, job)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> Answer:
            async with slots:
                return await self._answer(job, number, audio[number])

        # All of them to their end: what has been paid for is kept for the next attempt.
        answers = _all_or_raise(
            await asyncio.gather(*(one(number) for number in range(len(pieces))), return_exceptions=True)
        )
        for number in range(len(pieces)):
            self._heard.pop((job.key, number), None)
        channels: list[list[SpokenWord]] = [[] for _ in job.speakers]
        for reel, answer in zip(pieces, answers, strict=True):
            for word in words_of(answer, reel.duration_ms):
                channel, start_ms, end_ms = reel.to_source_time(word.start_ms, word.end_ms)
                end_ms = min(max(start_ms, end_ms), job.duration_ms)
                channels[channel].append(SpokenWord(min(start_ms, end_ms), end_ms, word.text, word.confidence))
        _remember(self._bills, job.key, Bill(_billed_ms(pieces, answers), cost=None, currency=""))
        return Transcript(
            call_id=job.call_id,
            language=self._language or _language(answers),
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=segments_of(channels, job.speakers),
        )

    def billed(self, key: str) -> Bill | None:
        """The audio the server counted; it does not say what it charges for it."""
        return self._bills.pop(key, None)

    async def check(self) -> Check:
        """Whether it answers, takes the key and has the model."""
        return await checked("OpenAI-compatible speech to text", self._models(), self.model, "OPENAI")

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def _models(self) -> list[str]:
        with classified(self.name):
            answer = await self._http.get("models")
        if not answer.is_success:
            _refuse(answer)
        return [model.id for model in _parsed(_Models, answer).data]

    async def _answer(self, job: TranscriptionJob, number: int, audio: bytes) -> Answer:
        """What was heard on one reel."""
        if (heard := self._heard.get((job.key, number))) is not None:
            return heard
        form: dict[str, str | list[str]] = {
            "model": self.model,
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"] if self._settings.timestamps == "word" else ["segment"],
        }
        if self._language:
            form["language"] = self._language
        if self._settings.prompt:
            form["prompt"] = self._settings.prompt
        with classified(self.name):
            answer = await self._http.post(
                "audio/transcriptions",
                data=form,
                files={"file": ("audio.flac", audio, "audio/flac")},
                # OpenAI promises nothing for it; gateways in front of such servers know it.
                headers={"Idempotency-Key": f"{job.key}-{number}"},
            )
        if not answer.is_success:
            _refuse(answer)
        heard = _parsed(Answer, answer)
        _remember(self._heard, (job.key, number), heard)
        return heard


def error_of(answer: httpx.Response) -> StageError:
    """The class of an answer that is no success."""
    try:
        problem = _Refused.model_validate_json(answer.content).error
    except ValidationError:
        problem = _Problem(message=answer.text[:300])
    text = f"the server answered {answer.status_code} {problem.code or problem.type or ''}: {problem.message}"
    if problem.code in _UNPAID or problem.type in _UNPAID:
        return QuotaError(f"{text}; add credit or raise the limit there")
    if answer.status_code == 409:
        return RetryableError(text)
    return failure(answer.status_code, text, answer.headers)


def _refuse(answer: httpx.Response) -> NoReturn:
    raise error_of(answer)


def _prepared(job: TranscriptionJob) -> tuple[list[trimmed_audio.TrimmedAudio], list[bytes]]:
    """What is sent, and as what bytes. A recording without a sound is not sent at all. Raises PermanentError."""
    recording = trimmed_audio.read(job.audio, len(job.speakers))
    rate_hz = min(recording.rate_hz, _RATE_HZ)
    made = trimmed_audio.by_channel(recording, min(_MOST_S, _MOST_BYTES / (2 * rate_hz)))
    return made, [_encoded(reel, recording, rate_hz) for reel in made]


def _encoded(reel: trimmed_audio.TrimmedAudio, recording: trimmed_audio.Recording, rate_hz: int) -> bytes:
    audio = reel.samples(recording)
    if recording.rate_hz != rate_hz:
        audio = soxr.resample(audio, recording.rate_hz, rate_hz).astype(np.int16)
    return trimmed_audio.flac(audio, rate_hz)


def _all_or_raise(results: Sequence[Answer | BaseException]) -> list[Answer]:
    """The answers. Raises the error that decides: one that will not pass before one that may."""
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if isinstance(error, (PermanentError, QuotaError))), errors[0])
    return [result for result in results if isinstance(result, Answer)]


def _billed_ms(pieces: Sequence[trimmed_audio.TrimmedAudio], answers: Sequence[Answer]) -> int:
    return sum(
        reel.duration_ms if answer.billed_ms is None else answer.billed_ms
        for reel, answer in zip(pieces, answers, strict=True)
    )


def _language(answers: Sequence[Answer]) -> str:
    """The language of most of what was said, by characters."""
    said: Counter[str] = Counter()
    for answer in answers:
        if answer.text.strip():
            said[language_code(answer.language)] += len(answer.text.strip())
    return said.most_common(1)[0][0] if said else UNDETERMINED


def _remember(store: OrderedDict[K, V], key: K, value: V) -> None:
    store[key] = value
    while len(store) > _REMEMBERED:
        store.popitem(last=False)


def _parsed(model: type[M], answer: httpx.Response) -> M:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise BilledFailureError(f"the server answered what the API does not describe: {error}") from error
