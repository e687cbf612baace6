"""OpenAI-compatible speech to text: against a fake server that behaves like three products, and documented examples."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
import soundfile
from pydantic import SecretStr

from core.settings import OpenAiSettings
from pipelines.providers.openai.transcriber import OpenAi, error_of
from pipelines.providers.openai.words import TranscriptionResponse, language_code, words_of
from pipelines.runtime.errors import (
    BilledFailureError,
    PermanentError,
    ProviderOutageError,
    QuotaError,
    RetryableError,
    StageError,
)
from tests.fakes import openai as fake
from tests.fakes.openai import FakeOpenAi
from tests.fakes.refusals import Refusal
from tests.support.transcription_jobs import job_of

CONTRACT: dict[str, Any] = json.loads((files("tests.fakes") / "openai_contract.json").read_text("utf-8"))
POST = "POST /v1/audio/transcriptions"


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAi]:
    """Starts a server for the test."""
    one = FakeOpenAi()
    await one.start()
    yield one
    await one.stop()


def client(server: FakeOpenAi, *, key: str = fake.KEY, language: str | None = None, **settings: Any) -> OpenAi:
    """Returns a client of that server."""
    return OpenAi(OpenAiSettings(base_url=server.url, api_key=SecretStr(key), **settings), language=language)


@pytest.mark.parametrize("flavour", ["openai", "speaches", "vllm"])
async def test_channels_are_transcribed_separately(
    flavour: Literal["openai", "speaches", "vllm"], server: FakeOpenAi, tmp_path: Path
) -> None:
    """Transcribes two channels whose audio overlaps, with the behaviour of each server.

    Each channel must be one mono request, and every word must come back on its channel at its time, with its full stop
    and a language code.
    """
    server.flavour = flavour
    job = job_of(tmp_path / "a.wav", [(1, 2), (15, 16)], [(1.5, 3.5), (16, 17.5)])

    engine = client(server, timestamps="segment" if flavour == "vllm" else "word")
    made = await engine.transcribe(job)
    transcript = made.transcript

    assert len(server.audio) == 2
    assert all(soundfile.info(io.BytesIO(audio)).channels == 1 for audio in server.audio)
    found = [(s.speaker, s.text, s.start_ms, s.end_ms) for s in transcript.segments]
    truth = [("inbound", 1000, 2000), ("outbound", 1500, 3500), ("inbound", 15000, 16000), ("outbound", 16000, 17500)]
    for (speaker, text, start_ms, end_ms), (true_speaker, true_start_ms, true_end_ms) in zip(found, truth, strict=True):
        assert (speaker, text) == (true_speaker, "Hello.")
        assert abs(start_ms - true_start_ms) <= 30
        assert abs(end_ms - true_end_ms) <= 30
    assert transcript.language == "en"
    assert all(0 < word.confidence <= 1 for segment in transcript.segments for word in segment.words)
    bill = made.bill
    assert bill is not None
    assert bill.audio_ms is not None
    assert 8_000 <= bill.audio_ms <= 13_000


async def test_a_long_call_is_sent_in_pieces(
    server: FakeOpenAi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transcribes audio in two places of a channel, in pieces of at most 5 s.

    Each piece must be one request, cut in the silence, and the times must be those of the call. Audio at 48 kHz is sent
    at 16 kHz.
    """
    monkeypatch.setattr("pipelines.providers.openai.transcriber._MAX_S", 5.0)
    job = job_of(tmp_path / "a.wav", [(1, 4), (6, 9)], [])
    wav, rate = soundfile.read(job.audio, dtype="int16")
    soundfile.write(job.audio, np.repeat(wav, 6, axis=0), rate * 6, subtype="PCM_16")

    transcript = (await client(server).transcribe(replace(job, duration_ms=20_000))).transcript

    [turn] = transcript.segments
    assert [round(word.start_ms / 1000) for word in turn.words] == [1, 6]
    assert len(server.audio) == 2
    infos = [soundfile.info(io.BytesIO(audio)) for audio in server.audio]
    assert all(info.samplerate == 16_000 and info.duration <= 5.01 for info in infos)


async def test_silence_is_not_sent(server: FakeOpenAi, tmp_path: Path) -> None:
    """Transcribes a silent call. It must cause no request, an empty transcript and no cost."""
    job = job_of(tmp_path / "a.wav", [], [], seconds=5)
    engine = client(server)
    made = await engine.transcribe(job)
    transcript = made.transcript

    assert (transcript.segments, transcript.language, server.forms) == ([], "und", [])
    bill = made.bill
    assert bill is not None
    assert bill.audio_ms == 0


async def test_what_was_heard_is_not_paid_for_again(server: FakeOpenAi, tmp_path: Path) -> None:
    """Fails one of two requests.

    The next attempt of the process must send only that one, with the same idempotency key.
    """
    job = job_of(tmp_path / "a.wav", [(1, 2)], [(3, 4)])
    server.refusals.append(Refusal(POST, 500, "server_error", "Sorry."))
    engine = client(server)
    with pytest.raises(RetryableError):
        await engine.transcribe(job)

    made = await engine.transcribe(job)
    transcript = made.transcript
    assert [segment.text for segment in transcript.segments] == ["Hello.", "Hello."]
    assert server.asked == {f"{job.key}-0": 1, f"{job.key}-1": 1}
    assert engine._responses == {}


async def test_settings_are_sent(server: FakeOpenAi, tmp_path: Path) -> None:
    """Sends the language and the prompt, and requests words."""
    await client(server, language="de", prompt="Northwind").transcribe(job_of(tmp_path / "a.wav", [(1, 2)], []))
    [form] = server.forms
    assert (form["language"], form["prompt"]) == (["de"], ["Northwind"])
    assert form["timestamp_granularities[]"] == ["word", "segment"]


@pytest.mark.parametrize("error", fake.ERRORS, ids=[f"{e[0]} {e[1]}" for e in fake.ERRORS])
async def test_every_documented_error_has_its_class(
    error: tuple[int, str, str], server: FakeOpenAi, tmp_path: Path
) -> None:
    """Returns each error of the guide.

    A 401 must never be retried, missing credit is a quota error although its status is 429, and a rate limit waits for
    the time that the server names.
    """
    status, code, message = error
    server.refusals.append(Refusal(POST, *error, {"Retry-After": "3"}))
    with pytest.raises(StageError) as raised:
        await client(server).transcribe(job_of(tmp_path / "a.wav", [(1, 2)], []))

    expected: dict[int, type[StageError]] = {
        400: PermanentError, 401: PermanentError, 403: PermanentError, 404: PermanentError, 408: RetryableError,
        409: RetryableError, 413: PermanentError, 422: PermanentError, 429: QuotaError, 500: RetryableError,
        503: ProviderOutageError,
    }  # fmt: skip
    rate = code in ("rate_limit_exceeded", "slow_down")
    assert type(raised.value) is (RetryableError if rate else expected[status])
    assert message in str(raised.value)
    if rate:
        assert isinstance(raised.value, RetryableError)
        assert raised.value.retry_after_s == 3
    assert sum(refusal.times for refusal in server.refusals) == 0


@pytest.mark.parametrize("body", ["<html>", "{}", '{"error": {"message": "overloaded"}}'])
async def test_a_200_that_is_no_transcript_is_none(
    body: str, server: FakeOpenAi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Returns a proxy's page, an empty object, and an error with status 200, as some servers do.

    The attempt must fail. Otherwise a transcript without words would be stored, published and charged.
    """
    engine = client(server)

    async def answered(*_: object, **__: object) -> httpx.Response:
        return httpx.Response(200, text=body)

    monkeypatch.setattr(engine._http, "post", answered)
    with pytest.raises(BilledFailureError):
        await engine.transcribe(job_of(tmp_path / "a.wav", [(1, 2)], []))


async def test_a_server_that_is_away_is_an_outage(server: FakeOpenAi, tmp_path: Path) -> None:
    """Uses an address without a server. The stage must pause."""
    await server.stop()
    with pytest.raises(ProviderOutageError):
        await client(server).transcribe(job_of(tmp_path / "a.wav", [(1, 2)], []))


async def test_a_server_that_hangs_is_retried(server: FakeOpenAi, tmp_path: Path) -> None:
    """Uses a server that does not respond in time. The error must be retryable."""
    server.takes_s = 60
    engine = OpenAi(OpenAiSettings(base_url=server.url, api_key=SecretStr(fake.KEY)), timeout_s=0.2)
    with pytest.raises(RetryableError, match="in time"):
        await engine.transcribe(job_of(tmp_path / "a.wav", [(1, 2)], []))


async def test_check_names_the_setting(server: FakeOpenAi) -> None:
    """Checks a valid setup, a wrong key, a wrong model and no server. Each failure must name its setting."""
    assert (await client(server).check()).ok
    assert "AUDIOTEXT_OPENAI__API_KEY" in (await client(server, key="wrong").check()).fix
    assert "AUDIOTEXT_OPENAI__MODEL to one of" in (await client(server, model="whisper-9").check()).fix
    await server.stop()
    assert "AUDIOTEXT_OPENAI__BASE_URL" in (await client(server).check()).fix


def test_the_configuration_has_all_that_changes_a_transcript() -> None:
    """Changes the server, model, language, prompt and kind of times: each is another job. Another key is not."""
    base = OpenAi(OpenAiSettings()).config()
    assert OpenAi(OpenAiSettings(api_key=SecretStr("x"))).config() == base
    for settings in (
        OpenAiSettings(base_url="http://localhost:8000/v1"), OpenAiSettings(model="x"), OpenAiSettings(prompt="x"),
        OpenAiSettings(timestamps="segment"),
    ):  # fmt: skip
        assert OpenAi(settings).config() != base
    assert OpenAi(OpenAiSettings(), language="de").config() != base
    json.dumps(base)


def read(name: str) -> TranscriptionResponse:
    """Parses a documented example."""
    return TranscriptionResponse.model_validate_json(json.dumps(CONTRACT[name]["example"]))


def test_openais_words_get_their_marks_from_the_text() -> None:
    """Parses the example of the API reference: the text has a full stop, the words do not.

    The charged audio is that in `usage`, which OpenAI rounds up.
    """
    answer = read("words")
    words = words_of(answer, 8470)
    assert [(word.text, word.start_ms, word.end_ms) for word in words] == [
        ("The", 0, 240),
        (" volleyball", 7400, 7900),
    ]
    assert (answer.billed_ms, language_code(answer.language)) == (9000, "en")


def test_words_follow_the_text() -> None:
    """Matches words to a text with punctuation.

    Punctuation belongs to the word before it, opening quotes and brackets to the word after. A word that the text lacks
    must neither be lost nor disturb the others.
    """
    answer = TranscriptionResponse.model_validate(
        {
            "text": "“Yes,” he said: it's $5 (or so)… d'accord?",
            "words": [
                {"word": word, "start": index, "end": index + 1}
                for index, word in enumerate(["Yes", "he", "said", "it's", "5", "uh", "or", "so", "d'accord"])
            ],
        }
    )
    texts = [word.text for word in words_of(answer, 9000)]
    assert texts == ["“Yes,”", " he", " said:", " it's", " $5", " uh", " (or", " so)…", " d'accord?"]


def test_languages_without_spaces() -> None:
    """Parses Chinese words. They must stay without spaces."""
    answer = TranscriptionResponse.model_validate(
        {
            "text": "你好。再见。",
            "words": [{"word": "你好", "start": 0, "end": 1}, {"word": "再见", "start": 1, "end": 2}],
            "language": "chinese",
        }
    )
    assert "".join(word.text for word in words_of(answer, 2000)) == "你好。再见。"
    assert language_code(answer.language) == "zh"


def test_words_of_segments_get_estimated_times() -> None:
    """Parses the documented segment without words: eleven words between its times, in order, with its confidence."""
    words = words_of(read("segments"), 8470)
    assert "".join(word.text for word in words).strip() == "The beach was a popular spot on a hot summer day."
    assert (words[0].start_ms, words[-1].end_ms) == (0, 3320)
    assert all(one.end_ms == two.start_ms for one, two in pairwise(words))
    assert {word.confidence for word in words} == {0.751}


def test_behaviour_of_other_servers() -> None:
    """Parses words of speaches, with spaces and probabilities, and a duration of vLLM, which is a string."""
    spoken = words_of(read("speaches"), 6540)
    assert [word.text for word in spoken] == ["When", " you", " call", " someone"]
    assert spoken[1].confidence == 0.997
    vllm = read("vllm")
    assert (vllm.billed_ms, len(words_of(vllm, 17_653))) == (17_653, 11)


def test_words_for_silence_are_left_out() -> None:
    """Parses a segment that the model itself takes for silence. Its words must be dropped, as Whisper does."""
    answer = TranscriptionResponse.model_validate(
        {
            "text": "Thanks for watching! Hello",
            "segments": [
                {"start": 0, "end": 2, "text": " Thanks for watching!", "no_speech_prob": 0.9, "avg_logprob": -1.4},
                {"start": 2, "end": 3, "text": " Hello", "no_speech_prob": 0.1, "avg_logprob": -0.2},
            ],
        }
    )
    assert [word.text for word in words_of(answer, 3000)] == [" Hello"]
    with_words = answer.model_copy(
        update={"words": TranscriptionResponse.model_validate({"words": [
            {"word": "watching", "start": 1, "end": 2}, {"word": "Hello", "start": 2, "end": 3},
        ]}).words}
    )  # fmt: skip
    assert [word.text.strip() for word in words_of(with_words, 3000)] == ["Hello"]


def test_a_text_without_times_has_those_of_its_audio() -> None:
    """Parses a response with text only. A rough time is better than no transcript."""
    words = words_of(TranscriptionResponse(text="one two"), 1000)
    assert [(word.text, word.start_ms, word.end_ms) for word in words] == [(" one", 0, 500), (" two", 500, 1000)]


def test_unknown_languages() -> None:
    """Maps names and codes of languages. An unknown one is undetermined."""
    assert [language_code(one) for one in ("German", "haitian creole", "de", "yue", "klingon", "")] == [
        "de", "ht", "de", "yue", "und", "und",
    ]  # fmt: skip


def test_the_documented_error_is_read() -> None:
    """Parses a 429 that is not a rate limit, and a proxy's page."""
    body = json.dumps(CONTRACT["error"]["example"])
    assert isinstance(error_of(httpx.Response(429, content=body)), QuotaError)
    assert type(error_of(httpx.Response(502, content="<html>"))) is RetryableError


async def test_of_two_errors_the_final_one_counts(server: FakeOpenAi, tmp_path: Path) -> None:
    """Rejects one request permanently and another temporarily.

    The permanent error must win, because a retry would not help.
    """
    server.refusals += [Refusal(POST, 500, "server_error", "Sorry."), Refusal(POST, 400, "invalid_value", "No.")]
    with pytest.raises(PermanentError):
        await asyncio.wait_for(client(server).transcribe(job_of(tmp_path / "a.wav", [(1, 2)], [(1, 2)])), 60)
