"""In-memory cache of engine results that are not stored yet."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PendingResults(Generic[T]):
    """Keeps results until they are stored, while the process lives.

    A store that refuses a result must not have it made, and paid for, again at every attempt.
    """

    def __init__(self, size: int) -> None:
        """Creates an empty cache. size: with more results the oldest is dropped."""
        self._size = size
        self._results: OrderedDict[str, T] = OrderedDict()

    async def get(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """Returns the cached result, or makes and caches it. Raises what `make` raises."""
        if key not in self._results:
            self._results[key] = await make()
            while len(self._results) > self._size:
                self._results.popitem(last=False)
        return self._results[key]

    def stored(self, key: str) -> None:
        """Drops a result that is stored now."""
        self._results.pop(key, None)
