"""Engines behind small protocols: speech to text, summary, embedding. One file each; a registry picks by setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.artifacts import Summary, Transcript


@dataclass(frozen=True, slots=True)
class TranscriptionJob:
    """What an engine needs. audio: a 16-bit PCM WAV; speakers: name per channel, in channel order
    ("inbound", "outbound"). key: the job key, for providers that take a reference of ours."""

    key: str
    call_id: str
    audio: Path
    duration_ms: int
    speakers: tuple[str, ...]


class SpeechToText(Protocol):
    """Speech to text. Raises pipelines.runtime.errors."""

    name: str
    model: str

    def config(self) -> Mapping[str, object]:
        """All that changes the result, JSON-able: it is hashed into the job key."""

    async def transcribe(self, job: TranscriptionJob) -> Transcript: ...


class Summarizer(Protocol):
    """Summary of a transcript. Raises pipelines.runtime.errors."""

    name: str
    model: str

    def config(self) -> Mapping[str, object]: ...

    async def summarize(self, transcript: Transcript) -> Summary: ...


class Embedder(Protocol):
    """Sentence embeddings, rows of unit length: float32 [texts, dimension]."""

    name: str
    model: str
    dimension: int

    def config(self) -> Mapping[str, object]: ...

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...
