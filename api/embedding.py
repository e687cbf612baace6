"""Embeds search queries. The model takes seconds to load, so it loads while the server starts, not before."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from api.errors import unavailable
from api.threads import in_thread
from pipelines.providers.base import Embedder

logger = logging.getLogger(__name__)

# The lowest cosine similarity, by model, at which two texts are about the same subject. Measured over the turns of the
# demo calls: for 25 queries about other subjects the nearest turn scores 0.21 at most, for 24 queries about the calls
# 0.26 at least (tests/pipelines/providers/test_embedders.py).
_MIN_SCORES = {"minilm-l6-v2": 0.25}


def min_score(model: str, configured: float | None) -> float | None:
    """Returns the lowest score of a search hit: the configured one, else the model's; None for an unmeasured model."""
    return _MIN_SCORES.get(model) if configured is None else configured


class QueryEmbedder:
    """Embedder that is created once, in a thread; if that fails, the next query tries again."""

    def __init__(self, make: Callable[[], Embedder], timeout_s: float) -> None:
        """make: loads the model (blocking). timeout_s: limit for one query, including loading."""
        self._make = make
        self._timeout_s = timeout_s
        self._loading: asyncio.Future[Embedder] | None = None

    def warm_up(self) -> "asyncio.Future[Embedder]":
        """Returns the load in progress or done; starts it if it has not started or has failed."""
        if self._loading is None or (self._loading.done() and _failed(self._loading)):
            self._loading = in_thread(self._make, "embedding-model")
            self._loading.add_done_callback(_failed)  # retrieves the error, in case no request awaits it
        return self._loading

    async def vector(self, text: str) -> tuple[Embedder, Sequence[float]]:
        """Returns the embedder and the text's vector. Raises ApiError 503 if the model is unavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                # Shielded: a client that disconnects must not stop a load that other requests wait for.
                embedder = await asyncio.shield(self.warm_up())
                vector = await embedder.embed_query(text)
        except Exception as error:  # any failure of the engine or of its loading makes search unavailable for now
            logger.warning("the search query cannot be embedded: %s", error)
            raise unavailable("the embedding model") from error
        return embedder, [float(value) for value in vector]


def _failed(loading: "asyncio.Future[Embedder]") -> bool:
    return loading.cancelled() or loading.exception() is not None
