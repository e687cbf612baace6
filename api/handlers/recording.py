"""Streams a recording from S3 to the client without loading the whole file."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import quote

from aiohttp import web

from api.endpoint import ApiRequest, missing_artefact
from api.errors import ApiError
from api.params import RecordingQuery
from api.ranges import UnsatisfiableRangeError, etag_matches, range_applies, requested_range
from schemas.events import ObjectRef
from sinks.object_store import ObjectMissingError

logger = logging.getLogger(__name__)

_UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\/:*?<>|%]')


async def get_recording(api_request: ApiRequest, query: RecordingQuery) -> web.StreamResponse:
    """Sends a part's WAV, complete or one range of it."""
    part = await api_request.part(query.part)
    if part.recording is None:
        raise missing_artefact("recording", part)
    audio, request = part.recording, api_request.request
    etag = f'"{audio.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",  # the browser may keep it but must revalidate it with the ETag
        "ETag": etag,
    }
    if etag_matches(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=headers)
    wanted = None
    if range_applies(request.headers.get("If-Range"), etag):
        try:
            wanted = requested_range(request.headers.get("Range"), audio.size)
        except UnsatisfiableRangeError:
            raise ApiError(
                416,
                "range_not_satisfiable",
                f"the recording has {audio.size} bytes",
                headers={"Content-Range": f"bytes */{audio.size}", "Accept-Ranges": "bytes"},
            ) from None
    headers["Content-Disposition"] = content_disposition(api_request.call_id, query.part)
    headers["Content-Type"] = "audio/wav"
    first, length = (wanted.first, wanted.length) if wanted else (0, audio.size)
    if wanted:
        headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last}/{audio.size}"
    response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
    response.content_length = length
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    return await _send(api_request, response, audio, first, length)


def content_disposition(call_id: str, part: int) -> str:
    """Returns the header with a file name from the call id, in ASCII and in full (RFC 6266).

    Replaces unsafe characters, since a carrier's call id may hold any text.
    """
    name = _UNSAFE.sub("_", call_id) + (f"-part{part}" if part > 1 else "") + ".wav"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


async def _send(
    api_request: ApiRequest, response: web.StreamResponse, audio: ObjectRef, first: int, length: int
) -> web.StreamResponse:
    """Sends the bytes.

    A failure before the first chunk becomes an error response. A failure after it aborts the connection, so that the
    client sees a short body instead of a complete one with missing bytes.
    """
    context = api_request.context
    async with aclosing(context.s3.stream(context.objects.stream(audio.key, first, length))) as chunks:
        try:
            chunk = await anext(chunks, b"")
        except ObjectMissingError:
            logger.error("call %s: %s is not in S3", api_request.call_id, audio.key)
            raise ApiError(404, "gone", "the recording is no longer in the object store") from None
        await response.prepare(api_request.request)
        try:
            sent = await _write_chunks(response, chunk, chunks)
        except ApiError as error:
            logger.warning("call %s: sending the recording aborted: %s", api_request.call_id, error)
            sent = -1
    if sent == length:
        await response.write_eof()
    else:
        if sent >= 0:
            logger.error(
                "call %s: %s has %d bytes where %d were expected", api_request.call_id, audio.key, sent, length
            )
        if api_request.request.transport is not None:
            api_request.request.transport.abort()
    return response


async def _write_chunks(response: web.StreamResponse, chunk: bytes, chunks: AsyncIterator[bytes]) -> int:
    """Writes all chunks at the client's speed and returns the number of bytes."""
    sent = 0
    while chunk:
        await response.write(chunk)
        sent += len(chunk)
        chunk = await anext(chunks, b"")
    return sent
