"""What Gemini says when it does not do what it was asked: over the wire, and each reason by itself."""

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
from tests.pipelines.made import new_call, said
from tests.pipelines.providers.gemini.asking import CALL, CLASSES, client, job, recorded


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


@pytest.mark.parametrize(("status", "name", "message"), fake.ERRORS, ids=[name for _, name, _ in fake.ERRORS])
async def test_every_documented_error(
    google: FakeGemini, objects: ObjectStore, status: int, name: str, message: str
) -> None:
    """Each error of the troubleshooting guide, over the wire: its class is the design's, it says what Google said, and
    the client asked once (repeating is the runtime's, and may be paid for)."""
    google.script = [(status, error_body(status, name, message))] * 5
    with pytest.raises(StageError) as caught:
        await client(google).summarize(job(objects, said(new_call(), *CALL)))

    kind, refused = CLASSES[name]
    assert type(caught.value) is kind
    assert getattr(caught.value, "refused", False) == refused
    assert message in str(caught.value)
    assert len(google.asked) == 1


async def test_a_401_never_retries(google: FakeGemini, objects: ObjectStore) -> None:
    """A key that is none, as Google really tells it (a 400), and a plain 401: given up at the first attempt, and the
    message names the setting."""
    with pytest.raises(PermanentError, match="AUDIOTEXT_GEMINI__API_KEY") as wrong:
        await client(google, key="another").summarize(job(objects, said(new_call(), *CALL)))
    unauthorized = api_error(APIError(401, error_body(401, "UNAUTHENTICATED", "no")))

    for error in (wrong.value, unauthorized):
        assert decide(error, 0, (1, 10)) == GiveUp("permanent", 1)
    assert len(google.asked) == 1


async def test_limits(google: FakeGemini, objects: ObjectStore) -> None:
    """A limit per minute is waited for as long as Google asks (its RetryInfo). One per day comes with the same status
    and a delay of seconds: that many retries would be for nothing, so it is a quota."""
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
    """What the model may stop with: what lies in the call is permanent, what is chance is tried again, and no reason at
    all, one that is new included, passes for a good answer but STOP."""
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
async def test_answers_that_are_none(
    google: FakeGemini, objects: ObjectStore, answer: Answer, kind: type[StageError], says: str
) -> None:
    """200, and still no summary: each is its class, and its tokens, which Google bills, are counted as wasted."""
    google.script = [answer]
    work = job(objects, said(new_call(), *CALL))

    with pytest.raises(kind, match=says) as caught:
        await client(google).summarize(work)

    assert type(caught.value) is kind
    assert (await recorded(work)).wasted == Tokens(prompt=100, candidates=20, thoughts=5, cached=10)


@pytest.mark.parametrize("reason", BlockedReason)
async def test_every_block_reason(google: FakeGemini, objects: ObjectStore, reason: BlockedReason) -> None:
    """Whatever a prompt is blocked for, the same prompt will be blocked again."""
    google.script = [Answer(None, block=reason.value)]
    with pytest.raises(PermanentError, match=reason.value):
        await client(google).summarize(job(objects, said(new_call(), *CALL)))


async def test_a_lost_connection_is_not_asked_again_by_the_client(google: FakeGemini, objects: ObjectStore) -> None:
    """The connection breaks when the request is there. Google's client would ask again by itself, and two answers would
    be billed: it must not, and nobody may think the request had no effect."""
    google.script = ["cut", "cut", "cut"]
    with pytest.raises(RetryableError) as caught:
        await client(google).summarize(job(objects, said(new_call(), *CALL)))

    assert type(caught.value) is RetryableError
    assert not caught.value.refused
    assert len(google.asked) == 1


async def test_silence_and_nobody_there(google: FakeGemini, objects: ObjectStore) -> None:
    """A google that says nothing is given up after our time, not the client's; one that is not there is an outage."""
    work = job(objects, said(new_call(), *CALL))
    google.script = [30.0]
    with pytest.raises(RetryableError, match="in time"):
        await client(google, timeout_s=0.3).summarize(work)
    await google.stop()
    with pytest.raises(ProviderOutageError) as caught:
        await client(google).summarize(work)
    assert caught.value.refused


async def test_gibberish(google: FakeGemini, objects: ObjectStore) -> None:
    """A proxy's page instead of JSON, with 200 and with 502."""
    google.script = [(200, "<html>"), (502, "<html>")]
    for _ in range(2):
        with pytest.raises(RetryableError):
            await client(google).summarize(job(objects, said(new_call(), *CALL)))
