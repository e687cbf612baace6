"""Engines behind small protocols: speech to text, summary, embedding. One file each; a registry picks by setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.jobs.llm_steps import StepStore
from pipelines.runtime.errors import BilledFailureError, RetryableError
from schemas.artifacts import Summary, Transcript
from schemas.events import NO_TOKENS, Tokens
from schemas.ids import config_hash


@dataclass(frozen=True, slots=True)
class TranscriptionJob:
    """What an engine needs. audio: a 16-bit PCM WAV; speakers: name per channel, in channel order
    ("inbound", "outbound"). key: the job key, for providers that take a reference of ours. tenant: whose call it is,
    for what is set per tenant."""

    key: str
    call_id: str
    audio: Path
    duration_ms: int
    speakers: tuple[str, ...]
    tenant: str = "default"


@dataclass(frozen=True, slots=True)
class Bill:
    """What a provider says it charges for a job. audio_ms: the audio it counted; cost: None where it does not say
    (yet), then the rate of the settings applies."""

    audio_ms: int | None
    cost: Decimal | None
    currency: str


class PerTenant(dict[str, object]):
    """Part of a provider's configuration: what it says of each tenant, which changes nothing for the others."""


class Configured(Protocol):
    """Whatever has a configuration that its results follow from."""

    def config(self) -> Mapping[str, object]: ...


def config_hash_for(provider: Configured) -> Callable[[str], str]:
    """Gives for a tenant the hash of all in the provider's configuration that changes its results for that tenant."""
    config = provider.config()

    @lru_cache(1_000)
    def hash_for(tenant: str) -> str:
        def told(value: object) -> object:
            return (
                {whose: one for whose, one in value.items() if whose == tenant}
                if isinstance(value, PerTenant)
                else value
            )

        return config_hash({name: told(value) for name, value in config.items()})

    return hash_for


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
    """Speech to text that is ordered, paid per order and collected later. pipelines.jobs.remote_orders orders a job
    once, whatever
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

    async def withdraw(self, prepared: str) -> None:
        """Deletes what was prepared for a job that needs no order any more. Raises nothing: `tidy` finds what stays."""

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

    async def bill(self, remote_id: str) -> Bill | None:
        """What the provider charges for a job that is done; None if it does not say. Asked before `release`."""

    async def release(self, remote_id: str) -> None:
        """Deletes what the provider keeps of a job, its audio included. What is not there is deleted."""

    async def delete_orphans(self) -> int:
        """Deletes what the provider keeps of ours and nobody can need: audio that was never ordered, orders that
        failed. Returns how many things that were."""


@runtime_checkable
class Billing(Protocol):
    """Speech to text that answers at once and says what it charges."""

    def billed(self, key: str) -> Bill | None:
        """What transcribing the job of that key cost; told once."""


NOTHING_SAID = "Nothing was said."
"""The abstract of a call in which nobody spoke, whoever summarizes it."""


@dataclass(frozen=True, slots=True)
class SummaryJob:
    """What a summarizer needs. answers: where what is paid for is kept, and counted."""

    tenant: str
    transcript: Transcript
    answers: StepStore


class Summarizer(Protocol):
    """Summary of a transcript. Raises pipelines.runtime.errors.

    Who pays for answers keeps each in `job.answers` at once, or counts it there as wasted, and asks for none that is
    kept.
    """

    name: str
    model: str

    def config(self) -> Mapping[str, object]: ...

    async def summarize(self, job: SummaryJob) -> Summary: ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors: rows of unit length, float32 [texts, dimension]. tokens: what a provider counted and bills."""

    vectors: npt.NDArray[np.float32]
    tokens: Tokens = NO_TOKENS


class UnusableResponseError(BilledFailureError):
    """An answer that nobody can use. tokens: what it cost."""

    def __init__(self, message: str, tokens: Tokens) -> None:
        super().__init__(message)
        self.tokens = tokens


class Embedder(Protocol):
    """Sentence embeddings; those of another model or dimension cannot be compared. Raises pipelines.runtime.errors, and
    UselessAnswerError for what has to be paid all the same."""

    name: str
    model: str
    dimension: int

    def config(self) -> Mapping[str, object]: ...

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Texts to be found."""

    async def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """What they are searched by: a vector of unit length. Some models embed a question otherwise than a text."""
