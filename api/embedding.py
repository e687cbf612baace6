"""The query's vector. The model takes seconds to load, so it loads beside the server's start, not before it."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from api.errors import unavailable
from api.threads import in_thread
from pipelines.providers.base import Embedder

log = logging.getLogger(__name__)

# The lowest cosine similarity at which two texts are about the same thing, by model. Measured: over the turns of the
# demo calls the nearest turn to 25 queries about something else is at 0.21 at most, to 24 queries about the calls at
# 0.26 at least (tests/pipelines/providers/test_embedders.py).
_MIN_SCORES = {"minilm-l6-v2": 0.25}


def min_score(model: str, configured: float | None) -> float | None:
    """The lowest score of a search hit: the configured one, or the model's; None for a model that nobody measured."""
    return _MIN_SCORES.get(model) if configured is None else configured


class QueryEmbedder:
    """An embedder that is made in a thread, once; if that fails, again with the next query."""

    def __init__(self, make: Callable[[], Embedder], timeout_s: float) -> None:
        """make: loads the model (blocking). timeout_s: how long a query may take, loading included."""
        self._make = make
        self._timeout_s = timeout_s
        self._loading: asyncio.Future[Embedder] | None = None

    def warm_up(self) -> "asyncio.Future[Embedder]":
        """The loading; started if it has not been or has failed."""
        if self._loading is None or (self._loading.done() and _failed(self._loading)):
            self._loading = in_thread(self._make, "embedding-model")
            self._loading.add_done_callback(_failed)  # takes the error, should nobody be waiting for it
        return self._loading

    async def vector(self, text: str) -> tuple[Embedder, Sequence[float]]:
        """The text's vector and what made it. Raises ApiError 503 if the model cannot be had."""
        try:
            async with asyncio.timeout(self._timeout_s):
                # Shielded: a client that leaves must not stop the loading that others wait for.
                embedder = await asyncio.shield(self.warm_up())
                vector = await embedder.embed_query(text)
        except Exception as error:  # whatever an engine or its loading raises, the search cannot be had now
            log.warning("no embedding for a search: %s", error)
            raise unavailable("the embedding model") from error
        return embedder, [float(value) for value in vector]


def _failed(loading: "asyncio.Future[Embedder]") -> bool:
    return loading.cancelled() or loading.exception() is not None
