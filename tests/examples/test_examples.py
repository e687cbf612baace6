"""The programs strangers are shown: run as they are, on a real log, with nothing of ours but the published schemas."""

import ast
import json
import os
import subprocess
import sys
import uuid
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer

from core.audio.g711 import encode_ulaw
from core.settings import KafkaSettings, S3Settings
from redpanda.client import EventProducer
from schemas.media import to_headers
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.support.demo_calls import demo_call
from tests.support.kafka_backend import plain_producer_config
from tests.support.media_records import Call, stereo
from tests.support.pipeline_events import said, transcribed

EXAMPLES = Path(__file__).parents[2] / "examples"
OURS = {"audiotext", "bench", "gateway", "pipelines", "redpanda", "sinks", "tests"}


def login(kafka: KafkaSettings) -> dict[str, str]:
    """Variables with the credentials of the log."""
    assert kafka.sasl_password is not None
    return {"KAFKA_USERNAME": kafka.sasl_username or "", "KAFKA_PASSWORD": kafka.sasl_password.get_secret_value()}


def run(name: str, *arguments: str, **variables: str) -> str:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_needs_nothing_of_ours(path: Path) -> None:
    """Reads what each example imports: nothing of this project, or it would show only that our code reads our code."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & OURS


def test_a_wav_is_written_from_the_log(kafka: KafkaSettings, tmp_path: Path) -> None:
    """Puts two seconds of a real call on the log as a gateway does, one record of it twice, lets the consumer write its
    WAV, and compares: the same samples. If not, docs/topics.md tells something wrong about call.media."""
    spoken = demo_call("clinic_reschedule").samples[8000:24000]
    tracks = {name: encode_ulaw(spoken[:, channel]) for channel, name in enumerate(("inbound", "outbound"))}
    source = Call(f"CA{uuid.uuid4().hex}", tracks)
    producer = Producer(plain_producer_config(kafka))
    lying = source.records()
    for record in [*lying[:4], lying[2], *lying[4:]]:
        producer.produce(Topic.CALL_MEDIA, record.payload, record.call_id, headers=to_headers(record))
    assert producer.flush(30) == 0

    printed = run(
        "wav_from_media.py",
        *("--log", kafka.bootstrap_servers or "", source.call_id, str(tmp_path / "a.wav")),
        **login(kafka),
    )

    assert printed.startswith("2.0 s")
    with wave.open(str(tmp_path / "a.wav")) as wav:
        got = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)
    assert np.array_equal(got, stereo(list(source.tracks.values())))


def test_words_are_counted_per_speaker(kafka: KafkaSettings, s3: S3Settings) -> None:
    """Announces the transcripts of two calls, one of them twice, and what is no event; the app, of a group that was
    never there, counts from the start: each word once."""
    objects, tenant = ObjectStore(s3), f"words-{uuid.uuid4().hex}"
    turns = [turn.text for turn in demo_call("clinic_reschedule").turns]
    calls = [said(f"{tenant}-{number}", *turns[number:]) for number in range(2)]
    events = [transcribed(objects, call, tenant=tenant) for call in calls]
    producer = EventProducer(kafka)
    producer.send(Topic.TRANSCRIPT_READY, [*events, events[0]])
    producer.close()
    nonsense = Producer(plain_producer_config(kafka))
    nonsense.produce(Topic.TRANSCRIPT_READY, b'{"type": "transcript.ready"}', events[0].call_id)
    assert nonsense.flush(30) == 0
    assert s3.secret_key is not None

    printed = run(
        "words_per_speaker.py",
        *("--log", kafka.bootstrap_servers or "", "--store", s3.endpoint or "", "--bucket", s3.bucket),
        *("--tenant", tenant, "--group", tenant, "--idle", "2"),
        AWS_ACCESS_KEY_ID=s3.access_key or "",
        AWS_SECRET_ACCESS_KEY=s3.secret_key.get_secret_value(),
        **login(kafka),
        SSL_CERT_FILE=str(s3.ca_file or ""),
    )

    expected: Counter[str] = Counter()
    for call in calls:
        for segment in call.segments:
            expected[segment.speaker] += len(segment.text.split())
    assert json.loads(printed.splitlines()[-1]) == expected
    assert "skipped" in printed
