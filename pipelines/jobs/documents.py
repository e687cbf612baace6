"""Claim checks and JSON documents in object storage.

An event names an object by key and SHA-256 (a claim check); a stage fetches it, works, and stores a document of its
own. The errors of the store become the errors of the runtime here: an unreachable store is worth another attempt, a
missing or damaged object is not.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.runtime.errors import PermanentError, RetryableError
from schemas.events import ObjectRef
from sinks.object_store import ObjectMissingError, ObjectStore, ObjectStoreError, VersionedObject

M = TypeVar("M", bound=BaseModel)


class Document(Generic[M]):
    """One JSON document, changed by compare-and-swap.

    `content` and `ref` describe the version that this object read or wrote last (None: the document does not exist).
    For one task at a time. Methods raise RetryableError if object storage is unreachable, and PermanentError if the
    stored bytes are not such a document: treated as absent, a damaged document would be paid for again.
    """

    def __init__(self, objects: ObjectStore, key: str, model: type[M]) -> None:
        self.key = key
        self.content: M | None = None
        self.was_read = False
        self._objects = objects
        self._model = model
        self._version: VersionedObject | None = None

    @property
    def ref(self) -> ObjectRef:
        """Claim check of the version that was read or written last. There must be one."""
        assert self._version is not None
        data = self._version.data
        return ObjectRef(key=self.key, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    async def get(self) -> M | None:
        """Reads the document."""
        with translate_store_errors():
            version = await asyncio.to_thread(self._objects.get_versioned, self.key)
        self.content = _parsed(self.key, version.data, self._model) if version else None
        self._version = version
        self.was_read = True
        return self.content

    async def put_if_absent(self, content: M) -> M:
        """Stores the content unless the document exists, and returns the stored one: the first writer wins."""
        return await self.update(lambda stored: stored or content)

    async def update(self, change: Callable[[M | None], M]) -> M:
        """Replaces the document by `change(document)` and returns the new one.

        `change` runs again if another worker was faster, so it must not have effects of its own. It also runs again if
        the store took the write and its answer was lost; a change that must not be applied twice has to recognize its
        own result. Nothing is written if the document stays the same. A document that was never read is assumed not to
        exist, which saves a request if that is true.
        """
        while True:
            before = self.content
            after = change(before)
            if after == before:
                return after
            data = after.model_dump_json().encode()
            with translate_store_errors():
                written = await asyncio.to_thread(
                    self._objects.compare_and_swap, self.key, data, "application/json", replaces=self._version
                )
            if written is not None:
                self.content, self._version, self.was_read = after, written, True
                return after
            if await self.get() is None and before is None:
                # The other write is not finished, and may still fail.
                raise RetryableError(f"object storage: another worker is writing {self.key}")


async def fetch(objects: ObjectStore, ref: ObjectRef, model: type[M]) -> M:
    """Returns the JSON object of a claim check, verified and parsed."""
    with translate_store_errors():
        data = await asyncio.to_thread(objects.get_verified, ref)
    return _parsed(ref.key, data, model)


async def download(objects: ObjectStore, ref: ObjectRef, path: Path) -> None:
    """Writes the object of a claim check to a file and verifies it, without holding all of it in memory."""
    with translate_store_errors():
        await asyncio.to_thread(_download, objects, ref, path)


def _parsed(key: str, data: bytes, model: type[M]) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise PermanentError(f"{key} is not a valid {model.__name__}: {error}") from error


def _download(objects: ObjectStore, ref: ObjectRef, path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in objects.stream(ref.key):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != ref.sha256:
        raise ObjectStoreError(f"{ref.key}: content does not match its SHA-256")


@contextmanager
def translate_store_errors() -> Iterator[None]:
    """Turns the errors of the store into those of the runtime."""
    try:
        yield
    except ObjectMissingError as error:
        # It was verified before the event was published: it was deleted since, together with its call.
        raise PermanentError(f"the object is gone: {error}") from error
    except ObjectStoreError as error:
        raise RetryableError(f"object storage: {error}") from error
