"""Makes the recording of a closed part: WAV, waveform, manifest, upload, `recording.ready`, `recorded`.

Each step gives the same result when it is repeated, so a crash between two steps needs no clean-up: the part is still
in the spool, and all steps run again. The finalizer has its own threads, so an unavailable store delays recordings and
never audio. A recording that cannot be made or stored becomes a dead letter. Its audio stays in the spool, and the
recorder tries again at its next start and when the dead letter is replayed.
"""

import heapq
import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.recorder.journal import PartId
from pipelines.recorder.metrics import RecorderMetrics
from pipelines.recorder.recording import Recording, make_recording
from pipelines.recorder.spool import JOURNAL
from pipelines.stages import RECORDER
from redpanda.client import EventProducer, EventTooLargeError, LogUnavailableError
from schemas.artifacts import recording_prefix
from schemas.events import RecordingReady, StageFailed
from schemas.ids import uuid_of
from schemas.media import MediaRecord, RecordType
from schemas.topics import Topic
from sinks.object_store import ObjectRefusedError, ObjectStore, ObjectStoreError

logger = logging.getLogger(__name__)

_JSON = "application/json"
_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 60.0
_MAX_DEFECTS = 5  # attempts that end with an unexpected error, before the part becomes a dead letter


@dataclass(slots=True)
class _Job:
    identity: PartId
    directory: Path
    offset: int  # of the record that requests the recording
    delay_s: float  # before the next attempt
    attempts: int = 0
    defects: int = 0  # attempts that ended with an unexpected error


class RecordingFinalizer:
    """Threads that make the recordings of closed parts. Thread-safe. A failed part waits without delaying others."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        events: EventProducer,
        put_record: Callable[[MediaRecord, int], None],
        workers: int,
        metrics: RecorderMetrics | None = None,
    ) -> None:
        """Creates the threads without starting them.

        Args:
            store: Object storage.
            events: Producer for `recording.ready`.
            put_record: Writes a record to a partition of call.media.
            workers: Number of threads.
            metrics: Metrics of the recorder.
        """
        self._store = store
        self._events = events
        self._put_record = put_record
        self._metrics = metrics or RecorderMetrics("recorder")
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, _Job]] = []  # a heap by time.monotonic()
        self._pushed = 0
        self._owned: set[PartId] = set()
        # In the heap or in progress, owned or not, so that two threads never work in one directory.
        self._queued: set[PartId] = set()
        self._stopping = False
        # Daemon threads, because the end of the process may interrupt an upload anywhere.
        self._threads = [
            threading.Thread(target=self._work, name=f"finalizer-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, identity: PartId, directory: Path, offset: int) -> None:
        """Queues the closed part whose journal is in the directory, unless it is queued.

        offset: of the record on call.media that requests the recording.
        """
        with self._changed:
            self._owned.add(identity)
            if identity not in self._queued:
                self._queued.add(identity)
                self._push(_Job(identity, directory, offset, _FIRST_DELAY_S), 0)

    def on_revoked(self, partition: int) -> None:
        """Drops the parts of a revoked partition. An upload in progress continues: the new owner makes the same one."""
        with self._changed:
            self._owned = {identity for identity in self._owned if identity.partition != partition}

    @property
    def unfinished(self) -> int:
        """Number of parts that wait for their recording."""
        return len(self._owned)

    def is_busy(self, identity: PartId) -> bool:
        """True if the part's files are in use, or will be."""
        with self._changed:
            return identity in self._queued

    def stop(self, timeout_s: float = 1.0) -> None:
        """Waits up to `timeout_s` for the parts in progress. The next start makes the other recordings."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _push(self, job: _Job, delay_s: float) -> None:
        self._pushed += 1  # a unique number, because the heap cannot compare jobs
        heapq.heappush(self._due, (time.monotonic() + delay_s, self._pushed, job))
        self._changed.notify()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            done = self._attempt(job)
            with self._changed:
                if done:
                    self._owned.discard(job.identity)
                    self._queued.discard(job.identity)
                else:
                    self._push(job, job.delay_s)
                    job.delay_s = min(job.delay_s * 2, _MAX_DELAY_S)

    def _next(self) -> _Job | None:
        """Waits for a job that is due and whose partition is still owned. Returns None when stopping."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                if not self._due or self._due[0][0] > now:
                    self._changed.wait(self._due[0][0] - now if self._due else None)
                    continue
                job = heapq.heappop(self._due)[2]
                if job.identity in self._owned:
                    return job
                self._queued.discard(job.identity)
        return None

    def _attempt(self, job: _Job) -> bool:
        """Makes a recording. Returns False if it must be tried again."""
        identity, directory = job.identity, job.directory
        job.attempts += 1
        try:
            self._finish(identity, directory)
        except (ObjectRefusedError, EventTooLargeError) as error:
            if self._give_up(job, error):
                return True
        except (ObjectStoreError, LogUnavailableError, OSError) as error:
            if not (directory / JOURNAL).exists():
                return True  # released meanwhile, so an earlier attempt succeeded
            logger.error(
                "call %s part %d: %s. The audio stays in %s; retrying in %g s",
                identity.call_id, identity.part, error, directory, job.delay_s,
            )  # fmt: skip
        except Exception as error:
            # A defect in one recording must not stop the others. Its audio stays in the spool.
            job.defects += 1
            if job.defects >= _MAX_DEFECTS and self._give_up(job, error):
                return True
            logger.exception(
                "call %s part %d: making the recording failed. The audio stays in %s; retrying in %g s",
                identity.call_id, identity.part, directory, job.delay_s,
            )  # fmt: skip
        else:
            return True
        self._metrics.finish_failures.inc()
        _delete_outputs(directory)
        return False

    def _give_up(self, job: _Job, error: Exception) -> bool:
        """Writes the dead letter of a part. Returns False if the log does not take it."""
        identity = job.identity
        letter = StageFailed(
            event_id=uuid_of("dead-letter", RECORDER.group, Topic.CALL_MEDIA, identity.partition, job.offset),
            call_id=identity.call_id,
            tenant=identity.tenant,
            part=identity.part,
            occurred_at_ms=time.time_ns() // 1_000_000,
            stage=RECORDER.group,
            error_class="permanent",
            error=f"{type(error).__name__}: {error}. The audio stays in the recorder's spool",
            attempts=job.attempts,
            origin_topic=Topic.CALL_MEDIA,
            origin_partition=identity.partition,
            origin_offset=job.offset,
            payload=json.dumps({"tenant": identity.tenant, "call_id": identity.call_id, "part": identity.part}),
        )
        try:
            self._events.send(Topic.DEAD_LETTERS, [letter])
        except LogUnavailableError:
            return False
        self._metrics.record_dead_letter("permanent")
        self._metrics.finish_failures.inc()
        _delete_outputs(job.directory)
        logger.error(
            "call %s part %d: the recording cannot be stored: %s. The audio stays in %s; when the cause is removed, "
            "replay the dead letter (`audiotext dlq replay`)",
            identity.call_id, identity.part, error, job.directory, exc_info=error,
        )  # fmt: skip
        return True

    def _finish(self, identity: PartId, directory: Path) -> None:
        recording = make_recording(identity, directory)
        event = upload(self._store, recording)
        self._events.send(Topic.RECORDING_READY, [event])
        self._put_record(
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
        logger.info(
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
    """Uploads and verifies the files of a recording, and returns the event that announces them.

    Raises:
        ObjectStoreError: Object storage is unavailable or does not accept a file.
    """
    manifest = recording.manifest
    prefix = recording_prefix(manifest.tenant, manifest.call_id, manifest.part)
    return recording.event(
        audio=store.put_file(f"{prefix}/audio.wav", recording.audio, "audio/wav", manifest.audio_sha256),
        peaks=store.put(f"{prefix}/peaks.json", recording.peaks.model_dump_json().encode(), _JSON),
        manifest=store.put(f"{prefix}/manifest.json", manifest.model_dump_json().encode(), _JSON),
    )


def _delete_outputs(directory: Path) -> None:
    """Deletes the files that the next attempt makes again: a full disk may have caused the failure."""
    with suppress(OSError):  # the part may have been released meanwhile
        for path in directory.iterdir():
            if path.name != JOURNAL:
                path.unlink()
