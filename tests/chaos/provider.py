"""The paid provider under attack: a fake Soniox in this process.

Only scheduled faults reach it.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tests.chaos.faults import Action
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.fakes.soniox_rules import KEY, PENDING_FULL

_QUICK_S, _SLOW_S = 0.2, 8.0
_EVER = 1 << 30
_ORDERING = "POST /v1/transcriptions"

REFUSALS = {
    # Taken, and answered as if it was not: whoever asks again without looking pays twice.
    Action.WRONG: [
        Refusal(_ORDERING, 500, "internal_error", "Wrong on purpose.", times=_EVER, taken=True),
        Refusal("GET /v1/transcriptions/.*", 500, "internal_error", "Wrong on purpose.", times=_EVER),
    ],
    Action.LIMIT: [Refusal(".*", 429, "limit_exceeded", PENDING_FULL, {"Retry-After": "1"}, times=_EVER)],
    Action.VANISH: [Refusal(".*", 0, "", "", times=_EVER)],
}


class Provider:
    """Server in its own thread."""

    def __init__(self) -> None:
        self._fake = FakeSoniox(
            takes_s=_QUICK_S, per_minute=_EVER, max_orders=_EVER, max_files=_EVER, max_pending=_EVER
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="provider", daemon=True)
        self._thread.start()
        self._do(self._fake.start())

    @property
    def environment(self) -> dict[str, str]:
        """Returns the settings with which the transcriber uses it."""
        return {
            "AUDIOTEXT_STT__PROVIDER": "soniox",
            "AUDIOTEXT_SONIOX__API_KEY": KEY,
            "AUDIOTEXT_SONIOX__BASE_URL": self._fake.url,
        }

    @property
    def orders(self) -> dict[str, int]:
        """Returns how often each job was ordered, by its key, whatever the answer was."""
        return dict(self._fake.ordered)

    @property
    def kept(self) -> set[str]:
        """Returns the ids of orders that still exist there. Failed ones are deleted within an hour and do not count."""
        return {remote_id for remote_id, order in self._fake.orders.items() if order["status"] != "error"}

    def begin(self, action: Action) -> str:
        """Begins a fault: slow, wrong or refused answers, or no connection."""
        self._call(lambda: self._become(action))
        return f"{len(self._fake.ordered)} orders so far"

    def end(self) -> None:
        """Ends the fault."""
        self._call(lambda: self._become(None))

    def stop(self) -> None:
        """Stops the server."""
        self._do(self._fake.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _become(self, action: Action | None) -> None:
        self._fake.takes_s = _SLOW_S if action is Action.SLOW else _QUICK_S
        self._fake.refusals[:] = REFUSALS.get(action, []) if action else []

    def _call(self, change: Callable[[], None]) -> None:
        async def change_it() -> None:
            change()

        self._do(change_it())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
