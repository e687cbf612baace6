"""Every engine for speech to text behaves alike: the same input, the same shape of result, the same errors, the same
ledger. Whisper hears the real words; the servers behind the others hear a word wherever the audio that reaches them is
loud, so times and channels are about what was really sent.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import SecretStr

from core.health_check import HealthCheck
from core.settings import OpenAiSettings, PricingSettings, S3Settings, SonioxSettings
from pipelines.providers.base import RemoteJobs, SpeechToText
from pipelines.providers.openai.transcriber import OpenAi
from pipelines.providers.soniox.transcriber import Soniox
from pipelines.providers.whisper.transcriber import Whisper
from pipelines.runtime.errors import PermanentError, ProviderOutageError, QuotaError, RetryableError, StageError
from pipelines.transcribe.handler import SPEAKERS, TranscribeHandler
from schemas.artifacts import Transcript
from schemas.events import RecordingReady, TranscriptReady, UsageRecorded
from schemas.ids import config_hash
from sinks.object_store import ObjectStore
from tests.fakes import openai as fake_openai
from tests.fakes import soniox_rules as fake_soniox
from tests.fakes.openai import FakeOpenAi
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.support.demo_calls import TrueTurn, demo_call
from tests.support.ids import new_call
from tests.support.order_worker import TIMING
from tests.support.pipeline_events import recording
from tests.support.transcription_jobs import job_of

ENGINES = ("whisper", "soniox", "openai")
PAID = ("soniox", "openai")
CLIP_S = 12


@dataclass
class Speech:
    """An engine to be tried. new: another instance of it, as another process has. orders: how often somebody was asked
    to transcribe for money. order: the request that costs money, as "METHOD /path"; refusals: where to put answers to
    it instead of the server's own. stop: ends the server."""

    name: str
    new: Callable[[], SpeechToText | RemoteJobs]
    orders: Callable[[], int] = lambda: 0
    order: str = ""
    refusals: list[Refusal] = field(default_factory=list)
    server: FakeSoniox | FakeOpenAi | None = None


@pytest.fixture
async def speech(request: pytest.FixtureRequest) -> AsyncIterator[Speech]:
    """The engine of the test's parameter."""
    if request.param == "whisper":
        engine: Whisper = request.getfixturevalue("whisper")
        yield Speech("whisper", lambda: engine)
        return
    if request.param == "soniox":
        soniox = FakeSoniox(takes_s=0)
        await soniox.start()
        settings = SonioxSettings(base_url=soniox.url)
        yield Speech(
            "soniox",
            lambda: Soniox(settings, fake_soniox.KEY),
            lambda: sum(soniox.ordered.values()),
            "POST /v1/transcriptions",
            soniox.refusals,
            soniox,
        )
        await soniox.stop()
        return
    openai = FakeOpenAi()
    await openai.start()
    own = OpenAiSettings(base_url=openai.url, api_key=SecretStr(fake_openai.KEY))
    yield Speech(
        "openai",
        lambda: OpenAi(own),
        lambda: sum(openai.asked.values()),
        "POST /v1/audio/transcriptions",
        openai.refusals,
        openai,
    )
    await openai.stop()


every_engine = pytest.mark.parametrize("speech", ENGINES, indirect=True)
every_paid_engine = pytest.mark.parametrize("speech", PAID, indirect=True)


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


@pytest.fixture
def clip(objects: ObjectStore, tmp_path: Path) -> RecordingReady:
    """The first seconds of a demo call: a greeting, and the caller's trouble."""
    call = demo_call("broadband_outage")
    path = tmp_path / "a.wav"
    soundfile.write(path, call.samples[: CLIP_S * call.rate_hz], call.rate_hz, format="WAV", subtype="PCM_16")
    return stored(objects, path.read_bytes(), CLIP_S * 1000)


@cache
def said() -> tuple[TrueTurn, ...]:
    """What is really said in the demo call."""
    return demo_call("broadband_outage").turns


def is_said(channel: int, second: float) -> bool:
    """Whether somebody really speaks on that channel of the demo call then."""
    return any(turn.channel == channel and turn.start - 0.3 <= second <= turn.end + 0.3 for turn in said())


def stored(objects: ObjectStore, wav: bytes, duration_ms: int) -> RecordingReady:
    """A recording of a call of its own."""
    return recording(objects, new_call(), wav, duration_ms)


async def done(
    speech: Speech, objects: ObjectStore, event: RecordingReady
) -> tuple[TranscriptReady, Transcript, UsageRecorded]:
    """What a transcriber makes of a recording."""
    ready, usage = await TranscribeHandler(speech.new(), objects, PricingSettings(), TIMING)(event)
    assert isinstance(ready.event, TranscriptReady)
    assert isinstance(usage.event, UsageRecorded)
    transcript = Transcript.model_validate_json(objects.get_verified(ready.event.transcript))
    return ready.event, transcript, usage.event


def check_shape(transcript: Transcript, duration_ms: int) -> None:
    """What everybody who reads transcripts relies on."""
    assert transcript.duration_ms == duration_ms
    assert transcript.language.isalpha()
    assert transcript.language.islower()
    assert all(one.start_ms <= two.start_ms for one, two in pairwise(transcript.segments))
    for segment in transcript.segments:
        assert segment.speaker == SPEAKERS[segment.channel]
        assert 0 <= segment.start_ms <= segment.end_ms <= duration_ms
        assert segment.text == segment.text.strip() != ""
        assert segment.words
        assert "".join(word.text for word in segment.words).replace(" ", "") == segment.text.replace(" ", "")
        assert all(one.start_ms <= two.start_ms for one, two in pairwise(segment.words))
        for word in segment.words:
            assert segment.start_ms <= word.start_ms <= word.end_ms <= segment.end_ms
            assert word.text == word.text.strip() != ""
            assert 0 <= word.confidence <= 1


@every_engine
async def test_a_call_has_the_same_transcript_and_the_same_line(
    speech: Speech, objects: ObjectStore, clip: RecordingReady
) -> None:
    """A real call, through the transcriber. The transcript has the shape everybody reads, with both speakers in it, and
    each word lies in a turn its speaker really said. The line has the same units and price whoever transcribed; the
    cost is the provider's rate times the audio it counted, or what it says. Told again by another process it is the
    same line, and nobody is paid a second time."""
    ready, transcript, usage = await done(speech, objects, clip)
    paid = speech.orders()
    again, _, usage_again = await done(speech, objects, clip)

    check_shape(transcript, CLIP_S * 1000)
    assert (transcript.provider, ready.provider) == (speech.name, speech.name)
    assert transcript.model == ready.model == speech.new().model
    assert (transcript.language, ready.language) == ("en", "en")
    assert {segment.speaker for segment in transcript.segments} == set(SPEAKERS)
    for segment in transcript.segments:
        for word in segment.words:
            assert is_said(segment.channel, (word.start_ms + word.end_ms) / 2000), word

    assert usage.key == f"transcription_{ready.transcript_id}"
    assert (usage.units, usage.price, usage.currency) == (10, Decimal("0.0020"), "USD")
    per_hour = {
        "whisper": PricingSettings().whisper_per_hour,
        "soniox": fake_soniox.COST_PER_HOUR,
        "openai": PricingSettings().openai_per_hour,
    }[speech.name]
    assert (usage.provider_ms is None) == (speech.name == "whisper")
    counted_ms = CLIP_S * 1000 if usage.provider_ms is None else usage.provider_ms
    assert abs(usage.provider_cost - per_hour * counted_ms / 3_600_000) <= Decimal("0.000001")
    assert CLIP_S * 500 < counted_ms <= CLIP_S * 2100
    assert usage_again.model_dump_json() == usage.model_dump_json()
    assert (again.event_id, again.transcript, again.engine_ms) == (ready.event_id, ready.transcript, 0)
    assert speech.orders() == paid


@every_engine
async def test_a_silent_call_has_nothing_said(speech: Speech, objects: ObjectStore, tmp_path: Path) -> None:
    """Five seconds of silence, and a recording of no samples: an empty transcript in no language, and a line."""
    for seconds in (5, 0):
        job = job_of(tmp_path / "a.wav", [], [], seconds=seconds)
        _, transcript, usage = await done(speech, objects, stored(objects, job.audio.read_bytes(), job.duration_ms))
        assert (transcript.segments, transcript.language) == ([], "und")
        assert usage.units == seconds * 50 // 60


@every_engine
@pytest.mark.parametrize("kind", ["noise", "empty", "another number of channels"])
async def test_what_is_no_recording_is_given_up(
    kind: str, speech: Speech, objects: ObjectStore, tmp_path: Path
) -> None:
    """It will not get better: permanent, with a reason, and nobody is paid for it."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((8000, 1), np.int16), 8000)
    wav = {"noise": b"\x00\x01" * 5000, "empty": b"", "another number of channels": path.read_bytes()}[kind]

    with pytest.raises(PermanentError, match="the recording"):
        await done(speech, objects, stored(objects, wav, 1000))
    assert speech.orders() == 0


@every_paid_engine
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, PermanentError),
        (401, PermanentError),
        (402, QuotaError),
        (403, PermanentError),
        (408, RetryableError),
        (429, RetryableError),
        (500, RetryableError),
        (502, RetryableError),
        (503, ProviderOutageError),
        (0, RetryableError),
    ],
)
async def test_refusals_have_the_same_class(
    status: int, expected: type[StageError], speech: Speech, objects: ObjectStore, tmp_path: Path
) -> None:
    """The status of an answer to the request that costs money, from whichever provider: the same class (status 0: the
    connection breaks). One request was made, and none is repeated in the same attempt: a 401 least of all."""
    refusal = Refusal(speech.order, status, "", "No.", {"Retry-After": "7"}, times=9)
    speech.refusals.append(refusal)
    job = job_of(tmp_path / "a.wav", [(1, 2)], [])

    with pytest.raises(StageError) as raised:
        await done(speech, objects, stored(objects, job.audio.read_bytes(), job.duration_ms))
    assert type(raised.value) is expected
    assert refusal.times == 8
    if status == 429:
        assert isinstance(raised.value, RetryableError)
        assert raised.value.retry_after_s == 7


@every_paid_engine
async def test_a_provider_that_is_away_pauses_the_stage(speech: Speech, objects: ObjectStore, tmp_path: Path) -> None:
    """Nobody listens: an outage, which costs no attempts."""
    assert speech.server
    await speech.server.stop()
    job = job_of(tmp_path / "a.wav", [(1, 2)], [])
    with pytest.raises(ProviderOutageError):
        await done(speech, objects, stored(objects, job.audio.read_bytes(), job.duration_ms))


@every_engine
async def test_each_tells_whether_it_can_be_used(speech: Speech) -> None:
    """`audiotext doctor` asks every engine the same question, and all is well here."""
    engine = speech.new()
    assert isinstance(engine, HealthCheck)
    found = await engine.check()
    assert (found.ok, found.fix) == (True, "")
    assert engine.model in found.detail


@every_engine
def test_a_configuration_can_be_hashed(speech: Speech) -> None:
    """It is part of every job's key: JSON, the same for the same settings, with provider and model in it."""
    config = speech.new().config()
    assert config_hash(config) == config_hash(speech.new().config())
    assert config["provider"] == speech.name
    assert "model" in json.loads(json.dumps(config))
