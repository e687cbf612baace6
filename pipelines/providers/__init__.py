"""Engines behind small protocols: speech to text, summary, embedding. One file each; a registry picks by setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.runtime.errors import RetryableError
from schemas.artifacts import Summary, Transcript


@dataclass(frozen=True, slots=True)
class TranscriptionJob:
    """What an engine needs. audio: a 16-bit PCM WAV; speakers: name per channel, in channel order
    ("inbound", "outbound"). key: the job key, for providers that take a reference of ours."""

    key: str
    call_id: str
    audio: Path
    duration_ms: int
    speakers: tuple[str, ...]


class SpeechToText(Protocol):
    """Speech to text. Raises pipelines.runtime.errors."""

    name: str
    model: str

    def config(self) -> Mapping[str, object]:
        """All that changes the result, JSON-able: it is hashed into the job key."""

    async def transcribe(self, job: TranscriptionJob) -> Transcript: ...


class RemoteJobGoneError(RetryableError):
    """The provider has no such job any more, or it failed there for a reason that is not the audio's."""


@runtime_checkable
class RemoteJobs(Protocol):
    """Speech to text that is ordered, paid per order and collected later. pipelines.remote orders a job once, whatever
    is killed, and does the waiting; all a provider does is one request after the other.

    Raises pipelines.runtime.errors: ProviderOutageError without a connection and for 503, RetryableError for 429 (with
    `refused` and Retry-After), time-outs and 5xx, QuotaError, PermanentError for what will never work.
    """

    name: str
    model: str

    def config(self) -> Mapping[str, object]:
        """All that changes the result, JSON-able: it is hashed into the job key."""

    async def prepare(self, job: TranscriptionJob) -> str:
        """Does what costs nothing yet, such as uploading the audio, and names it. May be called again."""

    async def submit(self, job: TranscriptionJob, prepared: str) -> str:
        """Orders the job under its key: the request that costs money. Returns the provider's id.

        One request, never repeated in here. PermanentError, QuotaError and `refused` errors say that nothing was
        ordered; after any other failure the provider may have taken the order.
        """

    async def find(self, key: str) -> str | None:
        """The provider's id of an order under that key that is under way or done; None if there is none, or it
        failed."""

    async def result(self, remote_id: str, job: TranscriptionJob) -> Transcript | None:
        """The transcript, or None while the provider works. Raises RemoteJobGoneError."""

    async def release(self, remote_id: str) -> None:
        """Deletes what the provider keeps of a job, its audio included. What is not there is deleted."""


class Summarizer(Protocol):
    """Summary of a transcript. Raises pipelines.runtime.errors."""

    name: str
    model: str

    def config(self) -> Mapping[str, object]: ...

    async def summarize(self, transcript: Transcript) -> Summary: ...


class Embedder(Protocol):
    """Sentence embeddings, rows of unit length: float32 [texts, dimension]."""

    name: str
    model: str
    dimension: int

    def config(self) -> Mapping[str, object]: ...

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...
