"""Writes a call's audio to a WAV file: a plain Kafka consumer that uses only AudioText's published interface.

    pip install confluent-kafka jsonschema
    python examples/wav_from_media.py --log localhost:9092 CA0123456789 call.wav

It reads `call.media` from the start. The value of a record is raw audio from the carrier, and the headers have
everything else (docs/topics.md). The caller is left, the other party right. It supports mu-law (PCMU), the usual codec
of telephones; it reports and skips audio in other codecs.
"""

import argparse
import json
import os
import wave
from array import array
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).parent.parent / "schemas" / "json" / "call.media.headers.json"
TOPIC = "call.media"
TRACKS = ("inbound", "outbound")


def linear(code: int) -> int:
    """Returns the 16-bit sample of a mu-law byte (ITU-T G.711)."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    return 0x84 - magnitude if code & 0x80 else magnitude - 0x84


LINEAR = [linear(code) for code in range(256)]


def connection(log: str) -> dict:
    """Returns librdkafka's settings for the log. User and password are in KAFKA_USERNAME and KAFKA_PASSWORD."""
    settings = {"bootstrap.servers": log}
    if "KAFKA_USERNAME" in os.environ:
        settings |= {
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": os.environ["KAFKA_USERNAME"],
            "sasl.password": os.environ["KAFKA_PASSWORD"],
        }
    return settings


def records(log: str, call_id: str):
    """Yields the headers (text) and the value of each current record of the call, in order."""
    consumer = Consumer(connection(log) | {"group.id": "wav-from-media", "enable.auto.commit": False})
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    for number in consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions:
        # The partition of a call depends on the number of partitions at its begin, so this reads all of them.
        first, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, number), timeout=10)
        if first < end:
            consumer.assign([TopicPartition(TOPIC, number, first)])
        while first < end:
            message = consumer.poll(30)
            if message is None or message.error():
                raise SystemExit(f"the log does not answer: {message and message.error()}")
            first = message.offset() + 1
            if message.key() == call_id.encode():
                headers = {name: content.decode() for name, content in message.headers()}
                validator.validate(headers)
                yield headers, message.value() or b""
    consumer.close()


def main() -> None:
    """Reads the call and writes the file."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--log", required=True, metavar="HOST:PORT")
    arguments.add_argument("call_id")
    arguments.add_argument("file", type=Path)
    args = arguments.parse_args()

    began: dict[str, int] = {}  # by stream, ms since the epoch
    placed: list[tuple[str, int, bytes]] = []
    for headers, value in records(args.log, args.call_id):
        stream = headers["stream"]
        if headers["type"] == "start":
            began[stream] = int(headers["at"])
        elif headers["type"] == "media" and headers["codec"] == "PCMU":
            at_ms = began[stream] - min(began.values()) + int(headers.get("ts", 0))
            placed.append((headers["track"], at_ms * int(headers["rate"]) // 1000, value))
        elif headers["type"] == "media":
            print(f"{headers['codec']} at {headers.get('ts', 0)} ms is skipped")
    if not placed:
        raise SystemExit(f"the log has no mu-law audio of {args.call_id}")

    length = max(at + len(value) for _, at, value in placed)
    samples = array("h", bytes(4 * length))
    for track, at, value in placed:
        # A repeated frame overwrites itself. Missing audio stays silent.
        for position, code in enumerate(value, at):
            samples[2 * position + TRACKS.index(track)] = LINEAR[code]
    with wave.open(str(args.file), "wb") as wav:
        wav.setnchannels(2)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(samples.tobytes())
    print(f"{length / 8000:.1f} s in {args.file}")


if __name__ == "__main__":
    main()
