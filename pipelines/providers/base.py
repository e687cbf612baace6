"""Protocols of the engines: speech to text, summaries and embeddings.

Each provider has a folder. pipelines.providers.registry chooses one by the settings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.runtime.errors import BilledFailureError, RetryableError
from schemas.artifacts import Summary, Transcript
from schemas.events import NO_TOKENS, Tokens
from schemas.ids import config_hash


@dataclass(frozen=True, slots=True)
class TranscriptionJob:
    """Input of a speech-to-text engine.

    Attributes:
        key: Job key, for providers that accept a reference of ours.
        call_id: Id of the call.
        audio: 16-bit PCM WAV file.
        duration_ms: Duration of the recording.
        speakers: Name per channel, in channel order, for example ("inbound", "outbound").
        tenant: Tenant of the call, for settings per tenant.
    """

    key: str
    call_id: str
    audio: Path
    duration_ms: int
    speakers: tuple[str, ...]
    tenant: str = "default"


@dataclass(frozen=True, slots=True)
class Bill:
    """Cost of a job as the provider reports it.

    Attributes:
        audio_ms: Audio that the provider counted; None if it does not say.
        cost: Amount; None if the provider does not report it (yet). Then the rate of the settings applies.
        currency: Currency of `cost`.
    """

    audio_ms: int | None
    cost: Decimal | None
    currency: str


class PerTenant(dict[str, object]):
    """Part of a provider's configuration, by tenant. An entry does not affect the results of other tenants."""


class Configured(Protocol):
    """Engine whose results depend on a configuration."""

    def config(self) -> Mapping[str, object]:
        """Returns everything that changes the result, as JSON-serializable data. Its hash is part of the job key."""
        ...


def config_hash_for(provider: Configured) -> Callable[[str], str]:
    """Returns a function that maps a tenant to the hash of the configuration that applies to it."""
    config = provider.config()

    @lru_cache(1_000)
    def hash_for(tenant: str) -> str:
        def for_tenant(value: object) -> object:
            return (
                {name: part for name, part in value.items() if name == tenant}
                if isinstance(value, PerTenant)
                else value
            )

        return config_hash({name: for_tenant(value) for name, value in config.items()})

    return hash_for


@dataclass(frozen=True, slots=True)
class Transcription:
    """A transcript, and what the provider charges for it, if it says so."""

    transcript: Transcript
    bill: Bill | None = None


class SpeechToText(Protocol):
    """Speech-to-text engine that returns the transcript in its response."""

    name: str
    model: str

    def config(self) -> Mapping[str, object]:
        """Returns everything that changes the result, as JSON-serializable data. Its hash is part of the job key."""
        ...

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        """Transcribes the recording.

        Raises:
            StageError: See pipelines.runtime.errors.
        """
        ...


class RemoteJobGoneError(RetryableError):
    """The provider no longer has the order, or it failed there for a reason other than the audio."""


@runtime_checkable
class RemoteJobs(Protocol):
    """Speech-to-text provider that accepts an order, charges per order and is polled for the result.

    pipelines.jobs.remote_orders places one order per job, whichever process is killed, and waits for the result. A
    provider only sends the requests.

    Every method raises the errors of pipelines.runtime.errors: ProviderOutageError without a connection and for 503,
    RetryableError for 429 (with `refused` and Retry-After), time-outs and 5xx, QuotaError for limits that waiting does
    not clear, and PermanentError for failures that repeat.
    """

    name: str
    model: str

    def config(self) -> Mapping[str, object]:
        """Returns everything that changes the result, as JSON-serializable data. Its hash is part of the job key."""
        ...

    async def prepare(self, job: TranscriptionJob) -> str:
        """Takes the steps that cost nothing, such as uploading the audio. Repeatable.

        Returns a reference to the prepared audio.
        """
        ...

    async def withdraw(self, prepared: str) -> None:
        """Deletes prepared audio that no order needs. Raises nothing: `delete_orphans` deletes what remains."""
        ...

    async def submit(self, job: TranscriptionJob, prepared: str) -> str:
        """Places the order under the job's key: the request that costs money. Returns the provider's id.

        Sends one request and never repeats it. PermanentError, QuotaError and `refused` errors mean that no order was
        placed; after any other failure the provider may have accepted the order.
        """
        ...

    async def find(self, key: str) -> str | None:
        """Returns the provider's id of an order under this key that is in progress or done.

        Returns None if there is no such order, or if it failed.
        """
        ...

    async def result(self, remote_id: str, job: TranscriptionJob) -> Transcript | None:
        """Returns the transcript, or None while the provider works.

        Raises:
            RemoteJobGoneError: The order does not exist or has failed.
        """
        ...

    async def bill(self, remote_id: str) -> Bill | None:
        """Returns the cost of a finished order; None if the provider does not report it. Precedes `release`."""
        ...

    async def release(self, remote_id: str) -> None:
        """Deletes the order and its audio at the provider. Does nothing if they are already deleted."""
        ...

    async def delete_orphans(self) -> int:
        """Deletes our unused data at the provider: audio that was never ordered, and failed orders.

        Returns the number of deleted objects.
        """
        ...


NOTHING_SAID = "Nothing was said."
"""Abstract of a call in which no one spoke. Every summarizer uses it."""


class StepStore(Protocol):
    """Durable answers of a language model, by step of the job."""

    async def step(self, name: str) -> str | None:
        """Returns the stored answer to a step."""

    async def save_step(self, name: str, text: str, tokens: Tokens) -> None:
        """Stores the answer to a step, and the tokens it cost."""

    async def count_wasted(self, tokens: Tokens) -> None:
        """Counts the tokens of an unusable answer."""


@dataclass(frozen=True, slots=True)
class SummaryJob:
    """Input of a summarizer. steps: store of the answers that are paid for, and of their token counts."""

    tenant: str
    transcript: Transcript
    steps: StepStore


class Summarizer(Protocol):
    """Engine that summarizes a transcript.

    A summarizer that pays per answer saves each answer in `job.steps` at once, or counts its tokens there as wasted. It
    never requests an answer that is saved.
    """

    name: str
    model: str

    def config(self) -> Mapping[str, object]:
        """Returns everything that changes the result, as JSON-serializable data. Its hash is part of the job key."""
        ...

    async def summarize(self, job: SummaryJob) -> Summary:
        """Summarizes the transcript.

        Raises:
            StageError: See pipelines.runtime.errors.
        """
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of texts.

    Attributes:
        vectors: Rows of unit length, float32 [texts, dimension].
        tokens: Tokens that the provider counted and charges.
    """

    vectors: npt.NDArray[np.float32]
    tokens: Tokens = NO_TOKENS


class UnusableResponseError(BilledFailureError):
    """An unusable response. tokens: the tokens it cost."""

    def __init__(self, message: str, tokens: Tokens) -> None:
        super().__init__(message)
        self.tokens = tokens


class Embedder(Protocol):
    """Engine for sentence embeddings. Vectors of different models or dimensions cannot be compared."""

    name: str
    model: str
    dimension: int

    def config(self) -> Mapping[str, object]:
        """Returns everything that changes the result, as JSON-serializable data. Its hash is part of the job key."""
        ...

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embeds texts, so that a search finds them.

        Raises:
            UnusableResponseError: The provider charges for a response that is not usable.
            StageError: See pipelines.runtime.errors.
        """
        ...

    async def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """Embeds the text of a search, as a vector of unit length. Some models embed queries differently."""
        ...
