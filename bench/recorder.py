"""Speed of recording two-track calls on one core, as a multiple of real time.

"Rendering alone" is from the journal to the WAV file. "Log to recording" is the whole work of a recorder process, from
records on the log to recordings in the store: Quix, state with changelog, journal, fsync, rendering, upload and event.
Figures are seconds of call per second of CPU, with all threads of the process.

    python -m bench.recorder
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer

from audiotext.embedded import log as embedded_log
from audiotext.embedded import objects as embedded_objects
from audiotext.embedded.server import wait_until_ready
from audiotext.embedded.state import State
from bench.running import kafka_settings
from core import process
from core.settings import KafkaSettings
from pipelines.recorder.journal import PartId
from pipelines.recorder.recording import make_recording
from pipelines.recorder.spool import Spool
from redpanda import topics
from redpanda.client import consumer_config, producer_config
from schemas.media import CloseReason, EosReason, MediaRecord, RecordType, to_headers
from schemas.topics import Topic

LONG_CALL_S = 1800  # for rendering
CALLS, CALL_S = 40, 60  # from log to recording; 40 MB, which fit into the embedded log
RUN_MS = 500
TIMEOUT_S = 120
BUCKET = "audiotext"

Row = tuple[str, str, str]
"""The measured thing, the figure, and the value to compare it with."""


def rows() -> list[Row]:
    """Runs the benchmark (about 20 s) and returns its rows."""
    with tempfile.TemporaryDirectory() as directory:
        rendering, peak_mb = _rendering(Path(directory))
        full = _log_to_recording(Path(directory))
    return [
        ("recorder: rendering alone", f"{rendering:,.0f} x real time", f"{LONG_CALL_S // 60} minutes, {peak_mb} MB"),
        ("recorder: log to recording", f"{full:,.0f} x real time", f"{CALLS} calls at once, per core"),
    ]


def call(call_id: str, seconds: int) -> Iterator[MediaRecord]:
    """Yields the records of a call with two tracks and a normal end."""

    def record(kind: RecordType, at_ms: int, **fields: object) -> MediaRecord:
        return MediaRecord(kind, call_id, "bench", "twilio", "MZ1", at_ms, **fields)  # type: ignore[arg-type]

    yield record(RecordType.START, 0, payload=b'{"tracks": ["inbound", "outbound"]}')
    payload = bytes(range(256)) * (RUN_MS * 8 // 256 + 1)
    for ts_ms in range(0, seconds * 1000, RUN_MS):
        for track in ("inbound", "outbound"):
            yield record(
                RecordType.MEDIA,
                ts_ms,
                track=track,
                ts_ms=ts_ms,
                frames=RUN_MS // 20,
                payload=payload[: RUN_MS * 8],
            )
    yield record(RecordType.EOS, seconds * 1000, detail=EosReason.CARRIER_STOP)


def _rendering(directory: Path) -> tuple[float, int]:
    """Returns the multiple of real time, and the peak memory of this process (MB)."""
    spool, part = Spool(directory / "spool"), PartId("bench", "long", 1, 0)
    offset = 0
    for offset, record in enumerate(call("long", LONG_CALL_S)):
        spool.append(part, record, offset)
        spool.flush()
    close = MediaRecord(RecordType.CLOSE, "long", "bench", "twilio", "", 0, detail=CloseReason.ENDED, part=1)
    spool.append(part, close, offset + 1)
    spool.flush()
    before = time.process_time()
    make_recording(part, spool.directory_of(part))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return LONG_CALL_S / (time.process_time() - before), peak_kb // 1024


def _log_to_recording(directory: Path) -> float:
    with ExitStack() as stack:
        variables = stack.enter_context(servers(directory))
        kafka = kafka_settings(variables)
        topics.apply(kafka, embedded=True)
        recorder = stack.enter_context(process_of(variables | {"AUDIOTEXT_DATA_DIR": str(directory)}))
        return times_real_time(kafka, recorder)


def times_real_time(kafka: KafkaSettings, recorder: int) -> float:
    """Plays calls into the log and returns the recorder's speed as a multiple of real time. recorder: process id."""
    ready, producer = Consumer(consumer_config(kafka, "bench")), Producer(producer_config(kafka))
    ready.subscribe([Topic.RECORDING_READY])
    # The first call waits until everything has started, which is not part of the measurement.
    produce(producer, [list(call("first", 1))])
    _until_recorded(ready, 1)
    before = _cpu_s(recorder)
    produce(producer, [list(call(f"call-{number}", CALL_S)) for number in range(CALLS)])
    _until_recorded(ready, CALLS)
    ready.close()
    return CALLS * CALL_S / (_cpu_s(recorder) - before)


def produce(producer: Producer, calls: list[list[MediaRecord]]) -> None:
    """Writes the calls to the log, interleaved as parallel calls are."""
    for record in (record for records in zip(*calls, strict=True) for record in records):
        producer.produce(Topic.CALL_MEDIA, key=record.call_id, value=record.payload, headers=to_headers(record))
        producer.poll(0)
    producer.flush(TIMEOUT_S)


def _until_recorded(ready: Consumer, calls: int) -> None:
    seen: set[bytes] = set()
    deadline = time.monotonic() + TIMEOUT_S
    while len(seen) < calls:
        message = ready.poll(0.5)
        if message is not None and message.error() is None:
            seen.add(message.key())
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(seen)} of {calls} calls were recorded within {TIMEOUT_S} s")


def _cpu_s(pid: int) -> float:
    """Returns the user and system time of a process and all its threads so far (s)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """Starts an embedded log and store. Yields the variables with their addresses for the recorder."""
    with ExitStack() as stack:
        state = State(directory)
        variables = {"AUDIOTEXT_S3__BUCKET": BUCKET}
        for server in (*embedded_log.servers(state), embedded_objects.server(state, BUCKET)):
            output = stack.enter_context((directory / f"{server.name}.log").open("wb"))
            running = process.spawn(
                server.command,
                env=os.environ | dict(server.env),
                output=output,
                cwd=server.cwd,
                keep_open=server.keep_open,
            )
            stack.callback(process.end, running, 10)
            wait_until_ready(server, 30)
            variables.update(server.addresses)
        yield variables


@contextmanager
def process_of(variables: dict[str, str]) -> Iterator[int]:
    """Starts a recorder. Yields its process id."""
    run = "from core.settings import load; from pipelines.recorder.app import run; run(load())"
    running = subprocess.Popen([sys.executable, "-c", run], env=os.environ | variables)
    try:
        yield running.pid
    finally:
        running.terminate()
        running.wait(10)


if __name__ == "__main__":
    for what, figure, beside in rows():
        print(f"| {what} | {figure} | {beside} |")
