"""Sentence embeddings on this machine: all-MiniLM-L6-v2 with onnxruntime, without PyTorch."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from core.health_check import Check
from pipelines.providers.base import Embedded
from pipelines.providers.common import model_files
from pipelines.providers.minilm import graph
from pipelines.runtime.errors import ProviderOutageError

logger = logging.getLogger(__name__)

_MAX_TOKENS = 256  # the length of the model's training texts; longer texts are cut
_BATCH = 32

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Engine:
    tokenizer: Tokenizer
    session: Any  # onnxruntime.InferenceSession; thread-safe


class MiniLm:
    """Embedder with all-MiniLM-L6-v2. The model is loaded once, by `load` or by the first text."""

    name = "local"
    model = "minilm-l6-v2"
    dimension = graph.DIMENSION

    def __init__(self, cache: Path) -> None:
        """Checks that the model is installed.

        Args:
            cache: Directory for the graph that is built from the packaged weights.

        Raises:
            ModelError: The model is not installed.
        """
        model_files.require_installed(model_files.MINILM)
        self._cache = cache
        self._engine: _Engine | None = None
        self._loading = threading.Lock()
        # One thread, because onnxruntime itself uses several cores. Not asyncio's pool: a closing loop waits for it.
        self._threads = ThreadPoolExecutor(1, "minilm")

    def config(self) -> Mapping[str, object]:
        """Returns the model and the maximum length of a text."""
        return {"provider": self.name, "model": self.model, "max_tokens": _MAX_TOKENS}

    def load(self) -> None:
        """Loads the model unless it is loaded. The first time on a machine this builds its graph (some seconds).

        Raises:
            ProviderOutageError: The model cannot be loaded: the weights differ from the original, or the disk is full.
        """
        self._loaded_engine()

    async def check(self) -> Check:
        """Checks that the model's weights are installed. Loading compares them with the original."""
        name = "MiniLM"
        try:
            model_files.require_installed(model_files.MINILM)
        except model_files.ModelError as error:
            return Check(name, False, str(error), "do this, or set AUDIOTEXT_EMBEDDING__PROVIDER")
        return Check(name, True, f"{self.model} is installed, onnxruntime {onnxruntime.__version__}")

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embeds the texts: one row of unit length per text. A row does not depend on the other texts.

        Raises:
            ProviderOutageError: The model cannot be loaded.
        """
        return Embedded(await asyncio.get_running_loop().run_in_executor(self._threads, self._embed, list(texts)))

    async def embed_query(self, text: str) -> Vectors:
        """Embeds the text in the same way as other texts."""
        vector: Vectors = (await self.embed([text])).vectors[0]
        return vector

    def _embed(self, texts: list[str]) -> Vectors:
        engine = self._loaded_engine()
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        # A batch has texts of similar length, because all of them are padded to the longest one.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            encoded = engine.tokenizer.encode_batch([texts[row] for row in rows])
            ids = np.array([item.ids for item in encoded], np.int64)
            mask = np.array([item.attention_mask for item in encoded], np.float32)
            vectors[rows] = engine.session.run(None, {"ids": ids, "mask": mask})[0]
        return vectors

    def _loaded_engine(self) -> _Engine:
        with self._loading:
            if self._engine is None:
                started = time.monotonic()
                try:
                    self._engine = _load(graph.graph_directory(self._cache))
                except (model_files.ModelError, OSError) as error:
                    # The cause is not the call, and every call would fail: they wait until the operator repairs it.
                    raise ProviderOutageError(f"{self.model} cannot be loaded: {error}") from error
                logger.info("%s loaded in %.1f s", self.model, time.monotonic() - started)
            return self._engine


def _load(directory: Path) -> _Engine:
    tokenizer = Tokenizer.from_file(str(directory / graph.TOKENIZER))
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, len(os.sched_getaffinity(0)))
    # A thread that spins between two texts would take a core from the other processes on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(directory / graph.GRAPH), options, providers=["CPUExecutionProvider"])
    return _Engine(tokenizer, session)
