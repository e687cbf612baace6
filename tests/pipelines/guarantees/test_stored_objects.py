"""Objects that an earlier version stored: a worker of this version finds them, and continues from there.

`stored_objects.json` holds what was stored of a call at certain moments, and what was published of it. With
WRITE_STORED_OBJECTS=1 in the environment it is written anew, which gives up reading what is in it: do that only when no
installation can have such objects any more.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.settings import QdrantSettings, S3Settings
from schemas.events import RecordingReady, TranscriptReady
from sinks.object_store import ObjectStore
from tests.fakes.gemini import FakeGemini
from tests.fakes.soniox import FakeSoniox
from tests.pipelines.guarantees.stages import DEARER, gemini_embedder, gemini_summarizer, kept_of, soniox_transcriber
from tests.pipelines.guarantees.workers import Delivered, Fault, MakeWork, Steps, deliver
from tests.support.pipeline_events import recording, said, transcribed
from tests.support.transcription_jobs import job_of

_FILE = Path(__file__).with_name("stored_objects.json")
_TURNS = tuple(f"Turn number {number} says something." for number in range(40))  # summarized in two stretches
_REMOTE_ID = "REMOTE-ID"  # in the file, where the provider's id of the order was

# By the moment: the stage, and after which request the worker died; "" if it came to its end.
MOMENTS = {
    "an order claimed": ("transcribe", "Soniox.submit"),
    "an order placed": ("transcribe", "Soniox.result"),
    "transcribed": ("transcribe", ""),
    "one answer kept": ("summarize", "GeminiSummarizer.generate"),
    "summarized": ("summarize", ""),
    "embedded": ("embed", ""),
}


@dataclass
class Bench:
    """A call at one of the moments, the work on it, and the providers that were asked."""

    event: RecordingReady | TranscriptReady
    inputs: Mapping[str, bytes]
    make: MakeWork
    again: MakeWork
    died_after: str
    soniox: FakeSoniox
    gemini: FakeGemini

    async def until_then(self) -> Delivered:
        """What happened until the moment."""
        at = 2 if self.died_after.startswith("Gemini") else 1
        return await deliver(self.make, self.event, Steps(Fault.KILL, at, self.died_after) if self.died_after else None)

    @property
    def requests(self) -> int:
        """Requests so far that cost money."""
        return self.soniox.ordered.total() + len(self.gemini.asked)

    @property
    def remote_id(self) -> str:
        """The provider's id of the call's order."""
        return next(iter(self.soniox.orders), _REMOTE_ID)


@pytest.fixture(params=MOMENTS)
def moment(request: pytest.FixtureRequest) -> str:
    """The name of a moment."""
    return str(request.param)


@pytest.fixture
def bench(
    *,
    moment: str,
    soniox: FakeSoniox,
    gemini: FakeGemini,
    s3: S3Settings,
    qdrant: QdrantSettings,
    objects: ObjectStore,
    tmp_path: Path,
) -> Bench:
    """The call, always the same one, at the moment's beginning."""
    stage, died_after = MOMENTS[moment]
    call_id = f"CA-{moment}"
    event: RecordingReady | TranscriptReady
    if stage == "transcribe":
        wav = job_of(tmp_path / "a.wav", [(1, 2)], [], seconds=60).audio.read_bytes()
        event = recording(objects, call_id, wav, 60_000)
    else:
        event = transcribed(objects, said(call_id, *_TURNS))
    make, again = {
        "transcribe": lambda: (soniox_transcriber(soniox, s3), soniox_transcriber(soniox, s3, DEARER)),
        "summarize": lambda: (gemini_summarizer(gemini, s3), gemini_summarizer(gemini, s3, DEARER)),
        "embed": lambda: (gemini_embedder(gemini, s3, qdrant), gemini_embedder(gemini, s3, qdrant, DEARER)),
    }[stage]()
    return Bench(event, kept_of(objects, event), make, again, died_after, soniox, gemini)


async def test_a_worker_continues_from_what_an_earlier_version_stored(
    moment: str, bench: Bench, objects: ObjectStore
) -> None:
    """What a version stored until a moment is put in the place of what this one stores, and the event is delivered. Of
    a call that was done the same is published to the byte, nobody is asked, and no object changes; an order that was
    claimed or placed is collected and not placed again; an answer that was kept is not asked for again.

    A failure means that calls which are under way, or published again after an update, are paid for twice.
    """
    stored = json.loads(_FILE.read_text())[moment]
    await bench.until_then()
    for key in kept_of(objects, bench.event).keys() - bench.inputs.keys():
        objects.remove(key)
    for key, text in stored["objects"].items():
        objects.put(key, text.replace(_REMOTE_ID, bench.remote_id).encode(), "application/json")
    before, kept = bench.requests, kept_of(objects, bench.event)

    delivered = await deliver(bench.again, bench.event)

    if not bench.died_after:
        assert [[topic, json.loads(event)] for topic, event in delivered.events] == stored["outputs"]
        assert bench.requests == before
        assert {key: kept_of(objects, bench.event)[key] for key in kept} == kept
    elif bench.died_after.startswith("Soniox"):
        assert bench.soniox.ordered.total() == 1
        assert len(delivered.lines) == 1
    else:
        assert bench.requests - before == 2  # the stretch that was not answered, and the merging of both


@pytest.mark.skipif("WRITE_STORED_OBJECTS" not in os.environ, reason="gives up what is stored; see above")
async def test_write_what_this_version_stores(moment: str, bench: Bench, objects: ObjectStore) -> None:
    """Writes the file. Not a test: see above."""
    delivered = await bench.until_then()
    stored = {
        key: data.decode().replace(bench.remote_id, _REMOTE_ID)
        for key, data in kept_of(objects, bench.event).items()
        if key not in bench.inputs
    }
    moments = json.loads(_FILE.read_text()) if _FILE.exists() else {}
    moments[moment] = {
        "objects": stored,
        "outputs": [[topic, json.loads(event)] for topic, event in delivered.events],
    }
    _FILE.write_text(json.dumps(moments, indent=1, sort_keys=True) + "\n")
