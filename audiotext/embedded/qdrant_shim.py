"""HTTP server of the embedded vector store: Qdrant's REST protocol over qdrant-client's local mode.

It implements the part that AudioText uses. Every write is on disk before its response, as with `wait=true` on a server.
"""

import argparse
import asyncio
import hmac
import importlib.metadata
import os
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from qdrant_client import QdrantClient, models

from audiotext.embedded.qdrant import KEY_VARIABLE
from audiotext.embedded.shim import serve

_MAX_BODY = 256 << 20  # bytes of one request
_OPEN_PATHS = ("/", "/healthz", "/readyz", "/livez")  # a Qdrant server answers these without a key

M = TypeVar("M")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_POINTS: TypeAdapter[models.PointInsertOperations] = TypeAdapter(models.PointInsertOperations)
_SELECTOR: TypeAdapter[models.PointsSelector] = TypeAdapter(models.PointsSelector)


class LocalQdrant:
    """Qdrant's operations by request body. They run one at a time, in the thread that opened the files."""

    def __init__(self, path: Path) -> None:
        self._client = QdrantClient(path=str(path))

    def collections(self) -> Any:
        """Lists the collections."""
        return self._client.get_collections()

    def exists(self, name: str) -> Any:
        """Reports whether the collection exists."""
        return {"exists": self._client.collection_exists(name)}

    def collection(self, name: str) -> Any:
        """Describes the collection."""
        return self._client.get_collection(name)

    def create(self, name: str, config: models.CreateCollection) -> Any:
        """Creates the collection."""
        return self._client.create_collection(
            name, vectors_config=config.vectors, sparse_vectors_config=config.sparse_vectors
        )

    def drop(self, name: str) -> Any:
        """Deletes the collection."""
        return self._client.delete_collection(name)

    def create_index(self, name: str, index: models.CreateFieldIndex) -> Any:
        """Creates a payload index."""
        return self._client.create_payload_index(name, index.field_name, field_schema=index.field_schema)

    def upsert(self, name: str, points: models.PointInsertOperations) -> Any:
        """Inserts or replaces points."""
        content = points.batch if isinstance(points, models.PointsBatch) else points.points
        return self._client.upsert(name, content)

    def delete(self, name: str, selector: models.PointsSelector) -> Any:
        """Deletes points."""
        return self._client.delete(name, selector)

    def retrieve(self, name: str, request: models.PointRequest) -> Any:
        """Returns points by id."""
        return self._client.retrieve(
            name,
            request.ids,
            with_payload=True if request.with_payload is None else request.with_payload,
            with_vectors=request.with_vector or False,
        )

    def scroll(self, name: str, request: models.ScrollRequest) -> Any:
        """Returns one page of points."""
        points, following = self._client.scroll(
            name,
            scroll_filter=request.filter,
            limit=request.limit or 10,
            order_by=request.order_by,
            offset=request.offset,
            with_payload=True if request.with_payload is None else request.with_payload,
            with_vectors=request.with_vector or False,
        )
        return {"points": points, "next_page_offset": following}

    def count(self, name: str, request: models.CountRequest) -> Any:
        """Counts points."""
        return self._client.count(name, count_filter=request.filter)

    def query(self, name: str, request: models.QueryRequest) -> Any:
        """Searches points."""
        return self._client.query_points(
            name,
            query=request.query,
            using=request.using,
            prefetch=request.prefetch,
            query_filter=request.filter,
            search_params=request.params,
            limit=request.limit or 10,
            offset=request.offset,
            with_payload=request.with_payload or False,
            with_vectors=request.with_vector or False,
            score_threshold=request.score_threshold,
        )

    def query_batch(self, name: str, request: models.QueryRequestBatch) -> Any:
        """Runs several searches."""
        return [self.query(name, search) for search in request.searches]

    def close(self) -> None:
        """Closes the files."""
        self._client.close()


def application(path: Path, api_key: str) -> web.Application:
    """Returns Qdrant's REST interface for the directory."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")  # SQLite allows only the thread that opened it
    vectors = thread.submit(LocalQdrant, path).result()

    async def run(operation: Callable[..., Any], *args: Any) -> web.Response:
        started = time.monotonic()
        try:
            result = await asyncio.shield(
                asyncio.get_running_loop().run_in_executor(thread, lambda: to_json(operation(*args)))
            )
        except (ValueError, KeyError) as error:
            return _failure(_status(str(error)), str(error))
        took = time.monotonic() - started
        return web.Response(
            body=b'{"result":%b,"status":"ok","time":%.6f}' % (result, took), content_type="application/json"
        )

    def plain(operation: Callable[..., Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await run(operation, *request.match_info.values())

        return handle

    def with_body(operation: Callable[[str, M], Any], body: TypeAdapter[M]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                parsed = body.validate_json(await request.read())
            except ValidationError as error:
                return _failure(400, f"Format error in JSON body: {error.errors(include_url=False)[0]['msg']}")
            return await run(operation, request.match_info["name"], parsed)

        return handle

    async def version(_request: web.Request) -> web.Response:
        number = importlib.metadata.version("qdrant-client")
        return web.json_response({"title": "qdrant - vector search engine", "version": number})

    async def close(_app: web.Application) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, vectors.close)
        thread.shutdown(wait=True)

    app = web.Application(client_max_size=_MAX_BODY, middlewares=[_authentication(api_key)])
    one = "/collections/{name}"
    app.add_routes(
        [
            *(web.get(path, version) for path in _OPEN_PATHS),
            web.get("/collections", plain(vectors.collections)),
            web.get(one, plain(vectors.collection)),
            web.get(f"{one}/exists", plain(vectors.exists)),
            web.put(one, with_body(vectors.create, TypeAdapter(models.CreateCollection))),
            web.delete(one, plain(vectors.drop)),
            web.put(f"{one}/index", with_body(vectors.create_index, TypeAdapter(models.CreateFieldIndex))),
            web.put(f"{one}/points", with_body(vectors.upsert, _POINTS)),
            web.post(f"{one}/points", with_body(vectors.retrieve, TypeAdapter(models.PointRequest))),
            web.post(f"{one}/points/delete", with_body(vectors.delete, _SELECTOR)),
            web.post(f"{one}/points/scroll", with_body(vectors.scroll, TypeAdapter(models.ScrollRequest))),
            web.post(f"{one}/points/count", with_body(vectors.count, TypeAdapter(models.CountRequest))),
            web.post(f"{one}/points/query", with_body(vectors.query, TypeAdapter(models.QueryRequest))),
            web.post(
                f"{one}/points/query/batch", with_body(vectors.query_batch, TypeAdapter(models.QueryRequestBatch))
            ),
        ]
    )
    app.on_cleanup.append(close)
    return app


def _authentication(api_key: str) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        given = request.headers.get("api-key", bearer)
        if request.path not in _OPEN_PATHS and not hmac.compare_digest(given.encode(), api_key.encode()):
            return _failure(401, "Must provide an API key or an Authorization bearer token")
        return await handler(request)

    return check


def _status(message: str) -> int:
    """Returns the status with which a Qdrant server reports this error of the local mode."""
    if "not found" in message:
        return 404
    return 409 if "already exists" in message else 400


def _failure(status: int, message: str) -> web.Response:
    return web.json_response({"status": {"error": message}, "time": 0.0}, status=status)


def main() -> None:
    """Serves `--data-dir` with TLS on the loopback `--port` until SIGTERM; the environment contains the API key."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    path: Path = args.data_dir / "qdrant"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Local mode warns that it has no indexes and is slow with many points; the user of `audiotext up` knows this.
    warnings.filterwarnings("ignore", category=UserWarning, module="audiotext|qdrant_client")
    serve("qdrant", application(path, os.environ[KEY_VARIABLE]), args.port, args.data_dir)


if __name__ == "__main__":
    main()
