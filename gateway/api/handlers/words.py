"""What was said: transcripts, summaries, search."""

from aiohttp import web

from gateway.api.endpoint import Asked, not_there
from gateway.api.errors import ApiError
from gateway.api.formats import RENDERERS
from gateway.api.models import SearchHit, SearchResults
from gateway.api.params import PartQuery, SearchQuery, TranscriptQuery
from gateway.api.responses import json_response, text_response
from gateway.api.transcripts import joined, joined_summary
from schemas.artifacts import Transcript
from sinks.clickhouse.calls import PartDoc
from sinks.objects import ObjectMissingError
from sinks.vectors import collection_of


async def get_transcript(asked: Asked, query: TranscriptQuery) -> web.StreamResponse:
    """The transcript of a part or of all parts joined."""
    parts = await asked.parts(query.part)
    if not any(part.transcript for part in parts):
        raise not_there("transcript", parts[0])
    transcript = joined([(part, await _stored(asked, part)) for part in parts])
    if query.format == "json":
        return json_response(transcript)
    content_type, render = RENDERERS[query.format]
    return text_response(render(transcript), content_type)


async def get_summary(asked: Asked, query: PartQuery) -> web.StreamResponse:
    """The summary of a part or of all parts joined."""
    parts = await asked.parts(query.part)
    if not any(part.summary for part in parts):
        raise not_there("summary", parts[0])
    return json_response(joined_summary(asked.call_id, parts))


async def search(asked: Asked, query: SearchQuery) -> web.StreamResponse:
    """Turns of the asker's calls that mean something like the query, or say its words."""
    services = asked.services
    embedder, vector = await services.embedder.vector(query.q)
    hits = await services.qdrant(
        services.vectors.search,
        collection_of(embedder.model, embedder.dimension),
        vector,
        tenant=asked.tenant,
        limit=query.limit,
        text=query.q,
    )
    return json_response(
        SearchResults(
            results=[
                SearchHit(
                    call_id=hit.call_id,
                    part=hit.part,
                    start_ms=hit.start_ms,
                    end_ms=hit.end_ms,
                    speaker=hit.speaker,
                    text=hit.text,
                    score=hit.score,
                )
                for hit in hits
            ]
        )
    )


async def _stored(asked: Asked, part: PartDoc) -> Transcript | None:
    """A part's transcript from S3, or None if it has none."""
    if part.transcript is None:
        return None
    services = asked.services
    try:
        content = await services.s3(services.objects.get_verified, part.transcript.object)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the transcript is not in the object store any more") from None
    return Transcript.model_validate_json(content)
