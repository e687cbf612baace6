"""Answers that are paid for, over real object storage."""

import asyncio
import uuid
from typing import Literal

import pytest

from core.settings import S3Settings
from pipelines.jobs.job_record import JobDocument, JobRecord
from pipelines.jobs.order_record import OrderRecord
from pipelines.runtime.errors import BilledFailureError, RetryableError
from schemas.events import Tokens
from sinks.object_store import ObjectStore


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


async def test_two_workers_at_once_count_what_both_paid(objects: ObjectStore) -> None:
    """During a rebalance two workers may ask the same. The first answer stands; the others' tokens were paid, too."""
    call_id = uuid.uuid4().hex
    records = [JobDocument(objects, "acme", call_id, "job") for _ in range(4)]
    await asyncio.gather(
        *(record.save_step("one", str(number), Tokens(prompt=10)) for number, record in enumerate(records)),
        JobDocument(objects, "acme", call_id, "job").count_wasted(Tokens(thoughts=3)),
    )

    job = await JobDocument(objects, "acme", call_id, "job").known()
    assert list(job.steps) == ["one"]
    assert job.spent() == Tokens(prompt=40, thoughts=3)


async def test_an_answer_that_cannot_be_kept_was_paid_for_all_the_same(s3: S3Settings) -> None:
    """Storage is away. To look for answers is worth another try at no price; to have one and lose it is an attempt that
    was paid for, and must count as one."""
    record = JobDocument(ObjectStore(s3.model_copy(update={"endpoint": "http://127.0.0.1:9"})), "acme", "away", "job")

    with pytest.raises(RetryableError) as looked:
        await record.known()
    assert not isinstance(looked.value, BilledFailureError)
    with pytest.raises(BilledFailureError):
        await record.save_step("one", "hello", Tokens(prompt=10))
    with pytest.raises(BilledFailureError):
        await record.count_wasted(Tokens(prompt=10))


@pytest.mark.parametrize("state", ["submitted", "done"])
def test_an_order_that_has_an_id_keeps_it(state: Literal["submitted", "done"]) -> None:
    """Records a submitted order in a record that has one, or one that is released. The first id and the state stay:
    otherwise an order that is done would be released again, or the first order never."""
    job = JobRecord(order=OrderRecord(state=state, remote_id="first"))
    assert job.with_submitted("second") == job
