"""Results in object storage: who is first stays."""

import uuid
from typing import Any

import pytest

from core.settings import S3Settings
from pipelines.jobs import documents
from pipelines.runtime.errors import RetryableError
from schemas.events import Frozen
from schemas.ids import sha256_hex
from sinks.object_store import ObjectStore


class Said(Frozen):
    """Some result."""

    text: str


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


async def test_the_second_result_takes_the_first_one_s_place_for_nobody(objects: ObjectStore) -> None:
    """Two results are left under one key. Both who left them are told of the first, with the SHA-256 of what lies
    there, and who looks finds that."""
    key = f"test/{uuid.uuid4().hex}"
    assert await documents.get_result(objects, key, Said) is None

    first = await documents.store_result(objects, key, Said(text="Hello."))
    second = await documents.store_result(objects, key, Said(text="Hallo."))

    assert first == second == await documents.get_result(objects, key, Said)
    assert first.content.text == "Hello."
    assert sha256_hex(objects.get_verified(first.ref)) == first.ref.sha256


async def test_another_s_write_that_is_under_way_is_waited_for(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store says that somebody else is writing this key (409), and there is nothing yet. That is worth another try:
    taken for an object that is gone, it would make a dead letter of a call that lacks nothing."""

    def contended(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(objects, "compare_and_swap", contended)
    with pytest.raises(RetryableError, match="somebody else"):
        await documents.store_result(objects, f"test/{uuid.uuid4().hex}", Said(text="Hello."))
