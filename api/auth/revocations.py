"""Check of tokens that were ended before their time: sessions after a sign-out, and revoked share links."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from api.errors import ApiError

_CACHE_SECONDS = 3.0  # another API process may accept an ended token for this long
_CACHE_ENTRIES = 4096


class Revocations:
    """Looks tokens up in the store that all API processes share, and remembers each answer for three seconds."""

    def __init__(
        self, is_revoked: Callable[[str], Awaitable[bool]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """is_revoked: queries the store; raises ApiError 503 if it is unavailable."""
        self._is_revoked = is_revoked
        self._clock = clock
        # By token id, oldest first: time of the query (monotonic seconds), and its answer.
        self._cache: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    async def is_revoked(self, token_id: str) -> bool:
        """True if the token was ended. Raises ApiError 503.

        While the store is unavailable, the last answer about a token holds, so that an operator who is signed in can
        still open the operations page.
        """
        queried_at, known = self._cache.get(token_id, (0.0, None))
        if known is not None and (known or self._clock() - queried_at < _CACHE_SECONDS):
            return known
        now = self._clock()  # the answer may be as old as the start of the query
        try:
            found = await self._is_revoked(token_id)
        except ApiError:
            if known is None:
                raise
            return known
        self._remember(token_id, now, found)
        return found

    def mark(self, token_id: str, *, revoked: bool) -> None:
        """Stores the state of a token that this process has issued or ended."""
        self._remember(token_id, self._clock(), revoked)

    def _remember(self, token_id: str, at: float, revoked: bool) -> None:
        self._cache.pop(token_id, None)
        self._cache[token_id] = (at, revoked)
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)
