"""Client of Soniox' REST API. Each method sends one request or reads one list.

Source: https://soniox.com/docs/api-reference
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from pipelines.providers.common.http import CONNECT_S, translate_http_errors
from pipelines.providers.soniox.errors import api_error
from pipelines.providers.soniox.tokens import SonioxTranscript
from pipelines.runtime.errors import RetryableError

_TIMEOUT_S = 60.0  # of each read and write of a request, so a long upload may take longer
_PAGE = 1000  # the maximum page size
_LOG_PAGES = 3

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound="_Page")


class _Page(BaseModel):
    next_page_cursor: str | None = None


class File(BaseModel):
    """An uploaded file."""

    id: str
    filename: str
    created_at: datetime


class Files(_Page):
    """A page of uploads."""

    files: list[File]


class Transcription(BaseModel):
    """An order. audio_duration_ms: known when Soniox has begun to process it."""

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
        """True if the order failed. The API reference calls this status "error", the page of errors "failed"."""
        return self.status in ("error", "failed")


class Transcriptions(_Page):
    """A page of orders."""

    transcriptions: list[Transcription]


class UsageLogEntry(BaseModel):
    """A charge in the usage log."""

    client_reference_id: str | None = None
    cost_usd: Decimal


class UsageLogs(_Page):
    """A page of charges."""

    usage_logs: list[UsageLogEntry]


class _Model(BaseModel):
    id: str
    aliased_model_id: str | None = None


class _Models(BaseModel):
    models: list[_Model]


class SonioxApi:
    """API of one Soniox project.

    Every method raises the errors of pipelines.runtime.errors. Deleting a missing object is not an error.
    """

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url(url),
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(_TIMEOUT_S, connect=CONNECT_S),
        )

    async def models(self) -> list[str]:
        """Returns the names of all models, including aliases."""
        models = _parsed(_Models, await self._request("GET", "models")).models
        return [name for one in models for name in (one.id, one.aliased_model_id) if name]

    async def upload(self, filename: str, audio: bytes, reference: str) -> str:
        """Uploads a file and returns its id."""
        file = {"file": (filename, audio, "audio/flac")}
        return _parsed(
            File, await self._request("POST", "files", files=file, data={"client_reference_id": reference})
        ).id

    async def files(self) -> AsyncIterator[File]:
        """Yields all uploads; nothing if the server does not list them (some proxies do not)."""
        async for page in self._pages(Files, "files", gone=(404, 405)):
            for one in page.files:
                yield one

    async def delete_file(self, file_id: str) -> None:
        """Deletes an upload."""
        await self._request("DELETE", f"files/{file_id}", gone=(404,))

    async def create(self, order: dict[str, object]) -> str:
        """Places an order, which costs money, and returns its id."""
        return _parsed(Transcription, await self._request("POST", "transcriptions", json=order)).id

    async def transcriptions(self) -> AsyncIterator[Transcription]:
        """Yields all orders. The API has no filter for them."""
        async for page in self._pages(Transcriptions, "transcriptions"):
            for one in page.transcriptions:
                yield one

    async def transcription(self, remote_id: str) -> Transcription | None:
        """Returns an order; None if it does not exist."""
        response = await self._request("GET", f"transcriptions/{remote_id}", gone=(404,))
        return _parsed(Transcription, response) if response is not None else None

    async def transcript(self, remote_id: str) -> SonioxTranscript | None:
        """Returns the transcript of a completed order; None if it was deleted."""
        response = await self._request("GET", f"transcriptions/{remote_id}/transcript", gone=(404, 409))
        return _parsed(SonioxTranscript, response) if response is not None else None

    async def delete_transcription(self, remote_id: str) -> None:
        """Deletes an order and its file."""
        await self._request("DELETE", f"transcriptions/{remote_id}", gone=(404,))

    async def charges(self, reference: str | None, since: datetime, until: datetime) -> list[Decimal]:
        """Returns the charges under a reference, in USD, that the usage log has. The window is at most 31 days."""
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
        """Closes the connections."""
        await self._http.aclose()

    async def _pages(
        self, model: type[P], path: str, *, gone: tuple[int, ...] = (), params: Mapping[str, str] | None = None
    ) -> AsyncIterator[P]:
        query: dict[str, str | int] = {"limit": _PAGE, **(params or {})}
        while True:
            response = await self._request("GET", path, gone=gone, params=query)
            if response is None:
                return
            page = _parsed(model, response)
            yield page
            if not page.next_page_cursor:
                return
            query["cursor"] = page.next_page_cursor

    async def _request(
        self, method: str, path: str, *, gone: tuple[int, ...] = (), **more: object
    ) -> httpx.Response | None:
        """Sends a request. Returns the response; None for one of the statuses `gone`."""
        with translate_http_errors("Soniox"):
            response = await self._http.request(method, path, **more)  # type: ignore[arg-type]  # json, data, files …
        if response.is_success:
            return response
        if response.status_code in gone:
            return None
        raise api_error(response.status_code, response.content, response.headers)


def base_url(configured: str) -> str:
    """Returns the base address with the API's version, even if the setting names only the server."""
    url = configured.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _parsed(model: type[M], response: httpx.Response | None) -> M:
    """Parses the body of a response.

    Raises:
        RetryableError: The body does not match the API, for example a proxy's error page.
    """
    try:
        return model.model_validate_json(response.content if response is not None else b"")
    except ValidationError as error:
        raise RetryableError(f"Soniox' response does not match its API reference: {error}") from error


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
