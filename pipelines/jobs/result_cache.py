"""What engines have made and no store has taken yet."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PendingResults(Generic[T]):
    """Keeps what was made until it is stored, while the process lives: a store that refuses it must not have it made,
    and paid for, again at each attempt. most: beyond it the oldest are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: OrderedDict[str, T] = OrderedDict()

    async def get(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """What was made under the key before, or is now. Raises what `make` raises."""
        if key not in self._made:
            self._made[key] = await make()
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        return self._made[key]

    def stored(self, key: str) -> None:
        """It need not be kept any more."""
        self._made.pop(key, None)
