"""Sentence embeddings by Gemini.

https://ai.google.dev/gemini-api/docs/embeddings: a text that is to be found and what it is searched by are embedded
otherwise. Older models take that as a task type; newer ones refuse it and take it as words before the text. Only the
full length comes normalized from older models.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from google.genai import types

from core.health_check import Check
from core.settings import GeminiSettings
from pipelines.providers.base import Embedded, UnusableResponseError
from pipelines.providers.gemini.client import check_model, classified, connect, estimated_tokens
from pipelines.runtime.errors import BilledFailureError
from schemas.events import Tokens

# Raised when the same text would get another vector, so that it is made anew.
_REVISION = 1
_BATCH = 100  # texts a request
_WITH_TASK_TYPE = ("gemini-embedding-001", "gemini-embedding-exp", "text-embedding", "embedding-001")

Vectors = npt.NDArray[np.float32]


class GeminiEmbedder:
    """Embeddings of a model, cut to a dimension."""

    name = "gemini"

    def __init__(self, settings: GeminiSettings, key: str, timeout_s: float) -> None:
        """key: the API key. timeout_s: of one request."""
        self.model = settings.embedding_model.removeprefix("models/")
        self.dimension = settings.embedding_dimension
        self._client = connect(settings, key, timeout_s)

    def config(self) -> Mapping[str, object]:
        """Model, dimension, and how texts are told apart from queries."""
        return {"provider": self.name, "model": self.model, "dimension": self.dimension, "revision": _REVISION}

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """One row of unit length a text, as something to be found."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        tokens = Tokens()
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            vectors[start : start + len(batch)], counted = await self._ask(batch, "title: none | text: ", "DOCUMENT")
            tokens += counted
        return Embedded(vectors, tokens)

    async def embed_query(self, text: str) -> Vectors:
        """What is searched by."""
        vectors, _ = await self._ask([text], "task: search result | query: ", "QUERY")
        query: Vectors = vectors[0]
        return query

    async def check(self) -> Check:
        """Whether it answers, takes the key and has the model."""
        return await check_model(
            self._client,
            self.model,
            action="embedContent",
            setting="AUDIOTEXT_GEMINI__EMBEDDING_MODEL",
        )

    async def _ask(self, texts: Sequence[str], prefix: str, task: str) -> tuple[Vectors, Tokens]:
        """One request, never repeated in here."""
        typed = self.model.startswith(_WITH_TASK_TYPE)
        sent = list(texts) if typed else [prefix + text for text in texts]
        with classified():
            response = await self._client.aio.models.embed_content(
                model=self.model,
                # Contents, not strings: of several strings the newer models make one vector.
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
    """The vectors, brought to unit length. Raises AnsweredError for anything else."""
    values = [embedding.values or [] for embedding in response.embeddings or []]
    if len(values) != count or any(len(row) != dimension for row in values):
        lengths = sorted({len(row) for row in values})
        raise BilledFailureError(
            f"Gemini gave {len(values)} vectors of {lengths} numbers for {count} texts of {dimension}"
        )
    rows = np.array(values, np.float64).reshape(count, dimension)
    lengths_of = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(rows).all() or not (lengths_of > 0).all():
        raise BilledFailureError("Gemini gave a vector that is none: not finite, or of length 0")
    unit: Vectors = (rows / lengths_of).astype(np.float32)
    return unit


def _tokens(response: types.EmbedContentResponse, sent: Sequence[str]) -> Tokens:
    """What Gemini counted, or an estimate."""
    usage = response.usage_metadata
    if usage is not None and usage.prompt_token_count:
        return Tokens(prompt=usage.prompt_token_count)
    return Tokens(prompt=estimated_tokens(*sent))
