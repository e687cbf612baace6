"""Claim checks: an event names an object by key and SHA-256, a stage fetches it, works, and leaves one of its own.

Here the store's failures become the runtime's classes: a store that is away is worth another try, an object that is
gone or is not what it should be is not.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.runtime.errors import PermanentError, RetryableError
from schemas.events import ObjectRef
from sinks.object_store import ObjectMissingError, ObjectStore, ObjectStoreError

M = TypeVar("M", bound=BaseModel)

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Result(Generic[M]):
    """A stage's result and the claim of the object that holds it."""

    content: M
    ref: ObjectRef


async def fetch(objects: ObjectStore, ref: ObjectRef, model: type[M]) -> M:
    """The JSON object behind a claim, checked and parsed."""
    with translate_store_errors():
        data = await asyncio.to_thread(objects.get_verified, ref)
    return _parsed(ref.key, data, model)


async def download(objects: ObjectStore, ref: ObjectRef, path: Path) -> None:
    """Writes the object behind a claim to a file, checked, without having all of it in memory."""
    with translate_store_errors():
        await asyncio.to_thread(_download, objects, ref, path)


async def get_or_none(objects: ObjectStore, key: str, model: type[M]) -> M | None:
    """The decision that is there, if one is."""
    result = await get_result(objects, key, model)
    return result.content if result else None


async def get_result(objects: ObjectStore, key: str, model: type[M]) -> Result[M] | None:
    """The result that is there, if one is."""
    with translate_store_errors():
        try:
            data = await asyncio.to_thread(objects.get, key)
        except ObjectMissingError:
            return None
    return _result(key, data, model)


async def put_if_absent(objects: ObjectStore, key: str, decision: M) -> M:
    """Stores a decision unless one is there, and returns the one that is: who decides first decides for all."""
    return (await store_result(objects, key, decision)).content


async def store_result(objects: ObjectStore, key: str, result: M) -> Result[M]:
    """Stores a result as JSON unless one is there, and returns the one that is. Engines do not answer alike twice: of
    two workers that do one job after a rebalance the second must not change what the first has told of."""
    data = result.model_dump_json().encode()
    with translate_store_errors():
        if await asyncio.to_thread(objects.compare_and_swap, key, data, _JSON, replaces=None) is not None:
            return _result(key, data, type(result))
    there = await get_result(objects, key, type(result))
    if there is None:
        # Another's write is under way, and may yet fail.
        raise RetryableError(f"object storage: {key} is being written by somebody else")
    return there


def _result(key: str, data: bytes, model: type[M]) -> Result[M]:
    ref = ObjectRef(key=key, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    return Result(_parsed(key, data, model), ref)


def _parsed(key: str, data: bytes, model: type[M]) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise PermanentError(f"{key} is no {model.__name__}: {error}") from error


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
    """Turns the store's errors into the runtime's."""
    try:
        yield
    except ObjectMissingError as error:
        # It was verified before the event was sent: it has been deleted since, with its call.
        raise PermanentError(f"the object is gone: {error}") from error
    except ObjectStoreError as error:
        raise RetryableError(f"object storage: {error}") from error
