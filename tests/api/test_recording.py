"""Recordings over HTTP: whole, in ranges, conditionally, and when the store lets the API down."""

import asyncio
import hashlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiohttp import ClientPayloadError

from api.endpoint import ApiContext
from api.handlers.recording import content_disposition
from schemas.artifacts import recording_prefix
from sinks.object_store import ObjectStore, ObjectStoreError
from tests.api.conftest import ADMIN_KEY, Client, Put, bearer, client_of

# Larger than one chunk from S3, and every byte tells where it is from.
AUDIO = b"".join(index.to_bytes(4, "big") for index in range(700_000))
_AUTH = bearer(ADMIN_KEY)
ETAG = f'"{hashlib.sha256(AUDIO).hexdigest()}"'


@pytest.fixture(scope="module")
def path(put: Put) -> str:
    """Path of a recording of 2.8 MB."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(f"tenant-{call_id}", call_id, "recorded", AUDIO)
    return f"/v1/calls/{call_id}/recording"


async def test_the_whole_file(api: Client, path: str) -> None:
    """Downloads it. If it failed, the audio would differ from what was recorded, or be saved under a useless name."""
    response = await api.get(path, headers=_AUTH)
    assert response.status == 200
    assert await response.read() == AUDIO
    assert response.content_type == "audio/wav"
    assert response.headers["ETag"] == ETAG
    assert response.headers["Accept-Ranges"] == "bytes"
    assert path.split("/")[3] + ".wav" in response.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-3", (0, 3)),
        ("bytes=1000000-2000000", (1_000_000, 2_000_000)),
        ("bytes=2799996-", (2_799_996, 2_799_999)),
        ("bytes=-5", (2_799_995, 2_799_999)),
        ("bytes=0-", (0, 2_799_999)),
    ],
)
async def test_ranges(api: Client, path: str, asked: str, expected: tuple[int, int]) -> None:
    """Seeks, as players do. If it failed, a player would play the wrong place or nothing."""
    first, last = expected
    response = await api.get(path, headers=_AUTH | {"Range": asked})
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/2800000"
    assert await response.read() == AUDIO[first : last + 1]


async def test_ranges_that_cannot_be(api: Client, path: str) -> None:
    """Asks beyond the end, and in a way that is to be ignored. If it failed, a player would wait or get garbage."""
    response = await api.get(path, headers=_AUTH | {"Range": "bytes=2800000-"})
    assert response.status == 416
    assert response.headers["Content-Range"] == "bytes */2800000"
    assert (await response.json())["error"]["code"] == "range_not_satisfiable"
    response = await api.get(path, headers=_AUTH | {"Range": "bytes=0-1,4-5"})
    assert response.status == 200
    assert await response.read() == AUDIO


async def test_conditions_and_head(api: Client, path: str) -> None:
    """Asks again with the ETag, goes on only if it is still the same, and asks for the headers alone. If it failed,
    megabytes would travel for nothing or two recordings would be glued together."""
    response = await api.get(path, headers=_AUTH | {"If-None-Match": ETAG})
    assert (response.status, await response.read()) == (304, b"")
    response = await api.get(path, headers=_AUTH | {"If-Range": ETAG, "Range": "bytes=0-3"})
    assert response.status == 206
    response = await api.get(path, headers=_AUTH | {"If-Range": '"other"', "Range": "bytes=0-3"})
    assert (response.status, await response.read()) == (200, AUDIO)
    response = await api.head(path, headers=_AUTH)
    assert (response.status, await response.read()) == (200, b"")
    assert response.headers["Content-Length"] == "2800000"
    response = await api.head(path, headers=_AUTH | {"Range": "bytes=0-3"})
    assert (response.status, response.headers["Content-Length"]) == (206, "4")


async def test_a_client_that_leaves_early(services: ApiContext, path: str) -> None:
    """Hangs up after the first bytes, and the store's stream must be closed. If it failed, each player that seeks
    would leave a connection to S3 behind."""
    store = _Watched(services.objects)
    async with client_of(replace(services, objects=store)) as api:
        response = await api.get(path, headers=_AUTH)
        await response.content.readexactly(10)
        response.close()
    await store.until_closed()


async def test_the_store_dies_in_the_middle(services: ApiContext, path: str) -> None:
    """S3 fails after the first chunk. If it failed, the client would take half a recording for a whole one."""
    async with client_of(replace(services, objects=_Watched(services.objects, dies=True))) as api:
        response = await api.get(path, headers=_AUTH)
        assert response.status == 200
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_the_object_is_gone(api: Client, put: Put) -> None:
    """Someone deleted it from the bucket. If it failed, the client would see a 500, or a 503 and try for ever."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call("someone", call_id, "recorded")
    put.objects.remove(f"{recording_prefix('someone', call_id, 1)}/audio.wav")
    response = await api.get(f"/v1/calls/{call_id}/recording", headers=_AUTH)
    assert response.status == 404
    assert (await response.json())["error"]["code"] == "gone"


def test_file_names() -> None:
    """Names from hostile call ids. If it failed, a download could be written elsewhere, or break the header."""
    assert content_disposition("CA1", 1) == "attachment; filename=\"CA1.wav\"; filename*=UTF-8''CA1.wav"
    assert content_disposition('../a"\r\nb', 2) == (
        "attachment; filename=\".._a___b-part2.wav\"; filename*=UTF-8''.._a___b-part2.wav"
    )
    assert content_disposition("ü", 1) == "attachment; filename=\"_.wav\"; filename*=UTF-8''%C3%BC.wav"


class _Watched(ObjectStore):
    """The real store, watched while it streams, or made to fail after the first chunk."""

    def __init__(self, store: ObjectStore, *, dies: bool = False) -> None:
        self._store = store
        self._dies = dies
        self._closed = threading.Event()
        self._streams: list[Iterator[bytes]] = []

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        # Kept, so that the garbage collector does not close what the API forgot to.
        self._streams.append(self._watched(key, start, length))
        return self._streams[-1]

    def _watched(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        try:
            for chunk in self._store.stream(key, start, length):
                yield chunk
                if self._dies:
                    raise ObjectStoreError("it is away")
        finally:
            self._closed.set()

    async def until_closed(self) -> None:
        assert await asyncio.to_thread(self._closed.wait, 10)
