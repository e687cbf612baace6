"""What a provider keeps although nobody needs it: noted down when it could not be deleted, deleted when it can.

A note is one small object that exists only as long as what it names. It is written after the job's result is stored,
so deleting by it never costs a second order.
"""

import asyncio
import logging

from pydantic import ValidationError

from pipelines.jobs.documents import translate_store_errors
from pipelines.providers.base import RemoteJobs
from pipelines.runtime.errors import StageError
from schemas.artifacts import LEFTOVERS, leftover_key
from schemas.events import Frozen
from sinks.object_store import ObjectMissingError, ObjectStore

logger = logging.getLogger(__name__)

_AT_ONCE = 100  # notes worked off in one go: providers count requests


class _Note(Frozen):
    provider: str
    remote_id: str


class PendingDeletions:
    """Of one provider."""

    def __init__(self, jobs: RemoteJobs, objects: ObjectStore) -> None:
        self._jobs = jobs
        self._objects = objects

    async def record(self, remote_id: str) -> None:
        """Remembers that the provider still keeps a job whose result is stored. Raises RetryableError."""
        note = _Note(provider=self._jobs.name, remote_id=remote_id)
        key = leftover_key(self._jobs.name, remote_id)
        with translate_store_errors():
            await asyncio.to_thread(self._objects.put, key, note.model_dump_json().encode(), "application/json")

    async def delete(self) -> int:
        """Deletes what is noted down, and what the provider finds by itself. Returns how many things. Raises no
        StageError: a clean-up that fails must not hold up a result."""
        deleted = 0
        try:
            for key in await self._notes():
                deleted += await self._work_off(key)
            deleted += await self._jobs.delete_orphans()
        except StageError as error:
            logger.warning("%s is not tidied up: %s", self._jobs.name, error)
        if deleted:
            logger.info("deleted %d leftovers at %s", deleted, self._jobs.name)
        return deleted

    async def _notes(self) -> list[str]:
        prefix = f"{LEFTOVERS}{self._jobs.name}/"
        with translate_store_errors():
            return (await asyncio.to_thread(lambda: list(self._objects.list(prefix))))[:_AT_ONCE]

    async def _work_off(self, key: str) -> int:
        with translate_store_errors():
            try:
                note = _Note.model_validate_json(await asyncio.to_thread(self._objects.get, key))
            except (ObjectMissingError, ValidationError):
                return 0  # another process was quicker; or it is no note of ours
        await self._jobs.release(note.remote_id)
        with translate_store_errors():
            await asyncio.to_thread(self._objects.remove, key)
        return 1
