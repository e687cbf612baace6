"""The durable intent to order something that costs money: written before the order, read after a crash.

An intent is one small object beside the result. Whoever wants to order must first put their own intent there, which
the store lets one of several do; they may order only for a short window after that. When nobody knows how that ended
the provider is asked, and nobody orders again before the window is long over: until then a request may still be on
its way.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from pipelines.jobs.documents import translate_store_errors
from pipelines.providers.base import Bill
from pipelines.runtime.errors import PermanentError
from schemas.events import Frozen
from sinks.object_store import ObjectStore, VersionedObject


class OrderRecord(Frozen):
    """What is known about an order.

    intended: it may be under way. Whoever holds `token` may place it; others not before `expires_at_ms` (ms since the
    epoch). submitted: the provider has it as `remote_id`. done: its result is stored and the provider keeps nothing;
    `bill` is what it said it charges.
    """

    state: Literal["intended", "submitted", "done"]
    token: str = ""
    expires_at_ms: int = 0
    remote_id: str = ""
    bill: Bill | None = None


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Nobody has ordered, nobody is about to: put an intent of one's own there, then order."""


@dataclass(frozen=True, slots=True)
class AdoptOrder:
    """The provider has the order although nobody wrote it down: do so, then collect."""

    remote_id: str


@dataclass(frozen=True, slots=True)
class PollResult:
    """It is ordered: collect the result."""

    remote_id: str


@dataclass(frozen=True, slots=True)
class WaitForLease:
    """Somebody may be ordering right now: look again in so many seconds."""

    seconds: float


def next_action(
    intent: OrderRecord | None, found: str | None, asked_ms: int
) -> PlaceOrder | AdoptOrder | PollResult | WaitForLease:
    """What to do about a job whose result is not there. Pure.

    found: what the provider answered when asked for the job's key, after the intent was read; it need only be asked
    about an intent that is "intended". asked_ms: the clock before that question. A later reading would not do: "no such
    order" says nothing about a request that arrived after the question, while this process may have been frozen since.
    """
    if intent is None:
        return PlaceOrder()  # an intent precedes every order
    if intent.state != "intended":
        return PollResult(intent.remote_id)
    if found is not None:
        return AdoptOrder(found)
    if asked_ms < intent.expires_at_ms:
        return WaitForLease((intent.expires_at_ms - asked_ms) / 1000)
    return PlaceOrder()


@dataclass(frozen=True, slots=True)
class StoredOrderRecord:
    """An intent as it was read, or written, and the object that says so."""

    intent: OrderRecord
    object: VersionedObject


class OrderStore:
    """The intent of one job. Methods raise RetryableError when object storage is away."""

    def __init__(self, objects: ObjectStore, key: str) -> None:
        self._objects = objects
        self._key = key

    async def read(self) -> StoredOrderRecord | None:
        """The intent, if there is one. Raises PermanentError for something else in its place."""
        with translate_store_errors():
            found = await asyncio.to_thread(self._objects.get_versioned, self._key)
        if found is None:
            return None
        try:
            return StoredOrderRecord(OrderRecord.model_validate_json(found.data), found)
        except ValidationError as error:
            # Ordering again could pay twice: somebody has to look.
            raise PermanentError(f"{self._key} is no intent: {error}") from error

    async def write(self, intent: OrderRecord, *, replaces: StoredOrderRecord | None) -> StoredOrderRecord | None:
        """Puts the intent in the place of what was read there. None if that has changed meanwhile: read again."""
        data = intent.model_dump_json().encode()
        with translate_store_errors():
            written = await asyncio.to_thread(
                self._objects.compare_and_swap,
                self._key,
                data,
                "application/json",
                replaces=replaces.object if replaces else None,
            )
        if written is not None:
            return StoredOrderRecord(intent, written)
        # It may be ours: the store took it, its answer was lost, and the client asked again.
        there = await self.read()
        return there if there is not None and there.intent == intent else None
