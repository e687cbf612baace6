"""How everything fares, and dead letters, for operators."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from confluent_kafka import Consumer

from api.endpoint import ApiContext
from api.service_health import figures, state_of
from core.settings import KafkaSettings
from redpanda.client import consumer_config
from schemas.events import StageFailed
from schemas.topics import Topic
from tests.api.conftest import ADMIN_KEY, NOON, Client, Tenant, bearer, client_of, stage_failed
from tests.api.ui.made import Told
from tests.api.ui.talking import Line

_ADMIN = bearer(ADMIN_KEY)
_SAID = """# TYPE audiotext_consumer_lag_records gauge
audiotext_consumer_lag_records{stage="transcribe",topic="recording.ready",partition="0"} 3
audiotext_consumer_lag_records{stage="transcribe",topic="transcribe.retry",partition="0"} 1
# TYPE audiotext_stage_provider_away gauge
audiotext_stage_provider_away{stage="transcribe"} 1
# TYPE audiotext_stage_attempts counter
audiotext_stage_attempts_total{stage="transcribe",result="done"} 7
audiotext_stage_attempts_total{stage="transcribe",result="failed"} 2
# TYPE audiotext_stage_attempt_seconds histogram
audiotext_stage_attempt_seconds_sum{stage="transcribe"} 45
audiotext_stage_attempt_seconds_count{stage="transcribe"} 9
"""


@pytest.fixture
async def operated(services: ApiContext, kafka: KafkaSettings) -> AsyncIterator[Client]:
    """The API with a log, watching itself and a service that is not there."""
    async with client_of(services) as watched:
        own = str(watched.make_url("/")).rstrip("/")
        api = services.settings.api.model_copy(update={"watched": {"api": own, "usage": "http://127.0.0.1:9"}})
        settings = services.settings.model_copy(update={"kafka": kafka, "api": api})
        async with client_of(replace(services, settings=settings)) as client:
            yield client


def test_figures_of_a_service() -> None:
    """Reads what a transcriber says of itself, and nonsense. If it failed, an operator would see a calm page while
    calls pile up."""
    state = state_of("transcriber", "up", figures(_SAID))
    assert (state.lag_records, state.provider_away) == (4, True)
    assert state.attempts == {"done": 7, "failed": 2}
    assert state.attempt_s == 5
    assert (state.retries, state.dead_letters, state.memory_bytes) == (None, 0, None)
    assert figures("<html>") == {}


async def test_what_is_up_and_what_is_down(operated: Client) -> None:
    """Looks at a service that answers and at one that does not. If it failed, an outage would not be seen."""
    response = await operated.get("/v1/operations", headers=_ADMIN)
    assert response.status == 200
    body = await response.json()
    assert {one["name"]: one["state"] for one in body["services"]} == {"api": "up", "usage": "down"}
    assert [store["name"] for store in body["stores"]] == ["ClickHouse", "S3", "Qdrant"]
    assert all(store["ok"] for store in body["stores"])
    assert [(one["name"], one["away"]) for one in body["providers"]] == [
        ("whisper", None),
        ("extractive", None),
        ("local", None),
    ]


async def test_a_dead_letter_is_given_back_once(operated: Client, kafka: KafkaSettings) -> None:
    """Lists letters, gives one back and looks for it where it came from; a second time is refused. If it failed, a
    call would stay lost, or a click too many would have it worked on twice."""
    call_id = f"CA{uuid.uuid4().hex}"
    letter = stage_failed("somebody", call_id, "transcribe").model_copy(update={"payload": f'{{"call":"{call_id}"}}'})
    Line(kafka, Told("somebody", call_id, NOON)).tell(Topic.DEAD_LETTERS, letter)
    listed = (await (await operated.get("/v1/dead-letters", headers=_ADMIN)).json())["letters"]
    (mine,) = [one for one in listed if one["call_id"] == call_id]
    assert (mine["error"], mine["attempts"], mine["replayable"]) == ("the audio is broken", 1, True)
    path = f"/v1/dead-letters/{mine['id']}/replay"
    response = await operated.post(path, headers=_ADMIN)
    assert response.status == 202
    assert (await response.json())["replayed_at_ms"] is not None
    assert _last_payload(kafka, letter) == letter.payload
    assert (await operated.post(path, headers=_ADMIN)).status == 409
    assert (await operated.post("/v1/dead-letters/none/replay", headers=_ADMIN)).status == 404
    open_now = (await (await operated.get("/v1/dead-letters", headers=_ADMIN)).json())["letters"]
    assert mine["id"] not in [one["id"] for one in open_now]
    every = (await (await operated.get("/v1/dead-letters?all=true", headers=_ADMIN)).json())["letters"]
    assert mine["id"] in [one["id"] for one in every]


async def test_only_operators(api: Client, tenant: Tenant) -> None:
    """Asks with a tenant's key. If it failed, customers would see each other's calls in the dead letters."""
    for method, path in [
        ("GET", "/v1/operations"),
        ("GET", "/v1/dead-letters"),
        ("POST", "/v1/dead-letters/x/replay"),
    ]:
        response = await api.request(method, path, headers=tenant.auth)
        assert response.status == 403, path


def _last_payload(kafka: KafkaSettings, letter: StageFailed) -> str:
    """The newest record of the letter's call on its origin topic."""
    consumer = Consumer(consumer_config(kafka, f"test-{uuid.uuid4().hex}") | {"enable.partition.eof": False})
    consumer.subscribe([letter.origin_topic])
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None
            if message.key() == letter.call_id.encode():
                return (message.value() or b"").decode()
    finally:
        consumer.close()
