"""Speech to text on this machine: Whisper by faster-whisper (CTranslate2, int8).

Each channel is transcribed by itself, in parallel: the channel is the speaker, nobody has to be told apart.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read when huggingface_hub is first imported, which faster_whisper does: nothing is fetched at run time.
os.environ["HF_HUB_OFFLINE"] = "1"

import faster_whisper
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from core.health_check import Check
from pipelines.providers.base import Transcription, TranscriptionJob
from pipelines.providers.common import model_files
from pipelines.providers.common.utterances import SpokenWord, segments_of
from pipelines.runtime.errors import PermanentError, ProviderOutageError
from schemas.artifacts import Transcript

logger = logging.getLogger(__name__)

_RATE_HZ = 16_000  # what Whisper was trained on
_BATCH = 4  # chunks of up to 30 s decoded together
_BEAM = 5
# Whisper's own rule for "nobody is speaking here", which the batched pipeline leaves out: the voice detector lets some
# hold music through, and the model then invents words for it.
_NO_SPEECH = 0.6
_LOW_LOGPROB = -1.0
_UNDETERMINED = "und"  # ISO 639: no language, since nobody spoke

# Raised when what makes a transcript here changes, so that the job key does.
_REVISION = 1

Samples = npt.NDArray[np.float32]


class _AbandonedError(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """A channel before it is decoded. segments: lazy, they are decoded as they are taken. speech_s: how much of the
    audio is speech; language: what the engine takes it for."""

    audio: Samples
    segments: Iterator[Any]
    language: str
    speech_s: float


class Whisper:
    """Speech to text by Whisper. The model is loaded once, by `load` or by the first job."""

    name = "whisper"

    def __init__(self, model: str, cache: Path, language: str | None = None, concurrency: int = 1) -> None:
        """model: "base", "tiny.en" or a path. cache: where joined weights are kept. language: ISO 639-1, or None to
        find it out. concurrency: calls at the same time. Raises models.ModelError."""
        self._directory = model_files.whisper_directory(model, cache)
        self.model = model if model in model_files.WHISPER else self._directory.name
        self._language = language
        self._concurrency = concurrency
        # Not asyncio's own pool: the loop would wait for it when it closes, and a batch takes seconds.
        self._calls = ThreadPoolExecutor(concurrency, "whisper-call")
        self._engine: Any = None
        self._loading = threading.Lock()

    def config(self) -> Mapping[str, object]:
        """Model, language, and the version of the engine."""
        return {
            "provider": self.name,
            "model": self.model if self.model in model_files.WHISPER else str(self._directory),
            "language": self._language,
            "beam": _BEAM,
            "engine": version("faster-whisper"),
            "revision": _REVISION,
        }

    def load(self) -> None:
        """Loads the model unless it is (about a second). Raises ProviderOutageError when it cannot be loaded."""
        with self._loading:
            if self._engine is None:
                started = time.monotonic()
                try:
                    self._engine = _load(self._directory, self._concurrency)
                except (RuntimeError, OSError) as error:
                    # No call is to blame, and none would fare better: let them wait until it is mended.
                    raise ProviderOutageError(f"whisper {self.model} cannot be loaded: {error}") from error
                logger.info("whisper %s loaded in %.1f s", self.model, time.monotonic() - started)

    async def check(self) -> Check:
        """Whether the model is there. It was compared with its original when it was put there."""
        weights = self._directory / "model.bin"
        if not weights.is_file():
            return Check("Whisper", False, f"{weights} is gone", "start the service again: it makes its model anew")
        return Check("Whisper", True, f"{self.model} is here, faster-whisper {version('faster-whisper')}")

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        """The call's transcript. Raises PermanentError for audio that cannot be read and a language that is none,
        ProviderOutageError when the model cannot be loaded.

        When cancelled, the threads at work stop after the batch they are at.
        """
        abandoned = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return Transcription(await loop.run_in_executor(self._calls, self._transcribe, job, abandoned))
        finally:
            abandoned.set()

    def _transcribe(self, job: TranscriptionJob, abandoned: threading.Event) -> Transcript:
        samples, rate_hz = _read(job.audio, len(job.speakers))
        language = self._language or _UNDETERMINED
        channels: list[list[SpokenWord]] = []
        if len(samples):
            self.load()
            with ThreadPoolExecutor(samples.shape[1], "whisper") as threads:
                heard = list(threads.map(lambda channel: self._listen(channel, rate_hz), samples.T))
                clearest = max(heard, key=lambda channel: channel.speech_s)
                if clearest.speech_s:
                    language = clearest.language
                channels = list(threads.map(lambda channel: self._words(channel, language, abandoned), heard))
        return Transcript(
            call_id=job.call_id,
            language=language,
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=segments_of([_within(job.duration_ms, words) for words in channels], job.speakers),
        )

    def _listen(self, channel: npt.NDArray[np.int16], rate_hz: int) -> _Heard:
        """Finds speech, and the language unless it is set."""
        audio = soxr.resample(channel.astype(np.float32) / 32768, rate_hz, _RATE_HZ)
        segments, info = self._pipeline(audio, self._language)
        return _Heard(audio, segments, info.language, info.duration_after_vad)

    def _words(self, channel: _Heard, language: str, abandoned: threading.Event) -> list[SpokenWord]:
        """What was said on a channel, in the call's language."""
        if not channel.speech_s:
            return []
        if abandoned.is_set():
            raise _AbandonedError
        segments = channel.segments
        if channel.language != language:
            segments, _ = self._pipeline(channel.audio, language)
        words: list[SpokenWord] = []
        for segment in segments:
            if abandoned.is_set():
                raise _AbandonedError
            if not _is_nobody(segment):
                words += (_word(word) for word in segment.words or ())
        return words

    def _pipeline(self, audio: Samples, language: str | None) -> tuple[Iterator[Any], Any]:
        # A pipeline remembers the end of its last speech, so each channel needs its own; it is only a wrapper.
        pipeline = faster_whisper.BatchedInferencePipeline(self._engine)
        try:
            segments, info = pipeline.transcribe(
                audio, language=language, beam_size=_BEAM, batch_size=_BATCH, word_timestamps=True, vad_filter=True
            )
        except ValueError as error:
            if "language" in str(error):
                raise PermanentError(f"whisper {self.model} knows no language {language!r}") from error
            raise
        return segments, info


def _load(directory: Path, calls: int) -> Any:
    """The engine: a worker per channel and call as far as there are cores; more threads only where cores are left,
    since two workers with a thread each are faster than one with two."""
    cores = len(os.sched_getaffinity(0))
    workers = min(2 * calls, cores)
    return faster_whisper.WhisperModel(
        str(directory),
        device="cpu",
        compute_type="int8",
        num_workers=workers,
        cpu_threads=max(1, cores // workers),
        local_files_only=True,
    )


def _read(path: Path, channels: int) -> tuple[npt.NDArray[np.int16], int]:
    """The file's samples [frames, channels] and its rate. Raises PermanentError."""
    try:
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise PermanentError(f"the recording cannot be read: {error.error_string}") from error
    if samples.shape[1] != channels:
        raise PermanentError(f"the recording has {samples.shape[1]} channels where {channels} are expected")
    return samples, rate_hz


def _is_nobody(segment: Any) -> bool:
    return bool(segment.no_speech_prob > _NO_SPEECH and segment.avg_logprob < _LOW_LOGPROB)


def _word(word: Any) -> SpokenWord:
    """The engine's word; its times are np.float64 seconds."""
    return SpokenWord(
        start_ms=round(float(word.start) * 1000),
        end_ms=round(float(word.end) * 1000),
        text=word.word,
        confidence=round(float(word.probability), 3),
    )


def _within(duration_ms: int, words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """The words with times inside the recording: the engine's padding can reach past its end."""

    def clamp(time_ms: int) -> int:
        return min(max(time_ms, 0), duration_ms)

    return [
        replace(word, start_ms=clamp(word.start_ms), end_ms=clamp(max(word.start_ms, word.end_ms))) for word in words
    ]
