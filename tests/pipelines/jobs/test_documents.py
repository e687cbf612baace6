"""Results in object storage: who is first stays."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from core.settings import S3Settings
from pipelines.jobs.documents import Document
from pipelines.runtime.errors import PermanentError, RetryableError
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
    one, other, reader = (Document(objects, key, Said) for _ in range(3))
    assert await reader.get() is None

    first = await one.put_if_absent(Said(text="Hello."))
    second = await other.put_if_absent(Said(text="Hallo."))

    assert first == second == await reader.get()
    assert first.text == "Hello."
    assert one.ref == other.ref == reader.ref
    assert sha256_hex(objects.get_verified(one.ref)) == one.ref.sha256


async def test_another_s_write_that_is_under_way_is_waited_for(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store says that somebody else is writing this key (409), and there is nothing yet. That is worth another try:
    taken for an object that is gone, it would make a dead letter of a call that lacks nothing."""

    def contended(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(objects, "compare_and_swap", contended)
    with pytest.raises(RetryableError, match="another worker"):
        await Document(objects, f"test/{uuid.uuid4().hex}", Said).put_if_absent(Said(text="Hello."))


async def test_of_many_updates_none_is_lost(objects: ObjectStore) -> None:
    """Eight workers add a word each to one document at the same time, and one of them repeats itself: all words are
    there once. An update that replaced what it had not read would lose a token count or a charge."""
    key = f"test/{uuid.uuid4().hex}"

    def adding(word: str) -> Callable[[Said | None], Said]:
        def change(said: Said | None) -> Said:
            words = said.text.split() if said else []
            return Said(text=" ".join([*words, *([] if word in words else [word])]))

        return change

    words = [f"w{number}" for number in range(8)]
    await asyncio.gather(*(Document(objects, key, Said).update(adding(word)) for word in [*words, words[0]]))
    said = await Document(objects, key, Said).get()
    assert said is not None
    assert sorted(said.text.split()) == words


async def test_an_update_that_changes_nothing_writes_nothing(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that is already as it should be is not written again: its claim check stays valid."""
    document = Document(objects, f"test/{uuid.uuid4().hex}", Said)
    await document.put_if_absent(Said(text="Hello."))
    monkeypatch.setattr(objects, "compare_and_swap", None)
    assert await document.put_if_absent(Said(text="Hallo.")) == Said(text="Hello.")


async def test_a_damaged_document_is_an_error_and_never_absent(objects: ObjectStore) -> None:
    """Something else is in the document's place: neither reading nor writing takes it for a missing document."""
    document = Document(objects, f"test/{uuid.uuid4().hex}", Said)
    objects.put(document.key, b"{", "application/json")
    with pytest.raises(PermanentError):
        await document.get()
    with pytest.raises(PermanentError):
        await document.put_if_absent(Said(text="Hello."))
    assert objects.get(document.key) == b"{"
