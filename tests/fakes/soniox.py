"""Soniox' asynchronous API as a real server, after its reference (https://soniox.com/docs/api-reference).

Deleting a transcription deletes its file too.
"""

import asyncio
import contextlib
import ssl
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes.refusals import Refusal, due
from tests.fakes.soniox_rules import (
    ERRORS,
    FILES_FULL,
    KEY,
    MAX_FILE_BYTES,
    MODELS,
    ORDERS_FULL,
    PENDING_FULL,
    STORAGE_FULL,
    TOO_FAST,
    StoredFile,
    file_body,
    invalid,
    logged,
    masked,
    new_id,
    no_order,
    problem_of,
    refused,
    stamp,
    tokens_of,
)  # fmt: skip
from tests.fakes.word_detector import UnreadableError, hear


@dataclass
class FakeSoniox:
    """The server. Its limits are the documented ones unless changed.

    takes_s: processing time of an order; 0 finishes it before the answer. fail_jobs: error types with which the next
    orders fail. forgets_webhooks: sends no webhook. hurry: once set, all orders finish at once. logs_late: usage logs
    stay empty. charges: lines in them per order.
    """

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
    charges: int = 1
    fail_jobs: deque[str] = field(default_factory=deque)
    refusals: list[Refusal] = field(default_factory=list)
    files: dict[str, StoredFile] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    ordered: Counter[str] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)
    audio: dict[str, bytes] = field(default_factory=dict)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    on_done: Callable[[str], None] = lambda _id: None
    url: str = ""
    ca_file: Path | None = None  # authority of the object storage that orders by URL refer to
    _times: deque[float] = field(default_factory=deque)
    _tokens: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _log: list[dict[str, Any]] = field(default_factory=list)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application(client_max_size=MAX_FILE_BYTES, middlewares=[self._guard])
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
        """Stops the server."""
        for task in self._tasks:
            task.cancel()
        if self._runner:
            await self._runner.cleanup()

    def age(self, by: timedelta) -> None:
        """Makes everything that is stored older."""
        for file in self.files.values():
            file.created_at -= by
        for order in self.orders.values():
            order["created_at"] = stamp(datetime.fromisoformat(order["created_at"]) - by)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.requests.append(line)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return refused(*ERRORS[3])
        now = asyncio.get_running_loop().time()
        while self._times and self._times[0] < now - 60:
            self._times.popleft()
        if len(self._times) >= self.per_minute:
            return refused(429, "limit_exceeded", TOO_FAST, {"Retry-After": "7"})
        self._times.append(now)
        if refusal := due(self.refusals, line):
            if refusal.taken:
                await handler(request)
            if not refusal.status and request.transport:
                request.transport.abort()
            return refused(refusal.status, refusal.error_type, refusal.message, refusal.headers)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"id": model, "aliased_model_id": None} for model in MODELS]})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form.get("file")
        if not isinstance(upload, web.FileField):
            return invalid("file.file", "Field required")
        audio = upload.file.read()
        if len(self.files) >= self.max_files:
            return refused(429, "limit_exceeded", FILES_FULL)
        if sum(len(file.audio) for file in self.files.values()) + len(audio) > self.max_bytes:
            return refused(429, "limit_exceeded", STORAGE_FULL)
        reference = form.get("client_reference_id")
        file = StoredFile(
            new_id(), upload.filename, audio, reference if isinstance(reference, str) else None, datetime.now(UTC)
        )
        self.files[file.id] = file
        return web.json_response(file_body(file), status=201)

    async def _list_files(self, request: web.Request) -> web.Response:
        found = [file_body(file) for file in self.files.values()]
        return self._paged(request, "files", found)

    async def _delete_file(self, request: web.Request) -> web.Response:
        if self.files.pop(request.match_info["id"], None) is None:
            return refused(404, "file_not_found", "File could not be found.")
        return web.Response(status=204)

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if problem := problem_of(asked):
            return invalid(*problem)
        pending = sum(order["status"] == "queued" for order in self.orders.values())
        if pending >= self.max_pending:
            return refused(429, "limit_exceeded", PENDING_FULL)
        if len(self.orders) >= self.max_orders:
            return refused(429, "limit_exceeded", ORDERS_FULL)
        file = self.files.get(asked.get("file_id", ""))
        if "file_id" in asked and file is None:
            return refused(404, "file_not_found", "File could not be found.")
        filename = file.filename if file else asked["audio_url"].split("?")[0].rsplit("/", 1)[-1]
        order = {
            "id": new_id(), "status": "queued", "created_at": stamp(datetime.now(UTC)), "filename": filename,
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
        return web.json_response(masked(order), status=201)

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
                self._tokens[order["id"]] = tokens_of(heard.sounds, order)
                order["status"] = "completed"
                self._log += [logged(order, heard.duration_ms) for _ in range(self.charges)]
        self.on_done(order["id"])
        if order.get("webhook_url") and not self.forgets_webhooks:
            await self._tell(order)

    async def _time_passes(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.hurry.wait(), self.takes_s / 2)

    async def _fetch(self, order: dict[str, Any]) -> bytes:
        if order["file_id"]:
            return self.files[order["file_id"]].audio
        tls = ssl.create_default_context(cafile=self.ca_file)
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(order["audio_url"], ssl=tls) as response,
        ):
            return await response.read()

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
        return self._paged(request, "transcriptions", [masked(order) for order in self.orders.values()])

    async def _get(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        return web.json_response(masked(order)) if order else no_order()

    async def _transcript(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        if order is None:
            return no_order()
        if order["status"] != "completed":
            return refused(409, "transcription_invalid_state", "Can only get transcript with completed status.")
        tokens = self._tokens[order["id"]]
        text = "".join(token["text"] for token in tokens).strip()
        return web.json_response({"id": order["id"], "text": text, "tokens": tokens})

    async def _delete(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        if order is None:
            return no_order()
        if order["status"] == "processing":
            return refused(409, "transcription_invalid_state", "Cannot delete transcription with processing status.")
        del self.orders[order["id"]]
        self.files.pop(order["file_id"] or "", None)
        return web.Response(status=204)

    async def _usage(self, request: web.Request) -> web.Response:
        try:
            start, end = (datetime.fromisoformat(request.query[name]) for name in ("start_time", "end_time"))
        except (KeyError, ValueError):
            return invalid("query.start_time", "Field required")
        if end - start > timedelta(days=31):
            return invalid("query", "The window must not exceed 31 days")
        entries = [e for e in self._log if start <= datetime.fromisoformat(e["end_time"]) < end]
        if request.query.get("sort") == "end_time_desc":
            entries.reverse()
        return self._paged(request, "usage_logs", [] if self.logs_late else entries)

    def _paged(self, request: web.Request, name: str, found: list[dict[str, Any]]) -> web.Response:
        limit = min(int(request.query.get("limit", 1000)), self.page)
        cursor = request.query.get("cursor", "0")
        if not cursor.isdigit():
            return refused(400, "invalid_cursor", "Invalid cursor parameter.")
        at = int(cursor)
        after = str(at + limit) if at + limit < len(found) else None
        return web.json_response({name: found[at : at + limit], "next_page_cursor": after})
