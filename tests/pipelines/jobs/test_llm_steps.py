"""Answers that are paid for, over real object storage."""

import asyncio
import uuid

import pytest

from core.settings import S3Settings
from pipelines.jobs.llm_steps import StepStore
from pipelines.runtime.errors import BilledFailureError, RetryableError
from schemas.events import Tokens
from sinks.object_store import ObjectStore


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


async def test_two_workers_at_once_count_what_both_paid(objects: ObjectStore) -> None:
    """During a rebalance two workers may ask the same. The first answer stands; the others' tokens were paid, too."""
    key = f"test/{uuid.uuid4().hex}"
    stores = [StepStore(objects, key) for _ in range(4)]
    await asyncio.gather(
        *(store.save("one", str(number), Tokens(prompt=10)) for number, store in enumerate(stores)),
        stores[0].count_wasted(Tokens(thoughts=3)),
    )

    answers = await stores[0].read()
    assert list(answers.kept) == ["one"]
    assert answers.spent() == Tokens(prompt=40, thoughts=3)


async def test_an_answer_that_cannot_be_kept_was_paid_for_all_the_same(s3: S3Settings) -> None:
    """Storage is away. To look for answers is worth another try at no price; to have one and lose it is an attempt that
    was paid for, and must count as one."""
    answers = StepStore(ObjectStore(s3.model_copy(update={"endpoint": "http://127.0.0.1:9"})), "test/away")

    with pytest.raises(RetryableError) as looked:
        await answers.read()
    assert not isinstance(looked.value, BilledFailureError)
    with pytest.raises(BilledFailureError):
        await answers.save("one", "hello", Tokens(prompt=10))
    with pytest.raises(BilledFailureError):
        await answers.count_wasted(Tokens(prompt=10))
