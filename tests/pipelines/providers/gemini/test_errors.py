"""Gemini's errors, over the network and each finish reason by itself."""

import pytest
from google.genai.errors import APIError
from google.genai.types import BlockedReason, FinishReason

from core.settings import S3Settings
from pipelines.providers.gemini.errors import api_error, finish_error
from pipelines.runtime.errors import (
    BilledFailureError,
    PermanentError,
    ProviderOutageError,
    QuotaError,
    RetryableError,
    StageError,
)
from pipelines.runtime.retry import GiveUp, decide
from schemas.events import Tokens
from sinks.object_store import ObjectStore
from tests.fakes import gemini as fake
from tests.fakes.gemini import Answer, FakeGemini, error_body
from tests.support.gemini_client import CALL, CLASSES, client, job, recorded
from tests.support.ids import new_call
from tests.support.pipeline_events import said


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """Returns the shared object storage."""
    return ObjectStore(s3)


@pytest.mark.parametrize(("status", "name", "message"), fake.ERRORS, ids=[name for _, name, _ in fake.ERRORS])
async def test_every_documented_error(
    google: FakeGemini, objects: ObjectStore, status: int, name: str, message: str
) -> None:
    """Returns each error of the troubleshooting guide from the fake server.

    The error must have the documented class and Gemini's message, and the client must send one request: only the
    runtime repeats requests, because each may be charged.
    """
    google.script = [(status, error_body(status, name, message))] * 5
    with pytest.raises(StageError) as caught:
        await client(google).summarize(job(objects, said(new_call(), *CALL)))

    kind, refused = CLASSES[name]
    assert type(caught.value) is kind
    assert getattr(caught.value, "refused", False) == refused
    assert message in str(caught.value)
    assert len(google.asked) == 1


async def test_a_401_never_retries(google: FakeGemini, objects: ObjectStore) -> None:
    """Uses an invalid key, which Gemini rejects with a 400, and gets a plain 401.

    Both must be permanent and name the setting.
    """
    with pytest.raises(PermanentError, match="AUDIOTEXT_GEMINI__API_KEY") as wrong:
        await client(google, key="another").summarize(job(objects, said(new_call(), *CALL)))
    unauthorized = api_error(APIError(401, error_body(401, "UNAUTHENTICATED", "no")))

    for error in (wrong.value, unauthorized):
        assert decide(error, 0, (1, 10)) == GiveUp("permanent", 1)
    assert len(google.asked) == 1


async def test_limits(google: FakeGemini, objects: ObjectStore) -> None:
    """Returns a limit per minute and a limit per day, which have the same status.

    The first must wait for the time in RetryInfo. The second must be a quota error: its RetryInfo of seconds would
    cause useless retries.
    """
    google.script = ["429 with a delay", "429 for the day"]
    work = job(objects, said(new_call(), *CALL))

    with pytest.raises(RetryableError) as minute:
        await client(google).summarize(work)
    with pytest.raises(QuotaError, match="quota"):
        await client(google).summarize(work)

    assert (minute.value.retry_after_s, minute.value.refused) == (8.941621227, True)


FINISHES: dict[FinishReason, type[StageError] | None] = {
    FinishReason.STOP: None,
    FinishReason.MAX_TOKENS: PermanentError,
    FinishReason.SAFETY: PermanentError,
    FinishReason.LANGUAGE: PermanentError,
    FinishReason.BLOCKLIST: PermanentError,
    FinishReason.PROHIBITED_CONTENT: PermanentError,
    FinishReason.SPII: PermanentError,
    FinishReason.RECITATION: BilledFailureError,
    FinishReason.OTHER: BilledFailureError,
    FinishReason.MALFORMED_RESPONSE: BilledFailureError,
}


@pytest.mark.parametrize("reason", FinishReason)
def test_every_finish_reason(reason: FinishReason) -> None:
    """Ends the response with each finish reason.

    Reasons in the content of the call are permanent, random ones are retried. No reason except STOP, not even an
    unknown one, may pass for a complete response.
    """
    error = finish_error(reason, "why")
    if reason in FINISHES:
        assert type(error) is (FINISHES[reason] or type(None))
    else:
        assert isinstance(error, StageError)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Answer('{"abstract": "A ca', "MAX_TOKENS"), PermanentError, "MAX_OUTPUT_TOKENS"),
        (Answer("", "SAFETY"), PermanentError, "SAFETY"),
        (Answer("", "RECITATION"), BilledFailureError, "RECITATION"),
        (Answer(None, block="PROHIBITED_CONTENT"), PermanentError, "PROHIBITED_CONTENT"),
        (Answer(None), BilledFailureError, "no candidate"),
        (Answer("Sure! Here is your summary"), BilledFailureError, "does not match the schema"),
        (Answer('{"abstract": "x"}'), BilledFailureError, "topics"),
    ],
)
async def test_unusable_responses(
    google: FakeGemini, objects: ObjectStore, answer: Answer, kind: type[StageError], says: str
) -> None:
    """Returns 200 without a usable summary. Each case must have its class, and its tokens must be counted as wasted."""
    google.script = [answer]
    work = job(objects, said(new_call(), *CALL))

    with pytest.raises(kind, match=says) as caught:
        await client(google).summarize(work)

    assert type(caught.value) is kind
    assert (await recorded(work)).wasted == Tokens(prompt=100, candidates=20, thoughts=5, cached=10)


@pytest.mark.parametrize("reason", BlockedReason)
async def test_every_block_reason(google: FakeGemini, objects: ObjectStore, reason: BlockedReason) -> None:
    """Blocks a prompt for each reason. All must be permanent, because the same prompt is blocked again."""
    google.script = [Answer(None, block=reason.value)]
    with pytest.raises(PermanentError, match=reason.value):
        await client(google).summarize(job(objects, said(new_call(), *CALL)))


async def test_a_lost_connection_is_not_asked_again_by_the_client(google: FakeGemini, objects: ObjectStore) -> None:
    """Closes the connection after the request arrived.

    Google's client would repeat the request by default, and two responses would be charged. It must not, and the error
    must not say that the request had no effect.
    """
    google.script = ["cut", "cut", "cut"]
    with pytest.raises(RetryableError) as caught:
        await client(google).summarize(job(objects, said(new_call(), *CALL)))

    assert type(caught.value) is RetryableError
    assert not caught.value.refused
    assert len(google.asked) == 1


async def test_no_response_and_no_server(google: FakeGemini, objects: ObjectStore) -> None:
    """Uses a server that does not respond, and no server.

    The first must fail after our time-out, not the client's; the second must be an outage.
    """
    work = job(objects, said(new_call(), *CALL))
    google.script = [30.0]
    with pytest.raises(RetryableError, match="in time"):
        await client(google, timeout_s=0.3).summarize(work)
    await google.stop()
    with pytest.raises(ProviderOutageError) as caught:
        await client(google).summarize(work)
    assert caught.value.refused


async def test_a_response_that_is_not_json(google: FakeGemini, objects: ObjectStore) -> None:
    """Returns a proxy's HTML page instead of JSON, with 200 and with 502."""
    google.script = [(200, "<html>"), (502, "<html>")]
    for _ in range(2):
        with pytest.raises(RetryableError):
            await client(google).summarize(job(objects, said(new_call(), *CALL)))
