"""Recorder in its own process, which can be killed, with its log and its object storage."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from confluent_kafka import Consumer, Producer, TopicPartition

from redpanda import topics
from redpanda.client import connection_config
from schemas.events import RecordingReady, parse_event
from schemas.media import MediaRecord, RecordType, from_headers, to_headers
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.conftest import kafka_settings, s3_settings
from tests.support import log_variables
from tests.support.kafka_backend import KafkaNodes, plain_producer_config
from tests.support.running_server import RunningServer
from tests.support.waiting import wait_for

T = TypeVar("T")

_MAIN = """
import logging, os, sys
from core.settings import load
from pipelines.recorder.app import run
from pipelines.recorder.state_expiry import StateReaper
from pipelines.recorder.partition_listener import PartitionedApplication
from redpanda import client
if len(sys.argv) > 1:
    StateReaper.__init__.__kwdefaults__.update(after_s=0, every_s=0.2)
    PartitionedApplication.first_offset = lambda *_: int(sys.argv[1])
client.METADATA_REFRESH_S = int(os.environ.get("METADATA_S", client.METADATA_REFRESH_S))
logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s")
run(load())
"""


@dataclass
class Bench:
    """One log, one object storage, one data directory, and a recorder that starts and stops."""

    log: RunningServer
    objects: RunningServer
    data_dir: Path
    idle_timeout_ms: int = 120_000
    instance_id: str | None = "1"  # None: a member that is replaced when it is gone, which the embedded log never does
    commit_interval_s: float = 0.5
    supervised: bool = False  # whether it is started again when it has ended, as the stack does
    forget_before: int | None = None  # finished calls are forgotten as if the log began at this offset, without delay
    metadata_s: int | None = None  # how soon it notices new partitions
    running: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.kafka = self.log.settings if isinstance(self.log, KafkaNodes) else kafka_settings(self.log)
        self.s3 = s3_settings(self.objects)
        topics.apply(self.kafka, embedded=True)
        self.store = ObjectStore(self.s3)
        self.store.ensure_bucket()
        self.producer = Producer(plain_producer_config(self.kafka))

    @property
    def output(self) -> Path:
        return self.data_dir / "recorder.log"

    @property
    def spool(self) -> Path:
        return self.data_dir / "recorder" / "spool"

    def start(self) -> None:
        assert self.s3.secret_key is not None
        variables = {
            "AUDIOTEXT_DATA_DIR": str(self.data_dir),
            **log_variables.to_variables(self.kafka),
            "AUDIOTEXT_S3__ENDPOINT": self.s3.endpoint or "",
            "AUDIOTEXT_S3__ACCESS_KEY": self.s3.access_key or "",
            "AUDIOTEXT_S3__SECRET_KEY": self.s3.secret_key.get_secret_value(),
            "AUDIOTEXT_S3__BUCKET": self.s3.bucket,
            **({"AUDIOTEXT_S3__CA_FILE": str(self.s3.ca_file)} if self.s3.ca_file else {}),
            "AUDIOTEXT_RECORDER__IDLE_TIMEOUT_MS": str(self.idle_timeout_ms),
            "AUDIOTEXT_RECORDER__COMMIT_INTERVAL_S": str(self.commit_interval_s),
            "AUDIOTEXT_KAFKA__SESSION_TIMEOUT_MS": "6000",
        }
        if self.metadata_s is not None:
            variables["METADATA_S"] = str(self.metadata_s)
        if self.instance_id is not None:
            variables["AUDIOTEXT_KAFKA__INSTANCE_ID"] = self.instance_id
        with self.output.open("ab") as output:
            self.running = subprocess.Popen(
                [sys.executable, "-c", _MAIN, *([] if self.forget_before is None else [str(self.forget_before)])],
                env=os.environ | variables,
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        """Sends SIGKILL, like a crash."""
        assert self.running is not None
        self.running.kill()
        self.running.wait()

    def pause(self) -> None:
        """Sends SIGSTOP: it keeps its connections and does not answer."""
        assert self.running is not None
        self.running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Sends SIGCONT, after `pause`."""
        assert self.running is not None
        self.running.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        assert self.running is not None
        self.running.terminate()
        return self.running.wait(30)

    def send(self, records: Iterable[MediaRecord], partition: int = 0) -> None:
        """Puts records on call.media and returns when the log has them."""
        for record in records:
            self.producer.produce(
                Topic.CALL_MEDIA,
                key=record.call_id,
                value=record.payload,
                headers=to_headers(record),
                partition=partition,
            )
        assert self.producer.flush(10) == 0

    def lag(self, partition: int) -> int:
        """Returns the number of records of call.media's partition that the recorder has not committed."""
        place = TopicPartition(Topic.CALL_MEDIA, partition)
        reader = Consumer(connection_config(self.kafka) | {"group.id": "recorder", "enable.auto.commit": False})
        try:
            (committed,) = reader.committed([place], timeout=10)
            end: int = reader.get_watermark_offsets(place, timeout=10)[1]
            done: int = max(committed.offset, 0)
            return end - done
        finally:
            reader.close()

    def end(self, partition: int) -> int:
        """Returns the offset of the next record in call.media's partition."""
        reader = Consumer(connection_config(self.kafka) | {"group.id": "look"})
        try:
            end: int = reader.get_watermark_offsets(TopicPartition(Topic.CALL_MEDIA, partition), timeout=10)[1]
            return end
        finally:
            reader.close()

    def recordings(self, call_id: str) -> list[RecordingReady]:
        """Returns all recording.ready events of the call on the log, with repetitions."""
        return [event for event in self.all_recordings() if event.call_id == call_id]

    def all_recordings(self) -> list[RecordingReady]:
        """Returns all recording.ready events on the log, with repetitions."""
        events = [parse_event(value) for _, _, value in self._all(Topic.RECORDING_READY)]
        return [event for event in events if isinstance(event, RecordingReady)]

    def media(self, call_id: str, kind: RecordType) -> list[MediaRecord]:
        """Returns the records of the call of one type on call.media."""
        records = [
            from_headers(key, headers, value) for key, headers, value in self._all(Topic.CALL_MEDIA) if key == call_id
        ]
        return [record for record in records if record.type is kind]

    def recorded(self, call_id: str, parts: int = 1, timeout_s: float = 60) -> list[RecordingReady]:
        """Waits for that many parts of the call and returns one event per part."""

        def look() -> list[RecordingReady] | None:
            if self.supervised and self.running is not None and self.running.poll() is not None:
                self.start()
            assert self.running is None or self.running.poll() in (None, 0, -9), "the recorder has died"
            events = {event.event_id: event for event in self.recordings(call_id)}
            found = sorted(events.values(), key=lambda event: event.part)
            return found if len({event.part for event in found}) >= parts else None

        try:
            return wait_for(look, f"{parts} recordings of {call_id}", timeout_s)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.output.read_text()[-3000:]}") from None

    def wav(self, event: RecordingReady) -> bytes:
        return self.store.get_verified(event.audio)

    def _all(self, topic: Topic) -> list[tuple[str, list[tuple[str, bytes]], bytes]]:
        reader = Consumer(connection_config(self.kafka) | {"group.id": "look", "enable.auto.commit": False})
        found = []
        try:
            places = [
                TopicPartition(topic, one) for one in reader.list_topics(topic, timeout=10).topics[topic].partitions
            ]
            # All ends first: later each question would wait for the fetch that is under way.
            bounds = [reader.get_watermark_offsets(place, timeout=10) for place in places]
            for place, (low, high) in zip(places, bounds, strict=True):
                at = low
                if at < high:
                    reader.assign([TopicPartition(topic, place.partition, low)])
                while at < high:
                    message = reader.poll(10)
                    assert message is not None
                    assert message.error() is None
                    at = message.offset() + 1
                    key = (message.key() or b"").decode(errors="replace")
                    found.append((key, message.headers() or [], message.value() or b""))
        finally:
            reader.close()
        return found
