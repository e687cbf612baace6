"""Soniox: against a fake server that applies its documented rules, and against its documented examples."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.settings import S3Settings, SonioxSettings
from pipelines.providers.base import RemoteJobGoneError, TranscriptionJob, config_hash_for
from pipelines.providers.common import trimmed_audio
from pipelines.providers.soniox.api import File, Files, Transcription, UsageLogs, base_url
from pipelines.providers.soniox.errors import api_error, failed_job
from pipelines.providers.soniox.tokens import SonioxTranscript, Token, language_of, turns_of, words_of
from pipelines.providers.soniox.transcriber import Soniox
from pipelines.runtime.errors import PermanentError, ProviderOutageError, QuotaError, RetryableError, StageError
from schemas.artifacts import Transcript
from sinks.object_store import ObjectStore, ObjectStoreError
from tests.fakes import soniox_rules as fake
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.fakes.word_detector import hear
from tests.support.transcription_jobs import RATE, job_of

CONTRACT: dict[str, Any] = json.loads((files("tests.fakes") / "soniox_contract.json").read_text("utf-8"))


@pytest.fixture
async def server() -> AsyncIterator[FakeSoniox]:
    """Starts a server for the test."""
    one = FakeSoniox()
    await one.start()
    yield one
    await one.stop()


def client(server: FakeSoniox, *, key: str = fake.KEY, **settings: Any) -> Soniox:
    """Returns a client of that server."""
    return Soniox(SonioxSettings(base_url=server.url, **settings), key)


async def transcribed(jobs: Soniox, job: TranscriptionJob) -> tuple[str, Transcript]:
    """Orders a transcript in the same steps as the engine, and returns the order's id and the transcript."""
    remote_id = await jobs.submit(job, await jobs.prepare(job))
    for _ in range(6_000):
        if (transcript := await jobs.result(remote_id, job)) is not None:
            return remote_id, transcript
        await asyncio.sleep(0.01)
    raise TimeoutError


async def failed(server: FakeSoniox, remote_id: str) -> None:
    """Waits until the order has failed."""
    for _ in range(6_000):
        if server.orders[remote_id]["status"] == "error":
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_channels_are_one_order_and_come_back_as_speakers(server: FakeSoniox, tmp_path: Path) -> None:
    """Transcribes two channels whose audio overlaps.

    There must be one order, with mono audio and without diarization, and every word must come back on its channel
    within 30 ms of its time. Mixed channels would lose the overlap.
    """
    job = job_of(tmp_path / "a.wav", [(1, 2), (15, 16)], [(1.5, 3.5), (16, 17.5)])

    _, transcript = await transcribed(client(server), job)

    assert server.ordered == {job.key: 1}
    [order] = server.orders.values()
    assert (order["enable_speaker_diarization"], order["enable_language_identification"]) == (False, True)
    assert hear(server.audio[job.key]).channels == 1
    found = [(s.speaker, s.start_ms, s.end_ms, s.text) for s in transcript.segments]
    truth = [("inbound", 1000, 2000), ("outbound", 1500, 3500), ("inbound", 15000, 16000), ("outbound", 16000, 17500)]
    assert [one[0] for one in found] == [one[0] for one in truth]
    for (_, start_ms, end_ms, text), (_, true_start_ms, true_end_ms) in zip(found, truth, strict=True):
        assert abs(start_ms - true_start_ms) <= 30
        assert abs(end_ms - true_end_ms) <= 30
        assert text == "hello."
    assert transcript.language == "en"


async def test_segments_name_their_language(server: FakeSoniox, tmp_path: Path) -> None:
    """Transcribes a call whose speaker changes the language, with two languages to expect.

    Soniox labels each token. Each segment must have the language of its tokens, and no segment may mix two. The pauses
    are shorter than those that end a segment, so a failure means that the language is lost or does not end a segment.
    """
    job = job_of(tmp_path / "a.wav", [(1, 2), (2.5, 3.5), (4, 5)], [])
    soniox = client(server, language_hints=("de", "fr"))

    _, transcript = await transcribed(soniox, job)

    assert [(one.language, one.text) for one in transcript.segments] == [
        ("de", "hello."),
        ("fr", "hello."),
        ("de", "hello."),
    ]
    assert transcript.language == "de"


async def test_silence_is_not_paid_for(server: FakeSoniox, tmp_path: Path) -> None:
    """Transcribes a call of 60 s in which each channel has audio for 2 s.

    About a tenth of it may be sent. A silent call is sent as one second of silence and has an empty transcript.
    """
    quiet = job_of(tmp_path / "a.wav", [(20, 22)], [(50, 52)], seconds=60)
    silent = job_of(tmp_path / "b.wav", [], [], seconds=5)

    remote_id, transcript = await transcribed(client(server), quiet)
    _, nothing = await transcribed(client(server), silent)

    assert hear(server.audio[quiet.key]).duration_ms < 7_000
    assert [segment.start_ms // 1000 for segment in transcript.segments] in ([20, 50], [19, 50], [20, 49])
    assert (nothing.segments, nothing.language) == ([], "und")
    assert hear(server.audio[silent.key]).duration_ms == 1000
    bill = await client(server).bill(remote_id)
    assert bill is not None
    assert bill.audio_ms is not None
    assert bill.audio_ms < 7_000


async def test_one_channel_is_diarized(server: FakeSoniox, tmp_path: Path) -> None:
    """Transcribes a recording with one channel.

    Soniox must separate the speakers, who are numbered in order of appearance.
    """
    job = job_of(tmp_path / "a.wav", [(1, 2), (4, 5), (7, 8)])

    _, transcript = await transcribed(client(server), job)

    assert next(iter(server.orders.values()))["enable_speaker_diarization"] is True
    assert [(s.channel, s.speaker) for s in transcript.segments] == [
        (0, "speaker 1"),
        (0, "speaker 2"),
        (0, "speaker 1"),
    ]


async def test_an_order_has_the_settings_of_its_tenant(server: FakeSoniox, tmp_path: Path) -> None:
    """Places an order with languages, terms, context and a callback secret.

    Terms of another tenant must not be in it.
    """
    settings = SonioxSettings(
        base_url=server.url,
        language_hints=("de", "en"),
        terms=("AudioText",),
        tenant_terms={"acme": ("Northwind",), "other": ("Secretstuff",)},
        context="Calls to a broadband provider.",
        webhook_secret=SecretStr("0123456789abcdef"),
    )
    jobs = Soniox(settings, fake.KEY, webhook_url="http://127.0.0.1:9/never")
    job = replace(job_of(tmp_path / "a.wav", [(1, 2)], []), tenant="acme")
    server.forgets_webhooks = True

    await transcribed(jobs, job)

    [order] = server.orders.values()
    assert order["language_hints"] == ["de", "en"]
    assert order["context"] == {"terms": ["AudioText", "Northwind"], "text": "Calls to a broadband provider."}
    assert order["webhook_auth_header_value"] == "0123456789abcdef"
    assert order["client_reference_id"] == job.key


async def test_an_upload_that_a_crash_left_is_used(server: FakeSoniox, tmp_path: Path) -> None:
    """Kills the process between upload and order.

    The next attempt must find the upload and not make another one: a copy of the call would stay there.
    """
    job = job_of(tmp_path / "a.wav", [(1, 2)], seconds=3)
    first = await client(server).prepare(job)

    assert await client(server).prepare(job) == first
    assert len(server.files) == 1


async def test_an_order_is_found_by_its_key_among_others(server: FakeSoniox, tmp_path: Path) -> None:
    """Searches a paged list of orders, which has no filter.

    An order on the third page must be found, or it is paid twice. A failed order must not be found.
    """
    server.page = 2
    jobs = client(server)
    path = tmp_path / "a.wav"
    made = [job_of(path, [(1, 2)], seconds=3) for _ in range(5)]
    for job in made[:4]:
        await transcribed(jobs, job)
    server.fail_jobs.append("internal_error")
    failed_id = await jobs.submit(made[4], await jobs.prepare(made[4]))
    await failed(server, failed_id)

    assert await jobs.find(made[3].key) == list(server.orders)[3]
    assert await jobs.find(made[4].key) is None
    assert await jobs.find("unknown") is None


async def test_nothing_stays_at_the_provider(server: FakeSoniox, tmp_path: Path) -> None:
    """Releases an order, twice. The order and its file must be deleted, and its result is then lost."""
    jobs = client(server)
    job = job_of(tmp_path / "a.wav", [(1, 2)], [])
    remote_id, _ = await transcribed(jobs, job)

    await jobs.release(remote_id)
    await jobs.release(remote_id)

    assert (server.orders, server.files) == ({}, {})
    with pytest.raises(RemoteJobGoneError):
        await jobs.result(remote_id, job)


@pytest.mark.parametrize("status", [400, 402, 429])
async def test_a_refused_order_leaves_no_audio_behind(status: int, server: FakeSoniox, tmp_path: Path) -> None:
    """Rejects an order. Its upload must be deleted, because the next attempt makes another one."""
    error = next(one for one in fake.ERRORS if one[0] == status)
    server.refusals.append(Refusal("POST /v1/transcriptions", *error))
    job = job_of(tmp_path / "a.wav", [(1, 2)], [])
    jobs = client(server)

    with pytest.raises(StageError):
        await jobs.submit(job, await jobs.prepare(job))
    assert server.files == {}


async def test_audio_whose_order_is_unclear_is_kept(server: FakeSoniox, tmp_path: Path) -> None:
    """Returns 500 for an accepted order. The audio must stay, or the order would fail."""
    server.refusals.append(Refusal("POST /v1/transcriptions", 500, "internal_error", "Sorry.", taken=True))
    job = job_of(tmp_path / "a.wav", [(1, 2)], [])
    jobs = client(server)

    with pytest.raises(RetryableError):
        await jobs.submit(job, await jobs.prepare(job))
    assert len(server.files) == 1
    assert await jobs.find(job.key) is not None


async def test_tidying_deletes_only_what_is_ours_old_and_unused(server: FakeSoniox, tmp_path: Path) -> None:
    """Deletes orphans an hour after a crash: an upload without an order, and a failed order.

    A completed order, a recent upload and a file of another program must stay.
    """
    jobs = client(server)
    job = job_of(tmp_path / "a.wav", [(1, 2)], seconds=3)
    waiting, _ = await transcribed(jobs, job)
    server.fail_jobs.append("internal_error")
    fails = replace(job, key="zero")
    await failed(server, await jobs.submit(fails, await jobs.prepare(fails)))
    orphan = await jobs.prepare(replace(job, key="one"))
    foreign = await jobs.prepare(replace(job, key="two"))
    server.files[foreign].filename = "holiday.mp3"
    server.age(timedelta(hours=2))
    fresh = await jobs.prepare(replace(job, key="three"))

    assert await jobs.delete_orphans() == 2
    assert set(server.orders) == {waiting}
    assert set(server.files) == {server.orders[waiting]["file_id"], foreign, fresh}
    assert orphan not in server.files


async def test_the_bill_is_what_the_provider_says(server: FakeSoniox, tmp_path: Path) -> None:
    """Reads a usage log that has the order twice, as after a double order.

    The cost must be the sum, so that the margin is correct. While the log is empty there is no cost, but the audio
    counts.
    """
    jobs = client(server)
    job = job_of(tmp_path / "a.wav", [(1, 11)], [(5, 15)])
    remote_id, _ = await transcribed(jobs, job)
    bill = await jobs.bill(remote_id)
    await transcribed(jobs, job)
    twice = await jobs.bill(remote_id)
    server.logs_late = True
    late = await jobs.bill(remote_id)

    assert bill is not None
    assert twice is not None
    assert late is not None
    assert bill.cost is not None
    assert bill.audio_ms == 22_200
    assert abs(bill.cost - fake.COST_PER_HOUR * 22_200 / 3_600_000) < Decimal("0.000000001")
    assert twice.cost == 2 * bill.cost
    assert (late.cost, late.audio_ms) == (None, 22_200)


async def test_audio_can_be_fetched_instead_of_uploaded(server: FakeSoniox, s3: S3Settings, tmp_path: Path) -> None:
    """Sets `send=url`. Soniox must get a presigned URL, and the object must be deleted with the order."""
    objects = ObjectStore(s3)
    server.ca_file = s3.ca_file
    jobs = Soniox(SonioxSettings(base_url=server.url, send="url"), fake.KEY, objects=objects)
    job = replace(job_of(tmp_path / "a.wav", [(1, 2)], [(3, 4)]), tenant="t", call_id=f"CA{uuid.uuid4().hex}")

    remote_id, transcript = await transcribed(jobs, job)
    assert (len(transcript.segments), server.files) == (2, {})
    assert len(list(objects.list(f"t/{job.call_id}/"))) == 1
    await jobs.release(remote_id)
    assert list(objects.list(f"t/{job.call_id}/")) == []


async def test_release_keeps_the_order_until_the_audio_is_deleted(
    server: FakeSoniox, s3: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object storage fails while an order with `send=url` is released, then works again.

    Only the order knows the address of the audio. If the order went first, the audio would stay in object storage
    forever, with no object or order that names it.
    """
    objects = ObjectStore(s3)
    server.ca_file = s3.ca_file
    jobs = Soniox(SonioxSettings(base_url=server.url, send="url"), fake.KEY, objects=objects)
    job = replace(job_of(tmp_path / "a.wav", [(1, 2)], [(3, 4)]), tenant="t", call_id=f"CA{uuid.uuid4().hex}")
    remote_id, _ = await transcribed(jobs, job)

    def fail(_key: str) -> None:
        raise ObjectStoreError("object storage is unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(objects, "remove", fail)
        with pytest.raises(StageError):
            await jobs.release(remote_id)
    assert remote_id in server.orders
    await jobs.release(remote_id)
    assert remote_id not in server.orders
    assert list(objects.list(f"t/{job.call_id}/")) == []


@pytest.mark.parametrize("error", fake.ERRORS, ids=[f"{e[0]} {e[1]} {e[2][:14]}" for e in fake.ERRORS])
async def test_every_documented_error_has_its_class(
    error: tuple[int, str, str], server: FakeSoniox, tmp_path: Path
) -> None:
    """Returns each error of the API reference for an order.

    A 401 must never be retried, full storage is a quota error, and a rate limit waits for the time that the server
    names.
    """
    status, error_type, message = error
    headers = {"Retry-After": "7"} if message == fake.TOO_FAST else {}
    server.refusals.append(Refusal("POST /v1/transcriptions", *error, headers))
    job = job_of(tmp_path / "a.wav", [(1, 2)], seconds=3)
    jobs = client(server)

    with pytest.raises(StageError) as raised:
        await jobs.submit(job, await jobs.prepare(job))

    expected: dict[str, type[StageError]] = {
        fake.FILES_FULL: QuotaError,
        fake.STORAGE_FULL: QuotaError,
        fake.ORDERS_FULL: QuotaError,
        fake.PENDING_FULL: RetryableError,
        fake.TOO_FAST: RetryableError,
    }
    by_status: dict[int, type[StageError]] = {
        400: PermanentError, 401: PermanentError, 402: QuotaError, 403: PermanentError, 404: PermanentError,
        408: RetryableError, 409: RetryableError, 413: PermanentError, 500: RetryableError, 503: ProviderOutageError,
    }  # fmt: skip
    by_type: dict[str, type[StageError]] = {"file_not_found": RetryableError, "invalid_cursor": RetryableError}
    assert type(raised.value) is (expected.get(message) or by_type.get(error_type) or by_status[status])
    if isinstance(raised.value, RetryableError):
        assert raised.value.refused == (status in (404, 429))
        assert raised.value.retry_after_s == (7 if headers else None)
    assert message in str(raised.value)
    assert server.requests.count("POST /v1/transcriptions") == 1


@pytest.mark.parametrize("error_type", fake.JOB_ERRORS)
async def test_every_failure_of_an_order_has_its_class(error_type: str, server: FakeSoniox, tmp_path: Path) -> None:
    """Accepts the order and fails it later.

    Failures by the audio or the settings are permanent, others are ordered again (failures cost nothing). In both cases
    nothing may stay at Soniox.
    """
    server.fail_jobs.append(error_type)
    job = job_of(tmp_path / "a.wav", [(1, 2)], seconds=3)
    ours = error_type in (
        "invalid_audio_file", "transcription_output_too_long", "max_duration_reached", "model_not_available"
    )  # fmt: skip

    with pytest.raises(PermanentError if ours else RemoteJobGoneError, match=error_type):
        await transcribed(client(server), job)
    assert (server.orders, server.files) == ({}, {})


async def test_limits_of_the_server_are_distinguished(server: FakeSoniox, tmp_path: Path) -> None:
    """Exceeds the limits of requests per minute, of files and of transcriptions. Each must have its class."""
    job = job_of(tmp_path / "a.wav", [(1, 2)], seconds=3)
    jobs = client(server)
    server.max_files = 0
    with pytest.raises(QuotaError):
        await jobs.prepare(job)
    server.max_files, server.max_orders = 10, 0
    with pytest.raises(QuotaError):
        await jobs.submit(job, await jobs.prepare(job))
    server.per_minute = 0
    with pytest.raises(RetryableError) as raised:
        await jobs.prepare(job)
    assert (raised.value.retry_after_s, raised.value.refused) == (7, True)


async def test_check_names_the_setting(server: FakeSoniox) -> None:
    """Checks a valid setup, a wrong key, a wrong model and no server. Each failure must name its setting."""
    good = await client(server).check()
    assert (good.ok, good.fix) == (True, "")
    assert "stt-async-v5" in good.detail
    wrong_key = await client(server, key="wrong").check()
    assert "AUDIOTEXT_SONIOX__API_KEY" in wrong_key.fix
    assert fake.KEY not in wrong_key.detail
    wrong_model = await client(server, model="stt-async-v1").check()
    assert "AUDIOTEXT_SONIOX__MODEL to one of stt-async-v5" in wrong_model.fix
    server.refusals.append(Refusal("GET /v1/models", *fake.ERRORS[4]))
    assert "credit" in (await client(server).check()).fix
    await server.stop()
    away = await client(server).check()
    assert "AUDIOTEXT_SONIOX__BASE_URL" in away.fix
    assert not any(one.ok for one in (wrong_key, wrong_model, away))


async def test_a_proxys_page_is_retried(server: FakeSoniox) -> None:
    """Returns a 502 with HTML from a proxy. The error must be retryable."""
    error = api_error(502, b"<html>Bad Gateway</html>", {})
    assert type(error) is RetryableError
    assert "502" in str(error)


def test_too_long_a_call_is_refused_before_it_is_paid_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Uses a call that is longer than Soniox accepts. The error must be permanent, without an upload."""
    monkeypatch.setattr("pipelines.providers.soniox.transcriber._MAX_MINUTES", 0)
    jobs = Soniox(SonioxSettings(base_url="http://127.0.0.1:9"), "key")
    with pytest.raises(PermanentError, match="minutes"):
        asyncio.run(jobs.prepare(job_of(tmp_path / "a.wav", [(1, 2)], seconds=3)))


def test_the_configuration_has_all_that_changes_a_transcript() -> None:
    """Changes the model, language, terms and context: each is another job.

    The API key and the way of sending are not.
    """
    base = Soniox(SonioxSettings(), "one").config()
    assert Soniox(SonioxSettings(send="url"), "two").config() == base
    changed: list[SonioxSettings] = [
        SonioxSettings(model="stt-async-v4"), SonioxSettings(language_hints=("de",)), SonioxSettings(terms=("x",)),
        SonioxSettings(tenant_terms={"a": ("x",)}), SonioxSettings(context="x"),
    ]  # fmt: skip
    assert all(Soniox(settings, "one").config() != base for settings in changed)
    assert Soniox(SonioxSettings(), "one", language="de").config() != base
    json.dumps(base)


def test_terms_of_one_tenant_do_not_affect_another() -> None:
    """Adds terms for one tenant. Only its job keys may change, so that replays of other tenants order nothing."""
    before = Soniox(SonioxSettings(terms=("x",)), "key")
    after = Soniox(SonioxSettings(terms=("x",), tenant_terms={"a": ("Northwind",)}), "key")
    assert config_hash_for(after)("a") != config_hash_for(before)("a")
    assert config_hash_for(after)("b") == config_hash_for(before)("b")
    more = Soniox(SonioxSettings(terms=("x",), tenant_terms={"a": ("Northwind",), "b": ("y",)}), "key")
    assert config_hash_for(more)("a") == config_hash_for(after)("a")


def test_the_base_url_may_leave_the_version_out() -> None:
    """Uses both forms of the address, with and without a slash at the end. All must name the same API."""
    assert base_url("https://api.eu.soniox.com") == base_url("https://api.eu.soniox.com/v1/")
    assert base_url("http://proxy/soniox/v1") == "http://proxy/soniox/v1"


def test_the_documented_examples_are_read() -> None:
    """Parses the JSON of Soniox' documentation byte for byte."""
    examples = {name: json.dumps(entry["example"]) for name, entry in CONTRACT.items()}

    assert File.model_validate_json(examples["file"]).id == "84c32fc6-4fb5-4e7a-b656-b5ec70493753"
    assert Files.model_validate_json(examples["files"]).next_page_cursor == "cursor_or_null"
    created = Transcription.model_validate_json(examples["created"])
    assert (created.status, created.client_reference_id) == ("queued", "some_internal_id")
    completed = Transcription.model_validate_json(examples["completed"])
    assert (completed.status, completed.audio_duration_ms, completed.error_type) == ("completed", 16079, None)
    [word] = words_of(SonioxTranscript.model_validate_json(examples["transcript"]).tokens)
    assert (word.text, word.start_ms, word.end_ms, word.confidence) == ("Hello", 10, 160, 0.95)
    assert UsageLogs.model_validate_json(examples["usage_logs"]).usage_logs[0].cost_usd == Decimal("0.001625")
    refused = api_error(401, examples["unauthenticated"], {})
    assert isinstance(refused, PermanentError)
    assert "3d37a3bd" in str(refused)
    assert isinstance(api_error(400, examples["invalid_request"], {}), PermanentError)
    assert isinstance(api_error(429, examples["limit_of_files"], {}), QuotaError)
    assert isinstance(api_error(429, examples["limit_of_transcriptions"], {}), QuotaError)


def test_tokens_become_words() -> None:
    """Joins the tokens of the documented sentence: six words, the punctuation with the last one."""
    tokens = [
        Token(text=text, start_ms=start, end_ms=end, confidence=1)
        for text, start, end in CONTRACT["tokens_of_a_sentence"]["example"]
    ]
    words = words_of(tokens)

    assert [word.text for word in words] == ["What", " is", " your", " best", " seller", " here?"]
    assert [(word.start_ms, word.end_ms) for word in words][4:] == [(1200, 1380), (1440, 1680)]


def test_punctuation_without_a_language_keeps_that_of_the_word() -> None:
    """Joins a word in German and its full stop, which has no language. Otherwise each full stop ends a segment."""
    [word] = words_of(said(" Ja", language="de") + said(".", from_ms=100))

    assert (word.text, word.language) == (" Ja.", "de")


def said(*pieces: str, speaker: str | None = None, language: str | None = None, from_ms: int = 0) -> list[Token]:
    """Returns tokens of 100 ms each."""
    return [
        Token(
            text=piece, start_ms=from_ms + 100 * index, end_ms=from_ms + 100 * index + 100, confidence=0.9,
            speaker=speaker, language=language,
        )
        for index, piece in enumerate(pieces)
    ]  # fmt: skip


def test_languages_without_spaces_have_words_too() -> None:
    """Joins Chinese and Thai tokens, which have no spaces. Each must be a word, or a call would be one word."""
    assert [word.text for word in words_of(said("你", "好", "。", "再", "见"))] == ["你", "好。", "再", "见"]
    assert [word.text for word in words_of(said("Hé", "llo", " 你"))] == ["Héllo", " 你"]


def test_a_word_never_spans_two_speakers() -> None:
    """Starts a second speaker without a space. That must begin a new word and a new segment."""
    tokens = said("Yes", ".", speaker="1") + said("No", ".", speaker="2", from_ms=200)
    reel = trimmed_audio.TrimmedAudio(RATE, (trimmed_audio.Region(0, 0, 10 * RATE),))

    turns = turns_of(tokens, reel, ("inbound",), 10_000)
    assert [(turn.speaker, turn.text) for turn in turns] == [("speaker 1", "Yes."), ("speaker 2", "No.")]


def test_sounds_and_translations_are_not_words() -> None:
    """Parses sounds and translated tokens. They must be neither in the words nor in the language."""
    event = Token(text="[laughter]", start_ms=0, end_ms=1, confidence=1, is_audio_event=True, language="en")
    translated = Token(
        text=" Hallo", start_ms=0, end_ms=1, confidence=1, translation_status="translation", language="de"
    )
    spoken = said(" Bonjour", language="fr")

    assert [word.text for word in words_of([event, translated, *spoken])] == [" Bonjour"]
    assert language_of([event, translated, *spoken]) == "fr"
    assert language_of([event]) == "und"


def test_optional_parts_of_a_transcript() -> None:
    """Parses a translated token without times, and numbers as speakers."""
    heard = SonioxTranscript.model_validate(
        {
            "id": "1",
            "text": "Yes. Ja.",
            "tokens": [
                {"text": "Yes.", "start_ms": 0, "end_ms": 100, "speaker": 1},
                {"text": " Ja.", "start_ms": None, "end_ms": None, "translation_status": "translation"},
                {"text": " Ja.", "translation_status": "translation"},
            ],
        }
    )
    reel = trimmed_audio.TrimmedAudio(RATE, (trimmed_audio.Region(0, 0, RATE),))
    assert [turn.text for turn in turns_of(heard.tokens, reel, ("inbound",), 1000)] == ["Yes."]


async def test_a_missing_list_of_uploads_is_accepted(server: FakeSoniox, tmp_path: Path) -> None:
    """Returns 405 for the list of files: the audio must be uploaded.

    The list of orders is required: to take a missing list for an empty one would pay for orders twice.
    """
    server.refusals += [
        Refusal("GET /v1/files", 405, "", "Method not allowed"),
        Refusal("GET /v1/transcriptions", 405, "", "Method not allowed"),
    ]
    jobs = client(server)
    await transcribed(jobs, job_of(tmp_path / "a.wav", [(1, 2)], []))
    with pytest.raises(PermanentError):
        await jobs.find("key")


def test_a_failed_job_says_why() -> None:
    """Fails an order with and without a reason. The message must be readable."""
    assert "unknown" in str(failed_job(None, None))
