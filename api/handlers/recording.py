"""A recording's bytes, from S3 through to the client without ever holding the file."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import quote

from aiohttp import web

from api.endpoint import ApiRequest, not_there
from api.errors import ApiError
from api.params import RecordingQuery
from api.ranges import UnsatisfiableRangeError, etag_matches, range_applies, requested_range
from schemas.events import ObjectRef
from sinks.object_store import ObjectMissingError

log = logging.getLogger(__name__)

_UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\/:*?<>|%]')


async def get_recording(asked: ApiRequest, query: RecordingQuery) -> web.StreamResponse:
    """A part's WAV, whole or a range of it."""
    part = await asked.part(query.part)
    if part.recording is None:
        raise not_there("recording", part)
    audio, request = part.recording, asked.request
    etag = f'"{audio.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",  # keep it, but ask with the ETag whether it still may be had
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
    headers["Content-Disposition"] = content_disposition(asked.call_id, query.part)
    headers["Content-Type"] = "audio/wav"
    first, length = (wanted.first, wanted.length) if wanted else (0, audio.size)
    if wanted:
        headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last}/{audio.size}"
    response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
    response.content_length = length
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    return await _send(asked, response, audio, first, length)


def content_disposition(call_id: str, part: int) -> str:
    """A file name from a call id, whatever the carrier put into it: once in ASCII, once in full (RFC 6266)."""
    name = _UNSAFE.sub("_", call_id) + (f"-part{part}" if part > 1 else "") + ".wav"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


async def _send(
    asked: ApiRequest, response: web.StreamResponse, audio: ObjectRef, first: int, length: int
) -> web.StreamResponse:
    """Sends the bytes. Up to the first chunk a failure is an answer; after it, all that is left is to hang up, so
    that the client sees a short body and not a whole one with a hole."""
    services = asked.services
    async with aclosing(services.s3.chunks(services.objects.stream(audio.key, first, length))) as chunks:
        try:
            chunk = await anext(chunks, b"")
        except ObjectMissingError:
            log.error("call %s: %s is not in S3", asked.call_id, audio.key)
            raise ApiError(404, "gone", "the recording is not in the object store any more") from None
        await response.prepare(asked.request)
        try:
            sent = await _pump(response, chunk, chunks)
        except ApiError as error:
            log.warning("call %s: recording broken off: %s", asked.call_id, error)
            sent = -1
    if sent == length:
        await response.write_eof()
    else:
        if sent >= 0:
            log.error("call %s: %s has %d bytes where %d were expected", asked.call_id, audio.key, sent, length)
        if asked.request.transport is not None:
            asked.request.transport.abort()
    return response


async def _pump(response: web.StreamResponse, chunk: bytes, chunks: AsyncIterator[bytes]) -> int:
    """Writes all chunks, waiting for the client as needed; how many bytes that were."""
    sent = 0
    while chunk:
        await response.write(chunk)
        sent += len(chunk)
        chunk = await anext(chunks, b"")
    return sent
