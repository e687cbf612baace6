"""Soniox' REST API, as far as it is used: one request each, bodies as models. https://soniox.com/docs/api-reference"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from pipelines.providers.common.http import CONNECT_S, classified
from pipelines.providers.soniox.errors import error_of
from pipelines.providers.soniox.tokens import Heard
from pipelines.runtime.errors import RetryableError

_TIMEOUT_S = 60.0  # of one request; an upload makes progress or ends earlier
_PAGE = 1000  # the most a page can have
_LOG_PAGES = 3

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound="_Page")


class _Page(BaseModel):
    next_page_cursor: str | None = None


class File(BaseModel):
    """An upload."""

    id: str
    filename: str
    created_at: datetime


class Files(_Page):
    """A page of uploads."""

    files: list[File]


class Transcription(BaseModel):
    """An order. audio_duration_ms: once it is being worked at."""

    id: str
    status: str
    created_at: datetime
    filename: str = ""
    file_id: str | None = None
    audio_url: str | None = None
    audio_duration_ms: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    client_reference_id: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it will never be completed. The reference says "error", the page of errors "failed"."""
        return self.status in ("error", "failed")


class Transcriptions(_Page):
    """A page of orders."""

    transcriptions: list[Transcription]


class LogEntry(BaseModel):
    """A charge."""

    client_reference_id: str | None = None
    cost_usd: Decimal


class UsageLogs(_Page):
    """A page of charges."""

    usage_logs: list[LogEntry]


class _Model(BaseModel):
    id: str
    aliased_model_id: str | None = None


class _Models(BaseModel):
    models: list[_Model]


class SonioxApi:
    """A project's API. All raise pipelines.runtime.errors; deleting what is not there is no error."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url(url),
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(_TIMEOUT_S, connect=CONNECT_S),
        )

    async def models(self) -> list[str]:
        """Names of all models, aliases included."""
        models = _parsed(_Models, await self._ask("GET", "models")).models
        return [name for one in models for name in (one.id, one.aliased_model_id) if name]

    async def upload(self, filename: str, audio: bytes, reference: str) -> str:
        """Stores a file and gives its id."""
        file = {"file": (filename, audio, "audio/flac")}
        return _parsed(File, await self._ask("POST", "files", files=file, data={"client_reference_id": reference})).id

    async def files(self) -> AsyncIterator[File]:
        """All uploads; none where the server does not list them, as proxies of it may not."""
        async for page in self._pages(Files, "files", gone=(404, 405)):
            for one in page.files:
                yield one

    async def delete_file(self, file_id: str) -> None:
        """Deletes an upload."""
        await self._ask("DELETE", f"files/{file_id}", gone=(404,))

    async def create(self, order: dict[str, object]) -> str:
        """Orders a transcription, which costs money, and gives its id."""
        return _parsed(Transcription, await self._ask("POST", "transcriptions", json=order)).id

    async def transcriptions(self) -> AsyncIterator[Transcription]:
        """All orders. They cannot be filtered there."""
        async for page in self._pages(Transcriptions, "transcriptions"):
            for one in page.transcriptions:
                yield one

    async def transcription(self, remote_id: str) -> Transcription | None:
        """An order, if there is such."""
        answer = await self._ask("GET", f"transcriptions/{remote_id}", gone=(404,))
        return _parsed(Transcription, answer) if answer is not None else None

    async def transcript(self, remote_id: str) -> Heard | None:
        """What was heard, of a completed order; None if it is not there any more."""
        answer = await self._ask("GET", f"transcriptions/{remote_id}/transcript", gone=(404, 409))
        return _parsed(Heard, answer) if answer is not None else None

    async def delete_transcription(self, remote_id: str) -> None:
        """Deletes an order, with its file."""
        await self._ask("DELETE", f"transcriptions/{remote_id}", gone=(404,))

    async def charges(self, reference: str | None, since: datetime, until: datetime) -> list[Decimal]:
        """What was charged under a reference, in USD, as far as it is in the log. At most 31 days."""
        window = {"start_time": _timestamp(since), "end_time": _timestamp(until), "sort": "end_time_desc"}
        charges: list[Decimal] = []
        pages = 0
        async for page in self._pages(UsageLogs, "usage-logs", params=window):
            charges += [entry.cost_usd for entry in page.usage_logs if entry.client_reference_id == reference]
            pages += 1
            if pages == _LOG_PAGES:
                break
        return charges

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def _pages(
        self, model: type[P], path: str, *, gone: tuple[int, ...] = (), params: Mapping[str, str] | None = None
    ) -> AsyncIterator[P]:
        asked: dict[str, str | int] = {"limit": _PAGE, **(params or {})}
        while True:
            answer = await self._ask("GET", path, gone=gone, params=asked)
            if answer is None:
                return
            page = _parsed(model, answer)
            yield page
            if not page.next_page_cursor:
                return
            asked["cursor"] = page.next_page_cursor

    async def _ask(
        self, method: str, path: str, *, gone: tuple[int, ...] = (), **more: object
    ) -> httpx.Response | None:
        """The answer, or None for a status that means it is not there."""
        with classified("Soniox"):
            answer = await self._http.request(method, path, **more)  # type: ignore[arg-type]  # json, data, files, params
        if answer.is_success:
            return answer
        if answer.status_code in gone:
            return None
        raise error_of(answer.status_code, answer.content, answer.headers)


def base_url(configured: str) -> str:
    """Where the API begins: its version is part of it, also where only the server is named."""
    url = configured.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _parsed(model: type[M], answer: httpx.Response | None) -> M:
    """The body. Raises RetryableError for something else: a proxy's page, a server that is being changed."""
    try:
        return model.model_validate_json(answer.content if answer is not None else b"")
    except ValidationError as error:
        raise RetryableError(f"Soniox answered what its reference does not describe: {error}") from error


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
