"""Recordings made again from the log: the same to the byte, or said to be impossible."""

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Producer

from core.settings import KafkaSettings, S3Settings
from pipelines.recorder.finalizer import upload
from pipelines.recorder.journal import PartId
from pipelines.recorder.media_topic import read_calls
from pipelines.recorder.recording import make_recording
from pipelines.recorder.spool import Spool
from pipelines.replay.rerecord import RecordingRebuilder
from schemas.artifacts import Manifest
from schemas.events import RecordingReady
from schemas.media import CloseReason, MediaRecord, RecordType, to_headers
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.support.ids import new_call
from tests.support.kafka_backend import plain_producer_config
from tests.support.media_records import Call, call

Recorded = tuple[RecordingReady, Manifest]


@pytest.fixture
def rebuilder(kafka: KafkaSettings, s3: S3Settings, tmp_path: Path) -> RecordingRebuilder:
    """Over the shared log and store."""
    return RecordingRebuilder(kafka, ObjectStore(s3), tmp_path / "rebuilt", partial(read_calls, kafka))


@pytest.fixture
def recorded(kafka: KafkaSettings, s3: S3Settings, tmp_path: Path) -> Recorded:
    """A call's second part as the recorder made it: closed by the clock, with holes and something told twice; beside
    another call, a decision that came too late, and a note about the first part."""
    mine, other = call(new_call(), 3_000, seed=5), call(new_call(), 1_000)
    runs = mine.media(holes=[(500, 1_000)])
    told = [mine.start(), *runs[:6], runs[3], *other.records(), *runs[6:]]
    late = decision(mine, RecordType.CLOSE, seen=0, part=2, detail=CloseReason.IDLE)
    told[4:4] = [late, decision(mine, RecordType.RECORDED, part=1)]
    offsets = on_the_log(kafka, [*told, decision(mine, RecordType.CLOSE, part=2, detail=CloseReason.IDLE)])
    close = decision(mine, RecordType.CLOSE, part=2, detail=CloseReason.IDLE)
    spool, identity = Spool(tmp_path / "spool"), PartId(mine.tenant, mine.call_id, 2, 0)
    for record, offset in zip([*told, close], offsets, strict=True):
        if record.call_id == mine.call_id and (record.type not in (RecordType.CLOSE, RecordType.RECORDED)):
            spool.append(identity, record, offset)
    spool.append(identity, close, offsets[-1])
    spool.flush()
    made = make_recording(identity, spool.directory_of(identity))
    return upload(ObjectStore(s3), made), made.manifest


def decision(of: Call, kind: RecordType, **fields: object) -> MediaRecord:
    """A record of the recorder's own about the call."""
    return replace(of.record(kind, **fields), stream_id="", at_ms=of.at_ms + 60_000)


def on_the_log(kafka: KafkaSettings, records: list[MediaRecord]) -> list[int]:
    """Puts the records on one partition, and returns where they stand there."""
    offsets: list[int] = []
    producer = Producer(plain_producer_config(kafka))
    for record in records:
        producer.produce(
            Topic.CALL_MEDIA,
            key=record.call_id,
            value=record.payload,
            headers=to_headers(record),
            partition=0,
            on_delivery=lambda _error, message: offsets.append(message.offset() or 0),
        )
    assert producer.flush(20) == 0
    return offsets


def test_the_same_to_the_byte(rebuilder: RecordingRebuilder, recorded: Recorded) -> None:
    """What does this test do? Makes a part's recording again from the log alone and compares SHA-256 digests.

    If it failed, a replay from the audio would give other recordings than the ones people have heard.
    """
    found = rebuilder.rebuild({"part": recorded}, threading.Event())
    assert (found["part"].same, found["part"].note) == (True, "")


def test_what_the_store_lost_is_stored_again(rebuilder: RecordingRebuilder, recorded: Recorded, s3: S3Settings) -> None:
    """The WAV is gone from the store: it is there again afterwards, with the digest its event names."""
    recording, _ = recorded
    store = ObjectStore(s3)
    store.remove(recording.audio.key)

    found = rebuilder.rebuild({"part": recorded}, threading.Event())

    assert "stored again" in found["part"].note
    assert store.get_verified(recording.audio)


def test_another_recording_is_not_put_in_its_place(rebuilder: RecordingRebuilder, recorded: Recorded) -> None:
    """The stored recording is not what the log gives: that is told, and nothing is overwritten. If it failed, a replay
    could quietly change what was recorded."""
    recording, manifest = recorded
    stored = recording.model_copy(update={"audio": recording.audio.model_copy(update={"sha256": "0" * 64})})

    found = rebuilder.rebuild({"part": (stored, manifest)}, threading.Event())

    assert found["part"].same is False
    assert recording.audio.sha256 in found["part"].note


@pytest.mark.parametrize("change", [{"first_offset": -1}, {"close_offset": 10**9}])
def test_audio_the_log_does_not_have(rebuilder: RecordingRebuilder, recorded: Recorded, change: dict[str, int]) -> None:
    """The part's records lie before the log's beginning, since retention took them, or beyond its end, since it is
    another log. That must be said, and not be taken for a recording with gaps."""
    recording, manifest = recorded

    found = rebuilder.rebuild({"part": (recording, manifest.model_copy(update=change))}, threading.Event())

    assert found["part"].same is None
    assert "no longer has the audio" in found["part"].note
