"""Summarizer and jobs for the tests of Gemini."""

import uuid
from typing import Any

from pydantic import SecretStr

from core.settings import GeminiSettings, SummaryField, SummarySettings
from pipelines.jobs.job_record import JobDocument, JobRecord
from pipelines.providers.base import SummaryJob
from pipelines.providers.gemini.summarizer import GeminiSummarizer
from pipelines.runtime.errors import PermanentError, ProviderOutageError, RetryableError, StageError
from schemas.artifacts import Transcript
from sinks.object_store import ObjectStore
from tests.fakes import gemini as fake
from tests.fakes.gemini import FakeGemini

FIELDS = {
    "order_number": SummaryField(description="The number of the order the caller names."),
    "reason": SummaryField(description="Why they called.", values=("billing", "outage")),
}
CALL = ("My router is broken.", "I'll send you a new one tomorrow.")


def client(google: FakeGemini, *, key: str = fake.KEY, model: str = "", **settings: Any) -> GeminiSummarizer:
    """Returns a summarizer that uses this fake Gemini."""
    gemini = GeminiSettings(base_url=google.url, api_key=SecretStr(key))
    gemini = gemini.model_copy(update={"summary_model": model}) if model else gemini
    return GeminiSummarizer(gemini, SummarySettings(**settings), key)


def job(objects: ObjectStore, transcript: Transcript, tenant: str = "acme") -> SummaryJob:
    """A job with a record of its own."""
    return SummaryJob(tenant, transcript, JobDocument(objects, tenant, uuid.uuid4().hex, "job"))


async def recorded(work: SummaryJob) -> JobRecord:
    """The job's record, as it is stored."""
    assert isinstance(work.steps, JobDocument)
    return await work.steps.get() or JobRecord()


# What each documented error must become: the class, and whether the provider surely did nothing.
CLASSES: dict[str, tuple[type[StageError], bool]] = {
    "INVALID_ARGUMENT": (PermanentError, False),
    "FAILED_PRECONDITION": (PermanentError, False),
    "UNAUTHENTICATED": (PermanentError, False),
    "PERMISSION_DENIED": (PermanentError, False),
    "NOT_FOUND": (PermanentError, False),
    "RESOURCE_EXHAUSTED": (RetryableError, True),
    "CANCELLED": (RetryableError, False),
    "INTERNAL": (RetryableError, False),
    "UNAVAILABLE": (ProviderOutageError, False),
    "DEADLINE_EXCEEDED": (RetryableError, False),
}
