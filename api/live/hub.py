"""Subscribers of live calls, and the messages that they get."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from api.errors import ApiError, unavailable
from api.live.levels import Track
from api.live.tail import Tail
from api.live.updates import Update, UpdateReader
from api.models import CallListItem, LevelList, TrackLevels
from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError

logger = logging.getLogger(__name__)

_FLUSH_S = 0.25  # interval between messages with levels
_LOOKUP_S = 0.5  # interval between lookups of changed calls
_SETTLE_S = 8.0  # a call is looked up this long after an event, since ClickHouse gets events later than the log
_LOOKUP_CALLS = 100  # calls in one lookup; the others wait
_MAX_CHANGED = 2_000  # calls that may wait for a lookup
_MESSAGE_TRACKS = 400  # tracks in one message
_BACKLOG = 200  # unread messages after which a subscriber is disconnected
_LINGER_S = 3.0  # the log is followed this long without subscribers, for a user who opens another page

Call = tuple[str, str]  # tenant, call id
Lookup = Callable[[Sequence[Call]], Awaitable[list[CallListItem]]]


@dataclass(eq=False)
class Subscriber:
    """Queue of messages for one client. tenant: the tenant whose calls it sees; None = every tenant's."""

    tenant: str | None
    messages: asyncio.Queue[tuple[str, str] | None] = field(default_factory=lambda: asyncio.Queue(_BACKLOG))

    def sees(self, tenant: str) -> bool:
        """True if the subscriber sees this tenant's calls."""
        return self.tenant in (None, tenant)

    def send(self, kind: str, data: str) -> None:
        """Queues a message; disconnects a subscriber that has not read its messages. It may connect again."""
        if self.messages.full():
            self.disconnect()
        else:
            self.messages.put_nowait((kind, data))

    def disconnect(self) -> None:
        """Drops queued messages and ends the subscription."""
        while not self.messages.empty():
            self.messages.get_nowait()
        self.messages.put_nowait(None)


class LiveHub:
    """Follows the log while there are subscribers. Belongs to one event loop."""

    def __init__(self, kafka: KafkaSettings, look_up: Lookup) -> None:
        """look_up: returns the current documents of these calls."""
        self._kafka = kafka
        self._look_up = look_up
        self._subscribers: set[Subscriber] = set()
        self._work: asyncio.Task[None] | None = None
        self._stop_timer: asyncio.TimerHandle | None = None
        self._levels: dict[Track, list[int]] = {}
        self._changed: dict[Call, float] = {}  # lookups of a call end at this loop time
        self._sent: dict[Call, str] = {}

    @contextlib.asynccontextmanager
    async def subscribe(self, tenant: str | None) -> AsyncIterator[Subscriber]:
        """Yields a subscriber that gets messages from now on. Raises ApiError 503 if no log is configured."""
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        if self._work is None:
            loop = asyncio.get_running_loop()
            try:
                reader = UpdateReader()
                tail = Tail(self._kafka, lambda messages: _hand_over(loop, self._take, reader.read(messages)))
            except LogUnavailableError as error:
                logger.warning("live calls cannot be followed: %s", error)
                raise unavailable("the log") from None
            self._work = asyncio.create_task(self._run(tail))
        subscriber = Subscriber(tenant)
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers:
                self._stop_timer = asyncio.get_running_loop().call_later(_LINGER_S, self._stop)

    def close(self) -> None:
        """Disconnects all subscribers and stops following the log."""
        for subscriber in self._subscribers:
            subscriber.disconnect()
        self._stop()

    def _stop(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
        self._levels, self._changed, self._sent = {}, {}, {}

    async def _run(self, tail: Tail) -> None:
        try:
            await asyncio.gather(self._send_levels(), self._follow_changes())
        finally:
            tail.close()

    def _take(self, update: Update) -> None:
        for track, levels in update.levels.items():
            self._levels.setdefault(track, []).extend(levels)
        until = asyncio.get_running_loop().time() + _SETTLE_S
        for name in update.changed_calls:
            if len(self._changed) < _MAX_CHANGED and any(one.sees(name[0]) for one in self._subscribers):
                self._changed[name] = until

    async def _send_levels(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            measured, self._levels = self._levels, {}
            for subscriber in self._subscribers if measured else ():
                visible = [
                    TrackLevels(tenant=tenant, call_id=call_id, track=track, levels_db=levels)
                    for (tenant, call_id, track), levels in measured.items()
                    if subscriber.sees(tenant)
                ]
                if visible:
                    subscriber.send("levels", LevelList(levels=visible[:_MESSAGE_TRACKS]).model_dump_json())

    async def _follow_changes(self) -> None:
        while True:
            await asyncio.sleep(_LOOKUP_S)
            names = list(self._changed)[:_LOOKUP_CALLS]
            if not names:
                continue
            try:
                calls = await self._look_up(names)
            except ApiError:  # ClickHouse is unavailable: the calls stay in `_changed` until it is back
                continue
            now = asyncio.get_running_loop().time()
            for name in names:
                until = self._changed.pop(name)
                if until > now:
                    self._changed[name] = until  # behind the calls that wait
            for call in calls:
                self._send_call(call)

    def _send_call(self, call: CallListItem) -> None:
        data = call.model_dump_json()
        name = (call.tenant, call.id)
        if self._sent.get(name) == data:
            return
        self._sent[name] = data
        if len(self._sent) > _MAX_CHANGED:
            self._sent.pop(next(iter(self._sent)))
        for subscriber in self._subscribers:
            if subscriber.sees(call.tenant):
                subscriber.send("call", data)


def _hand_over(loop: asyncio.AbstractEventLoop, take: Callable[[Update], None], update: Update) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has closed: the process is ending
        loop.call_soon_threadsafe(take, update)
