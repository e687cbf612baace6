"""Deletes what a provider still keeps although its result is stored.

The job's record says that an order is not released yet (`submitted`). A provider that is full has to find such orders
without reading the records of all calls, so a failed release leaves a marker: an empty object whose key names the
provider and the order. Workers delete by the markers with their next jobs, and before they give up for lack of space.
"""

import asyncio
import logging

from pipelines.jobs.documents import translate_store_errors
from pipelines.providers.base import RemoteJobs
from pipelines.runtime.errors import StageError
from schemas.artifacts import pending_release_key, pending_releases_prefix, remote_id_of
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

_AT_ONCE = 100  # markers handled in one run: providers limit the rate of requests
_EMPTY = "application/octet-stream"


class ProviderCleanup:
    """Releases of one provider that failed, and what the provider itself finds to be unused."""

    def __init__(self, jobs: RemoteJobs, objects: ObjectStore) -> None:
        self._jobs = jobs
        self._objects = objects

    async def release_later(self, remote_id: str) -> None:
        """Marks an order to be released. Raises RetryableError.

        Its result must be stored, so that deleting the order never costs a second one.
        """
        with translate_store_errors():
            await asyncio.to_thread(self._objects.put, pending_release_key(self._jobs.name, remote_id), b"", _EMPTY)

    async def run(self) -> int:
        """Deletes marked orders and unused uploads. Returns how many.

        Logs the errors of provider and store instead of raising them: a clean-up must not delay a result.
        """
        deleted = 0
        try:
            for key in await self._markers():
                await self._jobs.release(remote_id_of(key))
                with translate_store_errors():
                    await asyncio.to_thread(self._objects.remove, key)
                deleted += 1
            deleted += await self._jobs.delete_orphans()
        except StageError as error:
            logger.warning("cleaning up at %s failed, retrying later: %s", self._jobs.name, error)
        if deleted:
            logger.info("deleted %d unused orders and uploads at %s", deleted, self._jobs.name)
        return deleted

    async def _markers(self) -> list[str]:
        prefix = pending_releases_prefix(self._jobs.name)
        with translate_store_errors():
            return (await asyncio.to_thread(lambda: list(self._objects.list(prefix))))[:_AT_ONCE]
