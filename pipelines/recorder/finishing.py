"""Makes the recording of a closed part: WAV, waveform, manifest, upload, `recording.ready`, `recorded`.

Each step gives the same result when it is done again, so a crash between any two needs no clean-up: the part is
found in the spool and everything is done once more. It runs in threads of its own; a store that is away holds up
recordings, never audio.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.recorder.journal import PartId
from pipelines.recorder.recording import Recording, make
from pipelines.recorder.spool import JOURNAL
from redpanda.client import EventProducer, LogUnavailableError
from schemas.artifacts import recording_prefix
from schemas.events import RecordingReady
from schemas.media import MediaRecord, RecordType
from schemas.topics import Topic
from sinks.objects import ObjectStore, ObjectStoreError

log = logging.getLogger(__name__)

_JSON = "application/json"
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0


class Finisher:
    """Threads that finish parts. Thread-safe.

    tell: puts a record on a partition of call.media.
    """

    def __init__(
        self, *, store: ObjectStore, events: EventProducer, tell: Callable[[MediaRecord, int], None], workers: int
    ) -> None:
        self._store = store
        self._events = events
        self._tell = tell
        self._jobs: queue.SimpleQueue[tuple[PartId, Path] | None] = queue.SimpleQueue()
        self._wanted: set[PartId] = set()
        self._begun: set[PartId] = set()  # queued or under way, wanted or not: never twice in one directory
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        # Daemons: at the end of the process an upload may be cut off anywhere.
        self._threads = [
            threading.Thread(target=self._work, name=f"finisher-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, identity: PartId, directory: Path) -> None:
        """Finishes the closed part whose journal lies in the directory, unless that is under way."""
        with self._lock:
            self._wanted.add(identity)
            if identity in self._begun:
                return
            self._begun.add(identity)
        self._jobs.put((identity, directory))

    def disown(self, partition: int) -> None:
        """The partition's calls are somebody else's now. What is just being uploaded goes on: it is the same."""
        with self._lock:
            self._wanted = {identity for identity in self._wanted if identity.partition != partition}

    def busy(self, identity: PartId) -> bool:
        """Whether the part's files are in use, or will be."""
        with self._lock:
            return identity in self._begun

    def stop(self, timeout_s: float = 1.0) -> None:
        """Gives what is under way a moment. What is not done by then is done after the next start."""
        self._stopping.set()
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopping.is_set():
            self._finish_at_last(*job)

    def _finish_at_last(self, identity: PartId, directory: Path) -> None:
        delay_s = _FIRST_DELAY_S
        while self._goes_on(identity):
            try:
                self._finish(identity, directory)
            except (ObjectStoreError, LogUnavailableError, OSError) as error:
                if not (directory / JOURNAL).exists():
                    self._done(identity)  # released meanwhile: an earlier attempt had got through
                    continue
                log.error(
                    "call %s part %d: %s. The audio is kept in %s; trying again in %g s",
                    identity.call_id, identity.part, error, directory, delay_s,
                )  # fmt: skip
            except Exception:
                # A recording that cannot be made must not stop the others; its audio stays where it is.
                log.exception(
                    "call %s part %d cannot be recorded; the audio is kept in %s; trying again in %g s",
                    identity.call_id, identity.part, directory, delay_s,
                )  # fmt: skip
            else:
                self._done(identity)
                continue
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _goes_on(self, identity: PartId) -> bool:
        with self._lock:
            if identity in self._wanted and not self._stopping.is_set():
                return True
            self._begun.discard(identity)
            return False

    def _done(self, identity: PartId) -> None:
        with self._lock:
            self._wanted.discard(identity)

    def _finish(self, identity: PartId, directory: Path) -> None:
        recording = make(identity, directory)
        event = self._upload(recording)
        self._events.send(Topic.RECORDING_READY, [event])
        self._tell(
            MediaRecord(
                type=RecordType.RECORDED,
                call_id=identity.call_id,
                tenant=identity.tenant,
                carrier=event.carrier,
                stream_id="",
                at_ms=time.time_ns() // 1_000_000,
                part=identity.part,
            ),
            identity.partition,
        )
        log.info(
            "call %s part %d recorded: %.1f s, %s",
            identity.call_id,
            identity.part,
            event.duration_ms / 1000,
            ", ".join(f"{track.name} {track.audio_ms / 1000:.1f} s in {len(track.gaps)} gaps" for track in event.tracks)
            or "no audio",
        )

    def _upload(self, recording: Recording) -> RecordingReady:
        manifest = recording.manifest
        prefix = recording_prefix(manifest.tenant, manifest.call_id, manifest.part)
        return recording.event(
            audio=self._store.put_file(f"{prefix}/audio.wav", recording.audio, "audio/wav", manifest.audio_sha256),
            peaks=self._store.put(f"{prefix}/peaks.json", recording.peaks.model_dump_json().encode(), _JSON),
            manifest=self._store.put(f"{prefix}/manifest.json", manifest.model_dump_json().encode(), _JSON),
        )
