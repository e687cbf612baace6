"""Who watches, and what they are told."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from api.errors import ApiError, unavailable
from api.live.levels import Track
from api.live.tail import Tail
from api.live.updates import Digest, Update
from api.models import CallListItem, LevelList, TrackLevels
from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError

log = logging.getLogger(__name__)

_FLUSH_S = 0.25  # levels are told so often
_LOOK_S = 0.5  # and calls that have changed looked up
_SETTLES_S = 8.0  # an event is on the log before ClickHouse has it: a call is looked up for so long after one
_LOOKED_AT = 100  # calls looked up at the same time; more wait
_WAITING = 2_000  # calls that may wait for it
_TRACKS_TOLD = 400  # in one message
_BACKLOG = 200  # messages for somebody who does not read them, then they have to come again
_LINGER_S = 3.0  # a page that is left for another is not the end

Call = tuple[str, str]  # tenant, call id
Lookup = Callable[[Sequence[Call]], Awaitable[list[CallListItem]]]


@dataclass(eq=False)
class Subscriber:
    """Somebody who watches. tenant: whose calls; None = everybody's."""

    tenant: str | None
    messages: asyncio.Queue[tuple[str, str] | None] = field(default_factory=lambda: asyncio.Queue(_BACKLOG))

    def sees(self, tenant: str) -> bool:
        """Whether this tenant's calls are theirs to see."""
        return self.tenant in (None, tenant)

    def send(self, kind: str, data: str) -> None:
        """A message for them; who has not read the last ones for long is sent away and may come again."""
        if self.messages.full():
            self.disconnect()
        else:
            self.messages.put_nowait((kind, data))

    def disconnect(self) -> None:
        """No more messages."""
        while not self.messages.empty():
            self.messages.get_nowait()
        self.messages.put_nowait(None)


class LiveHub:
    """Follows the log while somebody watches. Belongs to one event loop."""

    def __init__(self, kafka: KafkaSettings, look_up: Lookup) -> None:
        """look_up: the calls of these names as they are now."""
        self._kafka = kafka
        self._look_up = look_up
        self._watchers: set[Subscriber] = set()
        self._work: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._heard: dict[Track, list[int]] = {}
        self._changed: dict[Call, float] = {}  # until when (loop time) it is looked up
        self._told: dict[Call, str] = {}

    @contextlib.asynccontextmanager
    async def watch(self, tenant: str | None) -> AsyncIterator[Subscriber]:
        """Messages about these calls, from now on. Raises ApiError 503 if no log is configured."""
        if self._ending is not None:
            self._ending.cancel()
        if self._work is None:
            loop = asyncio.get_running_loop()
            try:
                digest = Digest()
                tail = Tail(self._kafka, lambda messages: _soon(loop, self._take, digest.of(messages)))
            except LogUnavailableError as error:
                log.warning("live calls cannot be followed: %s", error)
                raise unavailable("the log") from None
            self._work = asyncio.create_task(self._run(tail))
        watcher = Subscriber(tenant)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._ending = asyncio.get_running_loop().call_later(_LINGER_S, self._rest)

    def close(self) -> None:
        """Sends everybody away."""
        for watcher in self._watchers:
            watcher.disconnect()
        self._rest()

    def _rest(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
        self._heard, self._changed, self._told = {}, {}, {}

    async def _run(self, tail: Tail) -> None:
        try:
            await asyncio.gather(self._flush_levels(), self._follow_changes())
        finally:
            tail.close()

    def _take(self, news: Update) -> None:
        for track, levels in news.heard.items():
            self._heard.setdefault(track, []).extend(levels)
        until = asyncio.get_running_loop().time() + _SETTLES_S
        for name in news.changed:
            if len(self._changed) < _WAITING and any(watcher.sees(name[0]) for watcher in self._watchers):
                self._changed[name] = until

    async def _flush_levels(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            heard, self._heard = self._heard, {}
            for watcher in self._watchers if heard else ():
                told = [
                    TrackLevels(tenant=tenant, call_id=call_id, track=track, levels_db=levels)
                    for (tenant, call_id, track), levels in heard.items()
                    if watcher.sees(tenant)
                ]
                if told:
                    watcher.send("levels", LevelList(levels=told[:_TRACKS_TOLD]).model_dump_json())

    async def _follow_changes(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            names = list(self._changed)[:_LOOKED_AT]
            if not names:
                continue
            try:
                calls = await self._look_up(names)
            except ApiError:  # ClickHouse is away: they are still there when it is back
                continue
            now = asyncio.get_running_loop().time()
            for name in names:
                until = self._changed.pop(name)
                if until > now:
                    self._changed[name] = until  # behind those that wait
            for call in calls:
                self._tell_call(call)

    def _tell_call(self, call: CallListItem) -> None:
        data = call.model_dump_json()
        name = (call.tenant, call.id)
        if self._told.get(name) == data:
            return
        self._told[name] = data
        if len(self._told) > _WAITING:
            self._told.pop(next(iter(self._told)))
        for watcher in self._watchers:
            if watcher.sees(call.tenant):
                watcher.send("call", data)


def _soon(loop: asyncio.AbstractEventLoop, take: Callable[[Update], None], news: Update) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has closed: the process is ending
        loop.call_soon_threadsafe(take, news)
