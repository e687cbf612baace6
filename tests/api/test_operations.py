"""How everything fares, and dead letters, for operators."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from confluent_kafka import Consumer

from api.endpoint import ApiContext
from api.service_health import figures, state_of
from audiotext.doctor import stages
from audiotext.doctor.checks import checks_for
from core import metrics_server
from core.settings import KafkaSettings, MetricsSettings
from pipelines.runtime.errors import PermanentError, RetryLaterError
from pipelines.runtime.metrics import StageMetrics
from redpanda.client import consumer_config
from schemas.events import ObjectRef, ReplayInput, ReplayJob, StageFailed
from schemas.replays import failed_parts, outcome
from schemas.topics import Topic
from sinks.clickhouse.rows import replay_row
from tests.api.conftest import ADMIN_KEY, NOON, Client, Put, Tenant, bearer, client_of, recording_ready, stage_failed
from tests.support.call_documents import CallEvents
from tests.support.live_media import LiveCall
from tests.support.up_process import free_port

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
    assert [store["name"] for store in body["stores"]] == ["Log", "ClickHouse", "S3", "Qdrant"]
    assert all(store["ok"] for store in body["stores"])
    assert [(one["name"], one["away"]) for one in body["providers"]] == [
        ("whisper", None),
        ("extractive", None),
        ("local", None),
    ]


async def test_a_log_that_is_away_is_seen(api: Client) -> None:
    """Without a log to reach, "Log" is not ok, with the reason, and the other stores are."""
    body = await (await api.get("/v1/operations", headers=_ADMIN)).json()
    assert {store["name"]: store["ok"] for store in body["stores"]} == {
        "Log": False,
        "ClickHouse": True,
        "S3": True,
        "Qdrant": True,
    }
    assert "the log" in body["stores"][0]["reason"]


async def test_requests_that_fail_are_seen(services: ApiContext) -> None:
    """A transcriber whose requests are all refused, as its own /healthz and /metrics tell: the page's data and `doctor`
    both say that it fails, with the last error; once a request succeeds both say that it is well. A call that fails
    among others that succeed changes nothing; three in a row do. If it failed, "healthy" would mean only that a process
    runs."""
    stage = StageMetrics("transcribe")
    port = metrics_server.serve(MetricsSettings(port=free_port()), stage.registry, lambda: True, stage.health)
    url = f"http://127.0.0.1:{port}"
    api = services.settings.api.model_copy(update={"watched": {"transcriber": url}})
    settings = services.settings.model_copy(update={"api": api})
    refused = PermanentError("401 Incorrect API key")

    async with client_of(replace(services, settings=settings)) as client:

        async def seen() -> tuple[str, str, str | None, bool]:
            body = await (await client.get("/v1/operations", headers=_ADMIN)).json()
            (service,) = body["services"]
            provider = next(one for one in body["providers"] if one["service"] == "transcriber")
            check = await stages.requests("transcriber", url)
            assert not provider["reason"] or provider["reason"] in check.detail
            return service["state"], provider["state"], provider["reason"], check.ok

        assert await seen() == ("up", "idle", None, True)
        stage.record_attempt(refused)
        assert await seen() == ("failing", "failing", "PermanentError: 401 Incorrect API key", False)
        stage.record_attempt()
        assert await seen() == ("up", "healthy", None, True)
        stage.record_attempt(refused)
        stage.record_attempt(RetryLaterError("later", retry_after_s=1))
        assert await seen() == ("up", "healthy", None, True)
        stage.record_attempt(refused)
        stage.record_attempt(refused)
        assert (await seen())[:2] == ("failing", "failing")
        assert "requests: transcriber" in [check.name for check in checks_for(settings, embedded=True)]


async def test_a_dead_letter_is_given_back_once(operated: Client, kafka: KafkaSettings) -> None:
    """Lists letters, gives one back and looks for it where it came from; a second time is refused. If it failed, a
    call would stay lost, or a click too many would have it worked on twice."""
    call_id = f"CA{uuid.uuid4().hex}"
    letter = stage_failed("somebody", call_id, "transcribe").model_copy(update={"payload": f'{{"call":"{call_id}"}}'})
    LiveCall(kafka, CallEvents("somebody", call_id, NOON)).tell(Topic.DEAD_LETTERS, letter)
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


async def test_a_healed_call_closes_its_letter(operated: Client, kafka: KafkaSettings, put: Put) -> None:
    """A call failed to be transcribed; later a replay transcribed it. Its letter is not listed any more, says that it
    is healed where all are listed, and cannot be given back. A letter of the same call for another stage stays open. If
    it failed, an operator would try to mend what is well."""
    call_id, tenant = f"CA{uuid.uuid4().hex}", f"tenant-{uuid.uuid4().hex}"
    letters = [stage_failed(tenant, call_id, stage) for stage in ("transcribe", "summarize")]
    for letter in letters:
        LiveCall(kafka, CallEvents(tenant, call_id, NOON)).tell(Topic.DEAD_LETTERS, letter)
    put.events(*letters)
    put.call(tenant, call_id, "recorded")

    async def listed(query: str = "") -> dict[str, bool]:
        body = await (await operated.get(f"/v1/dead-letters{query}", headers=_ADMIN)).json()
        return {one["stage"]: one["healed"] for one in body["letters"] if one["call_id"] == call_id}

    assert await listed() == {"transcribe": False, "summarize": False}
    put.stage(tenant, call_id, "transcribed")
    assert await listed() == {"summarize": False}
    assert await listed("?all=true") == {"transcribe": True, "summarize": False}
    refused = await operated.post(f"/v1/dead-letters/{letters[0].event_id}/replay", headers=_ADMIN)
    assert refused.status == 409


async def test_a_replay_that_succeeds_later_closes_its_letter(operated: Client, kafka: KafkaSettings, put: Put) -> None:
    """A job of a replay with two parts becomes a dead letter; then the same replay finishes one part, and the other.

    The letter must close with the last part, not before, and not by another replay of the same part. If it fails, an
    operator repeats work that is done.
    """
    call_id, tenant, replay_id = f"CA{uuid.uuid4().hex}", f"tenant-{uuid.uuid4().hex}", f"rp-{uuid.uuid4().hex}"
    ref = ObjectRef(key="k", sha256="0" * 64, size=1)
    recordings = [recording_ready(tenant, call_id, ref, part, NOON) for part in (1, 2)]
    job = ReplayJob(
        event_id=uuid.uuid4().hex, call_id=call_id, tenant=tenant, occurred_at_ms=NOON, replay_id=replay_id,
        stage="recording", run=1, inputs=[ReplayInput(recording=one) for one in recordings],
    )  # fmt: skip
    letter = stage_failed(tenant, call_id, "replay").model_copy(update={"payload": job.model_dump_json()})
    LiveCall(kafka, CallEvents(tenant, call_id, NOON)).tell(Topic.DEAD_LETTERS, letter)
    put.database.insert([replay_row(part) for part in failed_parts(letter)])

    async def healed() -> bool:
        body = await (await operated.get("/v1/dead-letters?all=true", headers=_ADMIN)).json()
        (found,) = [one["healed"] for one in body["letters"] if one["call_id"] == call_id]
        return bool(found)

    def finish(replay: str, part: int, outcome_: str) -> None:
        put.database.insert([replay_row(outcome(replay, tenant, call_id, part, NOON + 9_000, outcome=outcome_, run=2))])

    assert not await healed()
    finish(replay_id, 1, "done")
    finish(f"{replay_id}-other", 2, "done")
    assert not await healed()
    finish(replay_id, 2, "skipped")
    assert await healed()


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
