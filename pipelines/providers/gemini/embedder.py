"""Sentence embeddings by Gemini.

Documents and queries are embedded differently (https://ai.google.dev/gemini-api/docs/embeddings). Older models take the
purpose as a task type; newer ones reject the task type and take the purpose as words before the text. Older models
normalize only vectors of their full length.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from google.genai import types

from core.health_check import Check
from core.settings import GeminiSettings
from pipelines.providers.base import Embedded, UnusableResponseError
from pipelines.providers.gemini.client import check_model, connect, estimated_tokens, translate_gemini_errors
from pipelines.runtime.errors import BilledFailureError
from schemas.events import Tokens

# Increase it when the same text gets another vector than before, so that embeddings are made again.
_REVISION = 1
_BATCH = 100  # texts per request
_WITH_TASK_TYPE = ("gemini-embedding-001", "gemini-embedding-exp", "text-embedding", "embedding-001")

Vectors = npt.NDArray[np.float32]


class GeminiEmbedder:
    """Embedder with a Gemini model, with vectors of the configured dimension."""

    name = "gemini"

    def __init__(self, settings: GeminiSettings, key: str, timeout_s: float) -> None:
        """Creates the client. It connects with the first request.

        Args:
            settings: Settings of Gemini.
            key: API key.
            timeout_s: Time-out of one request, in seconds.
        """
        self.model = settings.embedding_model.removeprefix("models/")
        self.dimension = settings.embedding_dimension
        self._client = connect(settings, key, timeout_s)

    def config(self) -> Mapping[str, object]:
        """Returns the model, the dimension and the revision of this code."""
        return {"provider": self.name, "model": self.model, "dimension": self.dimension, "revision": _REVISION}

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embeds the texts as documents: one row of unit length per text."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        tokens = Tokens()
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            vectors[start : start + len(batch)], counted = await self._request(
                batch, "title: none | text: ", "DOCUMENT"
            )
            tokens += counted
        return Embedded(vectors, tokens)

    async def embed_query(self, text: str) -> Vectors:
        """Embeds the text as a query."""
        vectors, _ = await self._request([text], "task: search result | query: ", "QUERY")
        query: Vectors = vectors[0]
        return query

    async def check(self) -> Check:
        """Checks that Gemini responds, accepts the key and has the model."""
        return await check_model(
            self._client,
            self.model,
            action="embedContent",
            setting="AUDIOTEXT_GEMINI__EMBEDDING_MODEL",
        )

    async def _request(self, texts: Sequence[str], prefix: str, task: str) -> tuple[Vectors, Tokens]:
        """Sends one request. It is not repeated here."""
        typed = self.model.startswith(_WITH_TASK_TYPE)
        sent = list(texts) if typed else [prefix + text for text in texts]
        with translate_gemini_errors():
            response = await self._client.aio.models.embed_content(
                model=self.model,
                # Contents instead of strings: newer models return one vector for a list of strings.
                contents=[types.Content(parts=[types.Part(text=text)]) for text in sent],
                config=types.EmbedContentConfig(
                    output_dimensionality=self.dimension, task_type=f"RETRIEVAL_{task}" if typed else None
                ),
            )
        tokens = _tokens(response, sent)
        try:
            return _rows(response, len(texts), self.dimension), tokens
        except BilledFailureError as error:
            raise UnusableResponseError(str(error), tokens) from error


def _rows(response: types.EmbedContentResponse, count: int, dimension: int) -> Vectors:
    """Returns the vectors of a response, normalized to unit length.

    Raises:
        BilledFailureError: The response does not contain `count` valid vectors.
    """
    values = [embedding.values or [] for embedding in response.embeddings or []]
    if len(values) != count or any(len(row) != dimension for row in values):
        lengths = sorted({len(row) for row in values})
        raise BilledFailureError(
            f"Gemini returned {len(values)} vectors with {lengths} numbers instead of {count} with {dimension}"
        )
    rows = np.array(values, np.float64).reshape(count, dimension)
    lengths_of = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(rows).all() or not (lengths_of > 0).all():
        raise BilledFailureError("Gemini returned an invalid vector: not finite, or of length 0")
    unit: Vectors = (rows / lengths_of).astype(np.float32)
    return unit


def _tokens(response: types.EmbedContentResponse, sent: Sequence[str]) -> Tokens:
    """Returns the tokens that Gemini counted, or an estimate."""
    usage = response.usage_metadata
    if usage is not None and usage.prompt_token_count:
        return Tokens(prompt=usage.prompt_token_count)
    return Tokens(prompt=estimated_tokens(*sent))
