"""Speech to text on this machine: Whisper by faster-whisper (CTranslate2, int8).

Each channel is transcribed by itself, in its own language: the channel is the speaker. `voice` finds speech and divides
it into chunks, `echo` removes the echo of the other channel, `hearing` decodes the chunks and checks the text.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
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
from faster_whisper.vad import get_vad_model

from core.health_check import Check
from pipelines.providers.base import Transcription, TranscriptionJob
from pipelines.providers.common import model_files
from pipelines.providers.common.utterances import SpokenWord, segments_of
from pipelines.providers.whisper.decoder import BEAM, Decoder
from pipelines.providers.whisper.echo import Probabilities, echoes_of, without_echo
from pipelines.providers.whisper.hearing import ECHO, REPETITION, Heard, Hearing, batches_of
from pipelines.providers.whisper.voice import (
    RATE_HZ,
    Channel,
    Chunk,
    Region,
    Samples,
    chunks_of,
    credible,
    probabilities,
    regions_of,
    together,
)
from pipelines.runtime.errors import PermanentError, ProviderOutageError
from schemas.artifacts import Omitted, Transcript

logger = logging.getLogger(__name__)

_UNDETERMINED = "und"  # ISO 639: no language, because there is no speech

# Raise it when a change here gives other transcripts: the job key contains it.
_REVISION = 3


class _AbandonedError(Exception):
    """Raised in a thread when the result is no longer needed."""


@dataclass(frozen=True, slots=True)
class _Channel:
    """Result of one channel. speech: number of samples; echoes: stretches that are an echo of the other channel."""

    language: str
    speech: int
    heard: Heard
    echoes: list[Region]


class Whisper:
    """Speech to text by Whisper. The model is loaded once, by `load` or by the first job."""

    name = "whisper"

    def __init__(self, model: str, cache: Path, language: str | None = None, concurrency: int = 1) -> None:
        """Creates the engine. Raises ModelError if the model is not installed.

        model: "base", "tiny.en" or a path. cache: folder for joined weights. language: ISO 639-1, or None to detect it.
        concurrency: calls at the same time.
        """
        model_files.require_whisper(model, cache)
        self.model = model if model in model_files.WHISPER else Path(model).name
        self._source = model
        self._cache = cache
        self._language = language
        self._concurrency = concurrency
        # Not asyncio's own pool: the loop waits for that one when it closes, and a batch takes seconds.
        self._calls = ThreadPoolExecutor(concurrency, "whisper-call")
        self._engine: Any = None
        self._loading = threading.Lock()

    def config(self) -> Mapping[str, object]:
        """Model, language, and the version of the engine."""
        return {
            "provider": self.name,
            "model": self._source,
            "language": self._language,
            "beam": BEAM,
            "engine": version("faster-whisper"),
            "revision": _REVISION,
        }

    def load(self) -> None:
        """Loads the model once (about a second). Raises ProviderOutageError when it cannot be loaded."""
        with self._loading:
            if self._engine is None:
                started = time.monotonic()
                try:
                    directory = model_files.whisper_directory(self._source, self._cache)
                    self._engine = _load(directory, self._concurrency)
                except (model_files.ModelError, RuntimeError, OSError) as error:
                    # The call is not the cause, and any other call fails too: all wait until the model is repaired.
                    raise ProviderOutageError(f"whisper {self.model} cannot be loaded: {error}") from error
                logger.info("whisper %s loaded in %.1f s", self.model, time.monotonic() - started)

    async def check(self) -> Check:
        """Checks that the model is installed. Loading compares its content with the original."""
        name = "Whisper"
        try:
            model_files.require_whisper(self._source, self._cache)
        except model_files.ModelError as error:
            return Check(name, False, str(error), "do this, or set AUDIOTEXT_STT__PROVIDER")
        return Check(name, True, f"{self.model} is installed, faster-whisper {version('faster-whisper')}")

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        """Returns the call's transcript.

        Raises PermanentError for unreadable audio and an unknown language, ProviderOutageError when the model cannot be
        loaded. When the call is cancelled, each thread stops after its current batch.
        """
        abandoned = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return Transcription(await loop.run_in_executor(self._calls, self._transcribe, job, abandoned))
        finally:
            abandoned.set()

    def _transcribe(self, job: TranscriptionJob, abandoned: threading.Event) -> Transcript:
        samples, rate_hz = _read(job.audio, len(job.speakers))
        channels: list[_Channel] = []
        if len(samples):
            self.load()
            with ThreadPoolExecutor(min(samples.shape[1], _cores()), "whisper") as threads:
                channels = self._hear([Channel(one, rate_hz) for one in samples.T], threads, abandoned)
        omitted = _omitted(channels, job.duration_ms)
        if omitted:
            logger.warning(
                "call %s: the text of %d stretches is omitted: %s",
                job.call_id,
                len(omitted),
                ", ".join(f"{one.reason} {one.start_ms}-{one.end_ms} ms on channel {one.channel}" for one in omitted),
            )
        return Transcript(
            call_id=job.call_id,
            language=self._language or _clearest(channels),
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=segments_of([_within(job.duration_ms, one.heard.words) for one in channels], job.speakers),
            omitted=omitted,
        )

    def _hear(
        self, channels: Sequence[Channel], threads: ThreadPoolExecutor, abandoned: threading.Event
    ) -> list["_Channel"]:
        """Returns the result of each channel."""

        def proceed() -> None:
            if abandoned.is_set():
                raise _AbandonedError

        def found_in(channel: Channel) -> Probabilities:
            return probabilities(channel, _detect, proceed)

        def begun(chunks: Sequence[Chunk], hearing: Hearing) -> tuple[str, Heard]:
            return hearing.first(chunks, self._language) if chunks else (_UNDETERMINED, Heard())

        found = list(threads.map(found_in, channels))
        kept = found
        if len(channels) == 2:
            kept = list(threads.map(without_echo, channels, found, channels[::-1], found[::-1]))
        chunks = [
            chunks_of(credible(regions_of(one), one), channel.length)
            for channel, one in zip(channels, kept, strict=True)
        ]
        batches = [batches_of(one) for one in chunks]
        decoder = Decoder(self._engine, self.model)
        hearings = [
            Hearing(channel, decoder, proceed, echoes_of(before, clean))
            for channel, before, clean in zip(channels, found, kept, strict=True)
        ]
        proceed()
        firsts = list(threads.map(begun, [one[0] if one else [] for one in batches], hearings))
        rests = [
            [threads.submit(hearing.rest, batch, language, detect=self._language is None) for batch in later[1:]]
            for hearing, later, (language, _) in zip(hearings, batches, firsts, strict=True)
        ]
        return [
            _Channel(
                language=language,
                speech=sum(chunk.speech for chunk in own),
                heard=sum((batch.result() for batch in rest), heard),
                echoes=regions_of(np.where(clean < before, before, 0)),
            )
            for (language, heard), rest, own, before, clean in zip(firsts, rests, chunks, found, kept, strict=True)
        ]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _detect(samples: Samples) -> Probabilities:
    """Returns the probability of speech in each frame, by Silero with fresh state."""
    found: Probabilities = get_vad_model()(samples)
    return found


def _clearest(channels: Sequence[_Channel]) -> str:
    """Returns the language of the channel with most speech among those that have words."""
    speaking = [channel for channel in channels if channel.heard.words]
    return max(speaking, key=lambda channel: channel.speech).language if speaking else _UNDETERMINED


def _omitted(channels: Sequence[_Channel], duration_ms: int) -> list[Omitted]:
    """Returns the stretches whose text is omitted, ordered by start."""
    spans = [
        (region, number, reason)
        for number, channel in enumerate(channels)
        for reason, regions in ((REPETITION, channel.heard.omitted), (ECHO, together(channel.echoes)))
        for region in regions
    ]
    found = [
        Omitted(
            start_ms=min(span.start * 1000 // RATE_HZ, duration_ms),
            end_ms=min(span.end * 1000 // RATE_HZ, duration_ms),
            channel=number,
            reason=reason,
        )
        for span, number, reason in spans
    ]
    return sorted(found, key=lambda one: (one.start_ms, one.channel))


def _load(directory: Path, calls: int) -> Any:
    """Loads the engine with one worker per channel and call, at most one per core.

    Workers get more threads only if cores are left: two workers with one thread each are faster than one with two.
    """
    cores = _cores()
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
    """Reads the file's samples [frames, channels] and its rate. Raises PermanentError."""
    try:
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise PermanentError(f"the recording cannot be read: {error.error_string}") from error
    if samples.shape[1] != channels:
        raise PermanentError(f"the recording has {samples.shape[1]} channels where {channels} are expected")
    return samples, rate_hz


def _within(duration_ms: int, words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Moves the words into the recording: the engine's padding can reach past its end."""

    def clamp(time_ms: int) -> int:
        return min(max(time_ms, 0), duration_ms)

    return [
        replace(word, start_ms=clamp(word.start_ms), end_ms=clamp(max(word.start_ms, word.end_ms))) for word in words
    ]
