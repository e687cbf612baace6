"""Counts the words each speaker of your calls has said: a Quix Streams app that knows only what AudioText publishes.

    pip install quixstreams minio jsonschema
    python examples/words_per_speaker.py --log localhost:9092 --store http://localhost:9000 --bucket audiotext

It reads `transcript.ready` from the start. The event says where the transcript lies (a claim check), the credentials of
the store are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. A record may come twice, so words are kept by transcript.
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

SCHEMAS = Path(__file__).parent.parent / "schemas" / "json"


def words(transcript: dict) -> Counter:
    """Returns the number of words of each speaker."""
    counted: Counter = Counter()
    for segment in transcript["segments"]:
        counted[segment["speaker"]] += len(segment["text"].split())
    return counted


def checked(schema: str, data: bytes) -> dict:
    """The JSON in the data. Raises ValidationError unless it is what the published schema says."""
    content = json.loads(data)
    Draft202012Validator(json.loads((SCHEMAS / f"{schema}.json").read_text())).validate(content)
    return content


def main() -> None:
    """Reads until nothing has come for --idle seconds, then prints the counts as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--log", required=True, metavar="HOST:PORT")
    arguments.add_argument("--store", required=True, metavar="URL")
    arguments.add_argument("--bucket", default="audiotext")
    arguments.add_argument("--tenant", help="only this tenant's calls")
    arguments.add_argument("--group", default="words-per-speaker", help="one that was never used reads from the start")
    arguments.add_argument("--idle", type=float, default=10, metavar="S", help="ends when nothing came for so long")
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
                raise ValueError(f"{claim['key']} is not what was announced")
            by_transcript[event["transcript_id"]] = words(checked("transcript", data))
        except (ValidationError, ValueError, S3Error) as error:
            print(f"passed over: {error}", flush=True)

    app = Application(
        broker_address=args.log, consumer_group=args.group, auto_offset_reset="earliest", auto_create_topics=False
    )
    app.dataframe(app.topic("transcript.ready", value_deserializer="bytes")).update(count)
    app.run(timeout=args.idle)
    print(json.dumps(sum(by_transcript.values(), Counter()), sort_keys=True))


if __name__ == "__main__":
    main()
