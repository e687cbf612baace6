"""Counts the words of each speaker: a Quix Streams app that uses only AudioText's published interface.

    pip install quixstreams minio jsonschema
    python examples/words_per_speaker.py --log localhost:9092 --store http://localhost:9000 --bucket audiotext

It reads `transcript.ready` from the start. The event names the transcript's object (a claim check). The credentials of
the store are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, those of the log in KAFKA_USERNAME and KAFKA_PASSWORD. A
record may come twice, so counts are kept by transcript.
"""

import argparse
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, ValidationError
from minio import Minio
from minio.error import S3Error
from quixstreams import Application
from quixstreams.kafka import ConnectionConfig

SCHEMAS = Path(__file__).parent.parent / "schemas" / "json"


def words(transcript: dict) -> Counter:
    """Returns the number of words of each speaker."""
    counted: Counter = Counter()
    for segment in transcript["segments"]:
        counted[segment["speaker"]] += len(segment["text"].split())
    return counted


def checked(schema: str, data: bytes) -> dict:
    """Returns the decoded JSON. Raises ValidationError if it does not match the published schema."""
    content = json.loads(data)
    Draft202012Validator(json.loads((SCHEMAS / f"{schema}.json").read_text())).validate(content)
    return content


def main() -> None:
    """Reads until no event has come for --idle seconds, then prints the counts as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--log", required=True, metavar="HOST:PORT")
    arguments.add_argument("--store", required=True, metavar="URL")
    arguments.add_argument("--bucket", default="audiotext")
    arguments.add_argument("--tenant", help="only this tenant's calls")
    arguments.add_argument("--group", default="words-per-speaker", help="a new group reads from the start")
    arguments.add_argument("--idle", type=float, default=10, metavar="S", help="stop after this time without an event")
    args = arguments.parse_args()

    store = Minio(
        urlsplit(args.store).netloc,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=args.store.startswith("https"),
    )
    by_transcript: dict[str, Counter] = {}

    def count(value: bytes) -> None:
        try:
            event = checked("transcript.ready", value)
            if args.tenant not in (None, event["tenant"]):
                return
            claim = event["transcript"]
            data = store.get_object(args.bucket, claim["key"]).read()
            if hashlib.sha256(data).hexdigest() != claim["sha256"]:
                raise ValueError(f"{claim['key']} differs from its checksum in the event")
            by_transcript[event["transcript_id"]] = words(checked("transcript", data))
        except (ValidationError, ValueError, S3Error) as error:
            print(f"skipped: {error}", flush=True)

    login = {}
    if "KAFKA_USERNAME" in os.environ:
        login = {
            "security_protocol": "sasl_plaintext",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_username": os.environ["KAFKA_USERNAME"],
            "sasl_password": os.environ["KAFKA_PASSWORD"],
        }
    app = Application(
        broker_address=ConnectionConfig(bootstrap_servers=args.log, **login),
        consumer_group=args.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
    )
    app.dataframe(app.topic("transcript.ready", value_deserializer="bytes")).update(count)
    app.run(timeout=args.idle)
    print(json.dumps(sum(by_transcript.values(), Counter()), sort_keys=True))


if __name__ == "__main__":
    main()
