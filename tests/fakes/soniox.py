"""Soniox' asynchronous API as its reference describes it (https://soniox.com/docs/api-reference), as a real server.

What the reference leaves open follows what its users report: both kinds of limit are `limit_exceeded`, told apart by
their message (https://github.com/Actual-Chat/actual-chat/issues/4223, https://github.com/TypeWhisper/typewhisper-mac/
issues/1063); a transcription takes its file with it when it is deleted.
"""

import asyncio
import contextlib
import json
import re
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes.hearing import UnreadableError, hear

KEY = "a-key-of-the-fake"
MODELS = ("stt-async-v5", "stt-rt-v5")
COST_PER_HOUR = Decimal("0.0975")
_MAX_FILE_BYTES = 1_073_741_824
_PIECES = (" he", "llo", ".")

FILES_FULL = "Total file count limit has been exceeded for your organization. Please delete some."
STORAGE_FULL = "Total file storage limit has been exceeded for your organization. Please delete some."
ORDERS_FULL = "Total transcription count limit for your organization has been exceeded. Please delete some."
PENDING_FULL = "Pending transcription count limit has been exceeded. Please wait for some to finish."
TOO_FAST = "Requests per minute limit has been exceeded. Please try again later."

# Every error of a request the reference lists for what is used here: status, error_type, message.
ERRORS: tuple[tuple[int, str, str], ...] = (
    (400, "invalid_request", "Invalid request."),
    (400, "invalid_cursor", "Invalid cursor parameter."),
    (400, "model_not_available", "The model is not available."),
    (401, "unauthenticated", "Incorrect API key provided. You can get an API key at https://console.soniox.com"),
    (402, "organization_balance_exhausted", "Organization balance exhausted."),
    (402, "organization_monthly_budget_exhausted", "Organization monthly budget exhausted."),
    (402, "project_monthly_budget_exhausted", "Project monthly budget exhausted."),
    (403, "permission_denied", "Permission denied."),
    (403, "temp_api_key_session_expired", "Session of the temporary API key expired."),
    (404, "file_not_found", "File could not be found."),
    (404, "transcription_not_found", "Transcription could not be found."),
    (408, "request_timeout", "Request timeout."),
    (409, "transcription_invalid_state", "Cannot delete transcription with processing status."),
    (413, "max_duration_reached", "Maximum duration reached."),
    (429, "limit_exceeded", FILES_FULL),
    (429, "limit_exceeded", STORAGE_FULL),
    (429, "limit_exceeded", ORDERS_FULL),
    (429, "limit_exceeded", PENDING_FULL),
    (429, "limit_exceeded", TOO_FAST),
    (500, "internal_error", "The server encountered an error. Please try again."),
    (503, "service_unavailable", "Service unavailable."),
)
# Why a transcription that was taken can fail later.
JOB_ERRORS = (
    "invalid_audio_file",
    "transcription_output_too_long",
    "max_duration_reached",
    "model_not_available",
    "file_download_error",
    "file_download_timeout",
    "organization_balance_exhausted",
    "internal_error",
    "service_unavailable",
)


@dataclass
class Refusal:
    """An answer instead of the server's own, to requests whose "METHOD /path" matches; status 0: none, the connection
    is cut. taken: the request has its effect all the same."""

    request: str
    status: int
    error_type: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    taken: bool = False


@dataclass
class _File:
    id: str
    filename: str
    audio: bytes
    reference: str | None
    created_at: datetime


@dataclass
class FakeSoniox:
    """The server. Limits are the documented ones unless changed. takes_s: how long an order is
    processed, 0 is done before the order is answered; fail_jobs:
    error types with which the next orders fail; forgets_webhooks: says nothing; hurry: once set, all is done at once;
    logs_late: usage logs stay empty."""

    max_files: int = 1_000
    max_bytes: int = 10 * 1024**3
    max_orders: int = 2_000
    max_pending: int = 100
    max_minutes: int = 300
    per_minute: int = 500
    page: int = 1_000
    takes_s: float = 0.02
    forgets_webhooks: bool = False
    logs_late: bool = False
    fail_jobs: deque[str] = field(default_factory=deque)
    refusals: list[Refusal] = field(default_factory=list)
    files: dict[str, _File] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    ordered: Counter[str] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)
    audio: dict[str, bytes] = field(default_factory=dict)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    on_done: Callable[[str], None] = lambda _id: None
    url: str = ""
    _times: deque[float] = field(default_factory=deque)
    _tokens: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _log: list[dict[str, Any]] = field(default_factory=list)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application(client_max_size=_MAX_FILE_BYTES, middlewares=[self._guard])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files", self._list_files)
        app.router.add_delete("/v1/files/{id}", self._delete_file)
        app.router.add_post("/v1/transcriptions", self._create)
        app.router.add_get("/v1/transcriptions", self._list_orders)
        app.router.add_get("/v1/transcriptions/{id}", self._get)
        app.router.add_delete("/v1/transcriptions/{id}", self._delete)
        app.router.add_get("/v1/transcriptions/{id}/transcript", self._transcript)
        app.router.add_get("/v1/usage-logs", self._usage)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Ends it."""
        for task in self._tasks:
            task.cancel()
        if self._runner:
            await self._runner.cleanup()

    def age(self, by: timedelta) -> None:
        """Makes all that is kept older."""
        for file in self.files.values():
            file.created_at -= by
        for order in self.orders.values():
            order["created_at"] = _stamp(datetime.fromisoformat(order["created_at"]) - by)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.requests.append(line)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return _error(*ERRORS[3])
        now = asyncio.get_running_loop().time()
        while self._times and self._times[0] < now - 60:
            self._times.popleft()
        if len(self._times) >= self.per_minute:
            return _error(429, "limit_exceeded", TOO_FAST, {"Retry-After": "7"})
        self._times.append(now)
        for refusal in self.refusals:
            if refusal.times and re.fullmatch(refusal.request, line):
                refusal.times -= 1
                if refusal.taken:
                    await handler(request)
                if not refusal.status and request.transport:
                    request.transport.abort()
                return _error(refusal.status, refusal.error_type, refusal.message, refusal.headers)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"id": model, "aliased_model_id": None} for model in MODELS]})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form.get("file")
        if not isinstance(upload, web.FileField):
            return _invalid("file.file", "Field required")
        audio = upload.file.read()
        if len(self.files) >= self.max_files:
            return _error(429, "limit_exceeded", FILES_FULL)
        if sum(len(file.audio) for file in self.files.values()) + len(audio) > self.max_bytes:
            return _error(429, "limit_exceeded", STORAGE_FULL)
        reference = form.get("client_reference_id")
        file = _File(
            _uuid(), upload.filename, audio, reference if isinstance(reference, str) else None, datetime.now(UTC)
        )
        self.files[file.id] = file
        return web.json_response(_told(file), status=201)

    async def _list_files(self, request: web.Request) -> web.Response:
        found = [_told(file) for file in self.files.values()]
        return self._paged(request, "files", found)

    async def _delete_file(self, request: web.Request) -> web.Response:
        if self.files.pop(request.match_info["id"], None) is None:
            return _error(404, "file_not_found", "File could not be found.")
        return web.Response(status=204)

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if problem := _problem_of(asked):
            return _invalid(*problem)
        pending = sum(order["status"] == "queued" for order in self.orders.values())
        if pending >= self.max_pending:
            return _error(429, "limit_exceeded", PENDING_FULL)
        if len(self.orders) >= self.max_orders:
            return _error(429, "limit_exceeded", ORDERS_FULL)
        file = self.files.get(asked.get("file_id", ""))
        if "file_id" in asked and file is None:
            return _error(404, "file_not_found", "File could not be found.")
        filename = file.filename if file else asked["audio_url"].split("?")[0].rsplit("/", 1)[-1]
        order = {
            "id": _uuid(), "status": "queued", "created_at": _stamp(datetime.now(UTC)), "filename": filename,
            "audio_duration_ms": None, "error_type": None, "error_message": None, "webhook_status_code": None,
            "file_id": None, "audio_url": None, "language_hints": None, "client_reference_id": None,
            "enable_speaker_diarization": False, "enable_language_identification": False,
        } | asked  # fmt: skip
        self.orders[order["id"]] = order
        self.ordered[order["client_reference_id"] or ""] += 1
        task = asyncio.create_task(self._process(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self.takes_s:
            await task
        return web.json_response(_masked(order), status=201)

    async def _process(self, order: dict[str, Any]) -> None:
        await self._time_passes()
        order["status"] = "processing"
        await self._time_passes()
        try:
            audio = await self._fetch(order)
            heard = hear(audio)
        except (aiohttp.ClientError, KeyError):
            self._fail(order, "file_download_error")
        except UnreadableError:
            self._fail(order, "invalid_audio_file")
        else:
            order["audio_duration_ms"] = heard.duration_ms
            self.audio[order["client_reference_id"] or ""] = audio
            if heard.duration_ms > self.max_minutes * 60_000:
                self._fail(order, "max_duration_reached")
            elif self.fail_jobs:
                self._fail(order, self.fail_jobs.popleft())
            else:
                self._tokens[order["id"]] = _tokens(heard.sounds, order)
                order["status"] = "completed"
                self._log.append(_logged(order, heard.duration_ms))
        self.on_done(order["id"])
        if order.get("webhook_url") and not self.forgets_webhooks:
            await self._tell(order)

    async def _time_passes(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.hurry.wait(), self.takes_s / 2)

    async def _fetch(self, order: dict[str, Any]) -> bytes:
        if order["file_id"]:
            return self.files[order["file_id"]].audio
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(order["audio_url"]) as answer:
            return await answer.read()

    async def _tell(self, order: dict[str, Any]) -> None:
        headers = {order["webhook_auth_header_name"]: order["webhook_auth_header_value"]}
        body = {"id": order["id"], "status": order["status"]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(order["webhook_url"], json=body, headers=headers) as answer,
        ):
            order["webhook_status_code"] = answer.status

    @staticmethod
    def _fail(order: dict[str, Any], error_type: str) -> None:
        order.update(status="error", error_type=error_type, error_message=f"It is {error_type}.")

    async def _list_orders(self, request: web.Request) -> web.Response:
        return self._paged(request, "transcriptions", [_masked(order) for order in self.orders.values()])

    async def _get(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        return web.json_response(_masked(order)) if order else _no_order()

    async def _transcript(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        if order is None:
            return _no_order()
        if order["status"] != "completed":
            return _error(409, "transcription_invalid_state", "Can only get transcript with completed status.")
        tokens = self._tokens[order["id"]]
        text = "".join(token["text"] for token in tokens).strip()
        return web.json_response({"id": order["id"], "text": text, "tokens": tokens})

    async def _delete(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        if order is None:
            return _no_order()
        if order["status"] == "processing":
            return _error(409, "transcription_invalid_state", "Cannot delete transcription with processing status.")
        del self.orders[order["id"]]
        self.files.pop(order["file_id"] or "", None)
        return web.Response(status=204)

    async def _usage(self, request: web.Request) -> web.Response:
        try:
            start, end = (datetime.fromisoformat(request.query[name]) for name in ("start_time", "end_time"))
        except (KeyError, ValueError):
            return _invalid("query.start_time", "Field required")
        if end - start > timedelta(days=31):
            return _invalid("query", "The window must not exceed 31 days")
        entries = [e for e in self._log if start <= datetime.fromisoformat(e["end_time"]) < end]
        if request.query.get("sort") == "end_time_desc":
            entries.reverse()
        return self._paged(request, "usage_logs", [] if self.logs_late else entries)

    def _paged(self, request: web.Request, name: str, found: list[dict[str, Any]]) -> web.Response:
        limit = min(int(request.query.get("limit", 1000)), self.page)
        cursor = request.query.get("cursor", "0")
        if not cursor.isdigit():
            return _error(400, "invalid_cursor", "Invalid cursor parameter.")
        at = int(cursor)
        after = str(at + limit) if at + limit < len(found) else None
        return web.json_response({name: found[at : at + limit], "next_page_cursor": after})


def _problem_of(asked: dict[str, Any]) -> tuple[str, str] | None:  # noqa: PLR0911 - one rule after the other
    """What is wrong with an order: where, and what."""
    if not isinstance(asked.get("model"), str) or len(asked["model"]) > 32:
        return "body.payload.model", "Field required"
    if asked["model"] not in MODELS or "-rt-" in asked["model"]:
        return "body.payload.model", "Invalid model"
    if ("file_id" in asked) == ("audio_url" in asked):
        return "body.payload", "Exactly one of audio_url and file_id must be given"
    for name, most in (("audio_url", 4096), ("webhook_url", 256)):
        if name in asked and (len(asked[name]) > most or not re.fullmatch(r"https?://[^\s]+", asked[name])):
            return f"body.payload.{name}", "Invalid URL"
    for name in ("client_reference_id", "webhook_auth_header_name", "webhook_auth_header_value"):
        if len(asked.get(name, "")) > 256:
            return f"body.payload.{name}", "String should have at most 256 characters"
    if len(json.dumps(asked.get("context", ""))) > 10_000:
        return "body.payload.context", "Context is too long"
    return None


def _tokens(sounds: list[tuple[int, int]], order: dict[str, Any]) -> list[dict[str, Any]]:
    """A word in three pieces for each sound; with diarization two speakers take turns."""
    tokens = []
    for number, (start_ms, end_ms) in enumerate(sounds):
        third = (end_ms - start_ms) // 3
        for index, piece in enumerate(_PIECES):
            token: dict[str, Any] = {
                "text": piece,
                "start_ms": start_ms + index * third,
                "end_ms": end_ms if index == 2 else start_ms + (index + 1) * third,
                "confidence": 0.9 + index / 100,
            }
            if order["enable_speaker_diarization"]:
                token["speaker"] = str(number % 2 + 1)
            if order["enable_language_identification"]:
                token["language"] = (order["language_hints"] or ["en"])[0]
            tokens.append(token)
    return tokens


def _logged(order: dict[str, Any], duration_ms: int) -> dict[str, Any]:
    cost = (COST_PER_HOUR * duration_ms / 3_600_000).quantize(Decimal("0.0000000001"))
    return {
        "uuid": _uuid(), "request_scope": "api", "client_reference_id": order["client_reference_id"],
        "model": order["model"], "start_time": order["created_at"], "end_time": _stamp(datetime.now(UTC)),
        "input_audio_duration_ms": duration_ms, "cost_usd": str(cost),
    }  # fmt: skip


def _told(file: _File) -> dict[str, Any]:
    return {
        "id": file.id, "filename": file.filename, "size": len(file.audio), "created_at": _stamp(file.created_at),
        "client_reference_id": file.reference,
    }  # fmt: skip


def _masked(order: dict[str, Any]) -> dict[str, Any]:
    hidden = {"webhook_auth_header_value": "*" * 18} if order.get("webhook_auth_header_value") else {}
    return order | hidden


def _error(status: int, error_type: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {
        "status_code": status, "error_type": error_type, "message": message, "validation_errors": [],
        "request_id": _uuid(),
    }  # fmt: skip
    return web.json_response(body, status=status or 500, headers=headers)


def _invalid(location: str, message: str) -> web.Response:
    body = {
        "status_code": 400, "error_type": "invalid_request", "message": "Invalid request.",
        "validation_errors": [{"error_type": "value_error", "location": location, "message": message}],
        "request_id": _uuid(),
    }  # fmt: skip
    return web.json_response(body, status=400)


def _no_order() -> web.Response:
    return _error(404, "transcription_not_found", "Transcription could not be found.")


def _uuid() -> str:
    return str(uuid.uuid4())


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
