"""The API over real stores, and calls put straight into them."""

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from api.app import create_app, make_context
from api.auth.api_keys import create_key
from api.embedding import QueryEmbedder
from api.endpoint import ApiContext
from core.settings import ApiSettings, ClickHouseSettings, QdrantSettings, S3Settings, Settings
from pipelines.providers.base import Embedded
from schemas.artifacts import Peaks, Segment, Transcript, Word, recording_prefix, transcript_key
from schemas.events import (
    AnyEvent,
    EmbeddingReady,
    Gap,
    ObjectRef,
    RecordingReady,
    StageFailed,
    StreamEnded,
    StreamStarted,
    SummaryReady,
    TrackOutline,
    TranscriptReady,
    UsageRecorded,
)
from schemas.ids import uuid_of
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import Row, event_row, ledger_row
from sinks.object_store import ObjectStore
from sinks.qdrant.store import Point, Turn, VectorStore, collection_of

ADMIN_KEY = "an-admin-key-for-tests-only"
NOON = 1_795_348_800_000  # 2026-11-22T12:00:00Z, when calls start
PART_MS = 30_000
PEAKS = Peaks(rate_hz=8000, samples_per_peak=80_000, channels=[[-9, 10, -2, 2, 0, 0], [0, 0, -4, 4, -8, 8]])

Client = TestClient[web.Request, web.Application]


class WordEmbedder:
    """Texts are alike as far as they share words: meaning enough for tests, without a model."""

    name = "words"
    dimension = 64

    def __init__(self, model: str) -> None:
        self.model = model

    def config(self) -> dict[str, object]:
        return {"model": self.model}

    async def embed(self, texts: Sequence[str]) -> Embedded:
        return Embedded(np.array([self.vector(text) for text in texts], np.float32))

    async def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        return np.array(self.vector(text), np.float32)

    def vector(self, text: str) -> list[float]:
        counts = np.full(self.dimension, 1e-3)
        for word in text.lower().split():
            counts[int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.dimension] += 1
        return [float(value) for value in counts / np.linalg.norm(counts)]


@pytest.fixture
def settings(clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings) -> Settings:
    """Settings of an API over the shared stores."""
    return Settings(
        clickhouse=clickhouse,
        s3=s3,
        qdrant=qdrant,
        admin_key=SecretStr(ADMIN_KEY),
        api=ApiSettings(failed_sign_ins=100_000),
    )


@pytest.fixture(scope="session")
def database(clickhouse: ClickHouseSettings) -> Database:
    """One connection for all tests, since connecting takes dozens of requests."""
    database = Database(clickhouse)
    database.migrate()
    return database


@pytest.fixture
def services(settings: Settings, words: WordEmbedder, database: Database) -> ApiContext:
    """The API's services, with an embedder that needs no model."""
    return replace(make_context(settings, database), embedder=QueryEmbedder(lambda: words, 10))


@pytest.fixture
def words() -> WordEmbedder:
    """The embedder, with a collection of its own."""
    return WordEmbedder(f"words-{uuid.uuid4().hex}")


def client_of(services: ApiContext) -> Client:
    """A client of the API over these services, to be used with `async with`."""
    return TestClient(TestServer(create_app(services)))


@pytest.fixture
async def api(services: ApiContext) -> AsyncIterator[Client]:
    """The API, served on a free port."""
    async with client_of(services) as client:
        yield client


@dataclass(frozen=True)
class Tenant:
    """A tenant of one test and a key that sees its calls."""

    name: str
    key: str

    @property
    def auth(self) -> dict[str, str]:
        return bearer(self.key)


@pytest.fixture
def new_tenant(settings: Settings) -> Callable[[], Tenant]:
    """Makes tenants that nobody else uses."""

    def make() -> Tenant:
        name = f"tenant-{uuid.uuid4().hex[:12]}"
        return Tenant(name, create_key(settings, name, "test"))

    return make


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    """A tenant that nobody else uses."""
    return new_tenant()


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="session")
def put(clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings) -> "Put":
    """Puts calls into the stores, as the pipelines would."""
    return Put(Database(clickhouse), ObjectStore(s3), VectorStore(qdrant))


@dataclass(frozen=True)
class Put:
    """Writes what the pipelines write: events and ledger lines, objects, vectors."""

    database: Database
    objects: ObjectStore
    vector_store: VectorStore

    def events(self, *events: AnyEvent) -> None:
        """Events into ClickHouse."""
        rows: list[Row] = [event_row(event) for event in events]
        rows += [ledger_row(event) for event in events if isinstance(event, UsageRecorded)]
        self.database.insert(rows)

    def object(self, key: str, content: bytes, content_type: str = "application/octet-stream") -> ObjectRef:
        """Bytes into S3."""
        return self.objects.put(key, content, content_type)

    def vectors(
        self, embedder: WordEmbedder, tenant: str, call_id: str, texts: Sequence[str], version: str | None = None
    ) -> None:
        """Turns into Qdrant, one every ten seconds. version: the transcript's; by default the one that `call` makes."""
        version = version or transcript_id(tenant, call_id, 1)
        collection = collection_of(embedder.model, embedder.dimension)
        self.vector_store.ensure(collection, embedder.dimension)
        points = []
        for index, text in enumerate(texts):
            turn = Turn(
                tenant=tenant,
                call_id=call_id,
                part=1,
                transcript_id=version,
                start_ms=index * 10_000,
                end_ms=index * 10_000 + 5_000,
                channel=index % 2,
                speaker=("inbound", "outbound")[index % 2],
                text=text,
            )
            points.append(Point(uuid_of(tenant, call_id, version, index), embedder.vector(text), turn))
        self.vector_store.upsert(collection, points)

    def turns(self, embedder: WordEmbedder, tenant: str, call_id: str, version: str, transcript: Transcript) -> None:
        """Turns of the transcript of this id into Qdrant."""
        collection = collection_of(embedder.model, embedder.dimension)
        self.vector_store.ensure(collection, embedder.dimension)
        points = [
            Point(
                uuid_of(tenant, call_id, index),
                embedder.vector(said.text),
                Turn(
                    tenant=tenant,
                    call_id=call_id,
                    part=1,
                    transcript_id=version,
                    start_ms=said.start_ms,
                    end_ms=said.end_ms,
                    channel=said.channel,
                    speaker=said.speaker,
                    text=said.text,
                ),
            )
            for index, said in enumerate(transcript.segments)
        ]
        self.vector_store.upsert(collection, points)

    def call(self, tenant: str, call_id: str, upto: str = "complete", audio: bytes = b"RIFF" + bytes(2_000)) -> None:
        """A call of one part that got as far as that status."""
        stages = ("live", "recorded", "transcribed", "summarized", "complete")
        for stage in stages[: stages.index(upto) + 1]:
            self.stage(tenant, call_id, stage, audio=audio)

    def stage(
        self, tenant: str, call_id: str, stage: str, part: int = 1, audio: bytes = b"RIFF" + bytes(2_000)
    ) -> None:
        """What happens to a part when it reaches a status."""
        started = NOON + (part - 1) * 60_000
        if stage == "live":
            self.events(stream_started(tenant, call_id, started))
        elif stage == "recorded":
            ref = self.object(f"{recording_prefix(tenant, call_id, part)}/audio.wav", audio, "audio/wav")
            peaks = self.object(
                f"{recording_prefix(tenant, call_id, part)}/peaks.json", PEAKS.model_dump_json().encode()
            )
            self.events(
                stream_ended(tenant, call_id, started + PART_MS),
                recording_ready(tenant, call_id, ref, part, started, peaks=peaks),
            )
        elif stage == "transcribed":
            text = transcript(call_id, part).model_dump_json().encode()
            ref = self.object(
                transcript_key(tenant, call_id, transcript_id(tenant, call_id, part)), text, "application/json"
            )
            self.events(transcript_ready(tenant, call_id, ref, part, started), usage(tenant, call_id, part, started))
        elif stage == "summarized":
            self.events(summary_ready(tenant, call_id, part, started))
        else:
            self.events(embedding_ready(tenant, call_id, part, started))


def _base(tenant: str, call_id: str, kind: str, at_ms: int, part: int = 1) -> dict[str, object]:
    return {
        "event_id": uuid_of(tenant, call_id, kind, part, at_ms),
        "call_id": call_id,
        "tenant": tenant,
        "part": part,
        "occurred_at_ms": at_ms,
    }


def transcript_id(tenant: str, call_id: str, part: int) -> str:
    """What the ledger line is named after."""
    return uuid_of(tenant, call_id, part)


def stream_started(tenant: str, call_id: str, at_ms: int) -> StreamStarted:
    return StreamStarted.model_validate(
        _base(tenant, call_id, "started", at_ms)
        | {
            "carrier": "twilio",
            "stream_id": f"MZ{at_ms}",
            "tracks": ["inbound", "outbound"],
            "codec": "PCMU",
            "rate_hz": 8000,
            "from_number": "+4912345",
            "to_number": "+4967890",
        }
    )


def stream_ended(tenant: str, call_id: str, at_ms: int) -> StreamEnded:
    return StreamEnded.model_validate(
        _base(tenant, call_id, "ended", at_ms) | {"stream_id": f"MZ{at_ms - PART_MS}", "reason": "carrier-stop"}
    )


def recording_ready(
    tenant: str, call_id: str, audio: ObjectRef, part: int, started: int, *, peaks: ObjectRef | None = None
) -> RecordingReady:
    other = ObjectRef(key="other", sha256="0" * 64, size=1)
    return RecordingReady.model_validate(
        _base(tenant, call_id, "recorded", started + PART_MS + 500, part)
        | {
            "carrier": "twilio",
            "audio": audio,
            "peaks": peaks or other,
            "manifest": other,
            "duration_ms": PART_MS,
            "rate_hz": 8000,
            "tracks": [
                TrackOutline(name="inbound", audio_ms=29_600, gaps=[Gap(start_ms=400, end_ms=800, reason="lost")]),
                TrackOutline(name="outbound", audio_ms=PART_MS),
            ],
            "started_at_ms": started,
            "ended_at_ms": started + PART_MS,
            "close_reason": "ended",
        }
    )


def transcript_ready(tenant: str, call_id: str, ref: ObjectRef, part: int, started: int) -> TranscriptReady:
    return TranscriptReady.model_validate(
        _base(tenant, call_id, "transcribed", started + PART_MS + 2_000, part)
        | {
            "transcript_id": transcript_id(tenant, call_id, part),
            "transcript": ref,
            "recording_sha256": "0" * 64,
            "language": "en",
            "duration_ms": PART_MS,
            "provider": "whisper",
            "model": "base",
            "segments": 2,
            "words": 5,
            "engine_ms": 900,
            "call_started_at_ms": started,
        }
    )


def summary_ready(tenant: str, call_id: str, part: int, started: int) -> SummaryReady:
    return SummaryReady.model_validate(
        _base(tenant, call_id, "summarized", started + PART_MS + 3_000, part)
        | {
            "transcript_id": transcript_id(tenant, call_id, part),
            "summary": ObjectRef(key="s", sha256="0" * 64, size=1),
            "provider": "extractive",
            "model": "coverage",
            "abstract": f"Abstract {part}.",
            "key_points": [f"Point {part}"],
            "action_items": [f"Do {part}"],
            "engine_ms": 10,
            "call_started_at_ms": started,
        }
    )


def embedding_ready(tenant: str, call_id: str, part: int, started: int) -> EmbeddingReady:
    return EmbeddingReady.model_validate(
        _base(tenant, call_id, "embedded", started + PART_MS + 4_000, part)
        | {
            "transcript_id": transcript_id(tenant, call_id, part),
            "provider": "local",
            "model": "m",
            "collection": "c",
            "dimension": 64,
            "points": 2,
            "engine_ms": 10,
            "call_started_at_ms": started,
        }
    )


def usage(
    tenant: str,
    call_id: str,
    part: int = 1,
    started: int = NOON,
    *,
    provider: str = "whisper",
    price: str = "0.005",
    cost: str = "0.0000145833",
) -> UsageRecorded:
    return UsageRecorded.model_validate(
        _base(tenant, call_id, "usage", started + PART_MS + 2_000, part)
        | {
            "key": f"transcription_{transcript_id(tenant, call_id, part)}",
            "kind": "transcription",
            "units": 25,
            "duration_ms": PART_MS,
            "provider": provider,
            "model": "base",
            "provider_cost": Decimal(cost),
            "price": Decimal(price),
            "currency": "USD",
            "call_started_at_ms": started,
        }
    )


def stage_failed(tenant: str, call_id: str, stage: str) -> StageFailed:
    return StageFailed.model_validate(
        _base(tenant, call_id, f"failed-{stage}", NOON + PART_MS + 9_000)
        | {
            "stage": stage,
            "error_class": "permanent",
            "error": "the audio is broken",
            "attempts": 1,
            "origin_topic": "recording.ready",
            "origin_partition": 0,
            "origin_offset": 0,
            "payload": "{}",
        }
    )


def transcript(call_id: str, part: int = 1) -> Transcript:
    def words(text: str, start_ms: int) -> list[Word]:
        return [
            Word(start_ms=start_ms + i * 400, end_ms=start_ms + i * 400 + 300, text=token, confidence=0.9)
            for i, token in enumerate(text.split())
        ]

    hello, answer = f"Hello from part {part}.", "Good morning."
    return Transcript(
        call_id=call_id,
        language="en",
        duration_ms=PART_MS,
        provider="whisper",
        model="base",
        segments=[
            Segment(start_ms=1_000, end_ms=2_500, channel=1, speaker="outbound", text=hello, words=words(hello, 1_000)),
            Segment(
                start_ms=3_000, end_ms=3_700, channel=0, speaker="inbound", text=answer, words=words(answer, 3_000)
            ),
        ],
    )
