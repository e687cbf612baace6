"""Rebuilds recordings from the log with the recorder's own code and compares them with the stored recordings.

The manifest of a part has the offsets of its first record and of the record that closed it. The recorder's time-based
decisions are records between them, so no decision is made again.
"""

import logging
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from core.settings import KafkaSettings
from pipelines.recorder.finalizer import upload
from pipelines.recorder.journal import PartId
from pipelines.recorder.journal_rebuild import ReadLog, rebuild_journals
from pipelines.recorder.recording import Recording, make_recording
from pipelines.recorder.spool import directory_of
from pipelines.recorder.state_machine import UnrecordedPart
from redpanda.client import LogUnavailableError, connection_config
from schemas.artifacts import Manifest
from schemas.events import RecordingReady
from schemas.topics import Topic
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """Result of rebuilding a part.

    same: True if the rebuilt recording is byte-identical with the stored one; None if the log no longer has the audio.
    note: remark for the replay's outcome.
    """

    same: bool | None
    note: str = ""


class RecordingRebuilder:
    """Rebuilds recordings. It owns `directory` and deletes what a killed process left there."""

    def __init__(self, kafka: KafkaSettings, objects: ObjectStore, directory: Path, read_log: ReadLog) -> None:
        self._kafka = kafka
        self._objects = objects
        self._directory = directory
        self._read_log = read_log
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)

    def rebuild(
        self, parts: Mapping[str, tuple[RecordingReady, Manifest]], cancelled: threading.Event
    ) -> dict[str, RebuildResult]:
        """Rebuilds these recordings, all of one partition, and returns the result of each by its key.

        Stores a recording again if the store has lost it. Raises SpoolError, LogUnavailableError, ObjectStoreError.
        """
        partition = next(iter(parts.values()))[1].partition
        low, high = self._bounds(partition)
        found: dict[str, RebuildResult] = {}
        wanted: dict[str, PartId] = {}
        for key, (recording, manifest) in parts.items():
            if manifest.first_offset < low or manifest.close_offset >= high:
                found[key] = RebuildResult(None, "the log no longer has the audio: started at the recording")
            else:
                wanted[key] = PartId(recording.tenant, recording.call_id, recording.part, partition)
        if not wanted:
            return found
        with tempfile.TemporaryDirectory(dir=self._directory) as folder:
            root = Path(folder)
            unrecorded = {
                identity: UnrecordedPart(
                    recording.part, manifest.first_offset, manifest.close_offset, closed=True, carrier=manifest.carrier
                )
                for key, identity in wanted.items()
                for recording, manifest in [parts[key]]
            }
            rebuild_journals(root, unrecorded, {}, self._read_log, cancelled)
            for key, identity in wanted.items():
                if cancelled.is_set():
                    break
                directory = directory_of(root, identity)
                found[key] = self._compare(make_recording(identity, directory), parts[key][0])
                shutil.rmtree(directory)
        return found

    def _compare(self, made: Recording, stored: RecordingReady) -> RebuildResult:
        sha256 = made.manifest.audio_sha256
        if sha256 != stored.audio.sha256:
            return RebuildResult(
                False, f"the rebuilt recording differs (SHA-256 {sha256}): the stored recording is kept"
            )
        if any(self._objects.find(ref.key) is None for ref in (stored.audio, stored.peaks, stored.manifest)):
            upload(self._objects, made)
            return RebuildResult(True, "the store had lost the recording: stored again")
        return RebuildResult(True)

    def _bounds(self, partition: int) -> tuple[int, int]:
        """Returns the lowest offset on the log, and one past the highest."""
        consumer = Consumer(connection_config(self._kafka) | {"group.id": "audiotext-scan"})
        try:
            bounds = consumer.get_watermark_offsets(TopicPartition(Topic.CALL_MEDIA, partition), timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise LogUnavailableError(f"{Topic.CALL_MEDIA}[{partition}] cannot be read: {error}") from error
        finally:
            consumer.close()
        if bounds is None:
            raise LogUnavailableError(f"the offsets of {Topic.CALL_MEDIA}[{partition}] cannot be read")
        low, high = bounds
        return low, high


def by_partition(
    parts: Sequence[tuple[RecordingReady, Manifest]],
) -> dict[int, dict[str, tuple[RecordingReady, Manifest]]]:
    """Returns the parts by the partition of their audio, each by its event's id."""
    found: dict[int, dict[str, tuple[RecordingReady, Manifest]]] = {}
    for recording, manifest in parts:
        found.setdefault(manifest.partition, {})[recording.event_id] = (recording, manifest)
    return found
