"""Makes the recording of a closed part: WAV, waveform, manifest, upload, `recording.ready`, `recorded`.

Each step gives the same result when it is done again, so a crash between any two needs no clean-up: the part is
found in the spool and everything is done once more. It runs in threads of its own; a store that is away holds up
recordings, never audio.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.recorder.journal import PartId
from pipelines.recorder.metrics import RecorderMetrics
from pipelines.recorder.recording import Recording, make
from pipelines.recorder.spool import JOURNAL
from redpanda.client import EventProducer, EventTooLargeError, LogUnavailableError
from schemas.artifacts import recording_prefix
from schemas.events import RecordingReady
from schemas.media import MediaRecord, RecordType
from schemas.topics import Topic
from sinks.object_store import ObjectStore, ObjectStoreError

log = logging.getLogger(__name__)

_JSON = "application/json"
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0


@dataclass(slots=True)
class _Job:
    identity: PartId
    directory: Path
    delay_s: float  # before the next attempt


class RecordingFinalizer:
    """Threads that finish parts. Thread-safe. A part that fails waits aside, and holds up no other.

    tell: puts a record on a partition of call.media.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        events: EventProducer,
        tell: Callable[[MediaRecord, int], None],
        workers: int,
        metrics: RecorderMetrics | None = None,
    ) -> None:
        self._store = store
        self._events = events
        self._tell = tell
        self._metrics = metrics or RecorderMetrics("recorder")
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, _Job]] = []  # a heap by time.monotonic()
        self._pushed = 0
        self._wanted: set[PartId] = set()
        self._begun: set[PartId] = set()  # in the heap or under way, wanted or not: never twice in one directory
        self._stopping = False
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
        with self._changed:
            self._wanted.add(identity)
            if identity not in self._begun:
                self._begun.add(identity)
                self._push(_Job(identity, directory, _FIRST_DELAY_S), 0)

    def on_revoked(self, partition: int) -> None:
        """The partition's calls are somebody else's now. What is just being uploaded goes on: it is the same."""
        with self._changed:
            self._wanted = {identity for identity in self._wanted if identity.partition != partition}

    @property
    def unfinished(self) -> int:
        """How many parts are to be finished."""
        return len(self._wanted)

    def busy(self, identity: PartId) -> bool:
        """Whether the part's files are in use, or will be."""
        with self._changed:
            return identity in self._begun

    def stop(self, timeout_s: float = 1.0) -> None:
        """Gives what is under way a moment. What is not done by then is done after the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _push(self, job: _Job, delay_s: float) -> None:
        self._pushed += 1  # ties must not compare jobs
        heapq.heappush(self._due, (time.monotonic() + delay_s, self._pushed, job))
        self._changed.notify()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            done = self._attempt(job)
            with self._changed:
                if done:
                    self._wanted.discard(job.identity)
                    self._begun.discard(job.identity)
                else:
                    self._push(job, job.delay_s)
                    job.delay_s = min(job.delay_s * 2, _LONGEST_DELAY_S)

    def _next(self) -> _Job | None:
        """Waits for a job that is due and still wanted."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                if not self._due or self._due[0][0] > now:
                    self._changed.wait(self._due[0][0] - now if self._due else None)
                    continue
                job = heapq.heappop(self._due)[2]
                if job.identity in self._wanted:
                    return job
                self._begun.discard(job.identity)
        return None

    def _attempt(self, job: _Job) -> bool:
        """Whether there is nothing more to do."""
        identity, directory = job.identity, job.directory
        try:
            self._finish(identity, directory)
        except (ObjectStoreError, LogUnavailableError, EventTooLargeError, OSError) as error:
            if not (directory / JOURNAL).exists():
                return True  # released meanwhile: an earlier attempt had got through
            log.error(
                "call %s part %d: %s. The audio is kept in %s; trying again in %g s",
                identity.call_id, identity.part, error, directory, job.delay_s,
            )  # fmt: skip
        except Exception:
            # A recording that cannot be made must not stop the others; its audio stays where it is.
            log.exception(
                "call %s part %d cannot be recorded; the audio is kept in %s; trying again in %g s",
                identity.call_id, identity.part, directory, job.delay_s,
            )  # fmt: skip
        else:
            return True
        self._metrics.finish_failures.inc()
        _make_room(directory)
        return False

    def _finish(self, identity: PartId, directory: Path) -> None:
        recording = make(identity, directory)
        event = upload(self._store, recording)
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
        self._metrics.recorded(event, recording.manifest.tracks)
        log.info(
            "call %s part %d recorded: %.1f s, %s",
            identity.call_id,
            identity.part,
            event.duration_ms / 1000,
            ", ".join(
                f"{track.name} {track.audio_ms / 1000:.1f} s in {len(track.gaps)} gaps"
                for track in recording.manifest.tracks
            )
            or "no audio",
        )


def upload(store: ObjectStore, recording: Recording) -> RecordingReady:
    """Stores a recording's files, verified, and returns the event that tells of them. Raises ObjectStoreError."""
    manifest = recording.manifest
    prefix = recording_prefix(manifest.tenant, manifest.call_id, manifest.part)
    return recording.event(
        audio=store.put_file(f"{prefix}/audio.wav", recording.audio, "audio/wav", manifest.audio_sha256),
        peaks=store.put(f"{prefix}/peaks.json", recording.peaks.model_dump_json().encode(), _JSON),
        manifest=store.put(f"{prefix}/manifest.json", manifest.model_dump_json().encode(), _JSON),
    )


def _make_room(directory: Path) -> None:
    """Deletes what is made anew with the next attempt: the disk may be what it failed for."""
    with suppress(OSError):  # it may just have been released
        for path in directory.iterdir():
            if path.name != JOURNAL:
                path.unlink()
