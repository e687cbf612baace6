"""POST /v1/audio/transcriptions as a real server, like OpenAI, speaches and vLLM answer it.

Reference: https://platform.openai.com/docs/api-reference/audio
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from tests.fakes.refusals import Refusal, due
from tests.fakes.word_detector import UnreadableError, hear

KEY = "sk-of-the-fake"
MODELS = ("whisper-1", "gpt-4o-transcribe")
MOST_BYTES = 25 * 1024 * 1024

# https://platform.openai.com/docs/guides/error-codes: status, code, message.
ERRORS: tuple[tuple[int, str, str], ...] = (
    (400, "invalid_service_tier", "Invalid service_tier argument"),
    (400, "unsupported_value", "response_format 'verbose_json' is not compatible with model 'gpt-4o-transcribe'"),
    (401, "invalid_api_key", "Incorrect API key provided"),
    (401, "invalid_authentication", "Invalid Authentication"),
    (401, "not_a_member", "You must be a member of an organization to use the API"),
    (401, "ip_not_authorized", "Your request IP does not match the configured IP allowlist"),
    (403, "unsupported_country_region_territory", "Country, region, or territory not supported"),
    (404, "model_not_found", "The model does not exist or you do not have access to it"),
    (408, "timeout", "Request timed out"),
    (409, "conflict", "The resource was updated by another request"),
    (413, "content_too_large", "Maximum content size limit (26214400) exceeded"),
    (422, "unprocessable", "Unable to process the request despite the format being correct"),
    (429, "rate_limit_exceeded", "Rate limit reached for requests"),
    (429, "slow_down", "Slow down"),
    (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details"),
    (429, "credit_balance_exhausted", "Your organization has no prepaid credits left"),
    (429, "organization_spend_limit_exceeded", "Organization spend limit reached"),
    (429, "project_spend_limit_exceeded", "Project spend limit reached"),
    (429, "organization_usage_limit_exceeded", "Organization usage limit reached"),
    (500, "server_error", "The server had an error while processing your request"),
    (503, "overloaded", "The engine is currently overloaded, please try again later"),
)


@dataclass
class FakeOpenAi:
    """The server. flavour: the product that it imitates.

    asked: number of paid transcriptions by idempotency key.
    """

    flavour: Literal["openai", "speaches", "vllm"] = "openai"
    takes_s: float = 0.0
    refusals: list[Refusal] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    audio: list[bytes] = field(default_factory=list)
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application(client_max_size=MOST_BYTES + 1_000_000, middlewares=[self._guard])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Stops the server."""
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.flavour == "openai" and request.headers.get("Authorization") != f"Bearer {KEY}":
            return _error(401, "invalid_api_key", "Incorrect API key provided")
        if refusal := due(self.refusals, f"{request.method} {request.path}"):
            if refusal.taken:
                await handler(request)
            else:
                await request.read()  # or the client, still sending, sees a lost connection
            if not refusal.status and request.transport:
                request.transport.abort()
            return _error(refusal.status or 500, refusal.error_type, refusal.message, refusal.headers)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": one, "object": "model"} for one in MODELS]})

    async def _transcribe(self, request: web.Request) -> web.Response:  # noqa: PLR0911 - one rule after the other
        form = await request.post()
        upload = form.get("file")
        if not isinstance(upload, web.FileField):
            return _error(400, "missing_required_parameter", "Missing required parameter: 'file'")
        audio = upload.file.read()
        asked = {name: [str(value) for value in form.getall(name)] for name in form if name != "file"}
        self.forms.append(asked)
        if len(audio) > MOST_BYTES:
            return _error(413, "content_too_large", "Maximum content size limit (26214400) exceeded")
        if asked["model"][0] not in MODELS:
            return _error(404, "model_not_found", "The model does not exist or you do not have access to it")
        if asked["response_format"] != ["verbose_json"] or asked["model"] == ["gpt-4o-transcribe"]:
            return _error(400, "unsupported_value", "response_format is not compatible with the model")
        words = "word" in asked.get("timestamp_granularities[]", [])
        if words and self.flavour == "vllm":
            return _error(400, "unsupported_value", "timestamp_granularities: word is not supported")
        self.asked[request.headers.get("Idempotency-Key", "")] += 1
        await asyncio.sleep(self.takes_s)
        try:
            heard = hear(audio)
        except UnreadableError:
            return _error(400, "invalid_value", "Audio file might be corrupted or unsupported")
        self.audio.append(audio)
        return web.json_response(self._answer(heard.duration_ms / 1000, heard.sounds, words))

    def _answer(self, seconds: float, sounds: list[tuple[int, int]], words: bool) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "task": "transcribe",
            "language": "english" if self.flavour == "openai" else "en",
            "duration": str(seconds) if self.flavour == "vllm" else seconds,
            "text": " ".join(["Hello."] * len(sounds)),
            "segments": [_segment(number, sound) for number, sound in enumerate(sounds)],
        }
        if words:
            word = {"word": "Hello"} if self.flavour == "openai" else {"word": " Hello.", "probability": 0.9}
            answer["words"] = [word | {"start": start / 1000, "end": end / 1000} for start, end in sounds]
        if self.flavour == "openai":
            answer["usage"] = {"type": "duration", "seconds": -(-int(seconds * 1000) // 1000)}
        return answer


def _segment(number: int, sound: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": number, "seek": 0, "start": sound[0] / 1000, "end": sound[1] / 1000, "text": " Hello.", "tokens": [1],
        "temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.2, "no_speech_prob": 0.01,
    }  # fmt: skip


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)
