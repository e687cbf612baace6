"""A speech-to-text provider as the paid ones are: files, orders without idempotency keys, results to be fetched.

`Provider` is the server, which counts and can be told to misbehave; `Client` is what AudioText would use it with.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from pipelines.providers import Bill, RemoteJobGoneError, TranscriptionJob
from pipelines.runtime.errors import PermanentError, ProviderOutageError, RetryableError
from schemas.artifacts import Segment, Transcript

Misbehaviour = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Provider:
    """The server. orders: how often each key was ordered, which is what costs money; kept: what it still stores.

    before, after: called around an order being taken; an answer they give replaces the server's own.
    """

    orders: Counter[str] = field(default_factory=Counter)
    kept: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    looks_until_done: int = 1
    before: Misbehaviour | None = None
    after: Misbehaviour | None = None
    url: str = ""
    _looks: Counter[str] = field(default_factory=Counter)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/files", self._file)
        app.router.add_post("/orders", self._order)
        app.router.add_get("/orders", self._find)
        app.router.add_get("/orders/{id}", self._result)
        app.router.add_delete("/orders/{id}", self._release)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Ends it."""
        if self._runner:
            await self._runner.cleanup()

    async def _file(self, request: web.Request) -> web.Response:
        await request.read()
        self.files.add(request.query["key"])
        return web.json_response({"id": f"file-{request.query['key']}"})

    async def _order(self, request: web.Request) -> web.StreamResponse:
        if self.before and (answer := await self.before(request)):
            return answer
        key = (await request.json())["key"]
        self.orders[key] += 1
        remote_id = f"{key}-{self.orders[key]}"
        self.kept[remote_id] = key
        if self.after and (answer := await self.after(request)):
            return answer
        return web.json_response({"id": remote_id}, status=201)

    async def _find(self, request: web.Request) -> web.Response:
        found = [remote_id for remote_id, key in self.kept.items() if key == request.query["key"]]
        return web.json_response({"ids": found})

    async def _result(self, request: web.Request) -> web.Response:
        remote_id = request.match_info["id"]
        if remote_id not in self.kept:
            return web.json_response({}, status=404)
        self._looks[remote_id] += 1
        done = self._looks[remote_id] >= self.looks_until_done
        return web.json_response({"text": f"Heard {self.kept[remote_id]}." if done else None})

    async def _release(self, request: web.Request) -> web.Response:
        key = self.kept.pop(request.match_info["id"], None)
        self.files.discard(key or "")
        return web.json_response({}, status=204)


async def drop(request: web.Request) -> None:
    """Cuts the connection: the client never learns what became of its request."""
    if request.transport:
        request.transport.abort()
    await asyncio.sleep(0)


class Client:
    """RemoteJobs over that server."""

    name = "soniox"  # so that it has a price
    model = "fake"

    def __init__(self, url: str) -> None:
        self._url = url

    def config(self) -> Mapping[str, object]:
        return {"provider": "fake"}

    async def prepare(self, job: TranscriptionJob) -> str:
        audio = await asyncio.to_thread(job.audio.read_bytes)
        return str((await self._ask("POST", f"/files?key={job.key}", data=audio))["id"])

    async def submit(self, job: TranscriptionJob, prepared: str) -> str:
        return str((await self._ask("POST", "/orders", json={"key": job.key, "file": prepared}))["id"])

    async def find(self, key: str) -> str | None:
        ids = (await self._ask("GET", f"/orders?key={key}"))["ids"]
        return str(ids[0]) if isinstance(ids, list) and ids else None

    async def result(self, remote_id: str, job: TranscriptionJob) -> Transcript | None:
        try:
            text = (await self._ask("GET", f"/orders/{remote_id}"))["text"]
        except PermanentError as error:
            raise RemoteJobGoneError(f"{remote_id} is gone") from error
        if text is None:
            return None
        return Transcript(
            call_id=job.call_id,
            language="en",
            duration_ms=job.duration_ms,
            provider=self.name,
            model=self.model,
            segments=[Segment(start_ms=0, end_ms=500, channel=0, speaker=job.speakers[0], text=str(text))],
        )

    async def bill(self, remote_id: str) -> Bill | None:
        return None

    async def release(self, remote_id: str) -> None:
        await self._ask("DELETE", f"/orders/{remote_id}")

    async def tidy(self) -> int:
        return 0

    async def _ask(self, method: str, path: str, **body: object) -> dict[str, object]:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.request(method, self._url + path, **body) as answer,  # type: ignore[arg-type]  # data or json
            ):
                if answer.status == 429:
                    wait_s = float(answer.headers["Retry-After"])
                    raise RetryableError("429", retry_after_s=wait_s, refused=True)
                if answer.status >= 500:
                    raise RetryableError(f"{answer.status}")
                if answer.status >= 400:
                    raise PermanentError(f"{answer.status}")
                return {} if answer.status == 204 else dict(await answer.json())
        except aiohttp.ClientConnectorError as error:
            raise ProviderOutageError(f"no connection: {error}", refused=True) from error
        except aiohttp.ClientError as error:
            raise RetryableError(f"connection lost: {error}") from error
