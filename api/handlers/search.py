"""Endpoint for search."""

from collections.abc import Sequence

from aiohttp import web

from api.embedding import min_score
from api.endpoint import ApiRequest
from api.models import SearchHit, SearchResults
from api.params import SearchQuery
from api.responses import json_response
from sinks.qdrant.store import Hit, collection_of

_SEARCH_FACTORS = (2, 10, 50)  # hits requested per hit wanted; stops then, even if too many are of other versions


async def search(api_request: ApiRequest, query: SearchQuery) -> web.StreamResponse:
    """Returns turns of the client's calls that are close to the query in meaning or contain its words."""
    context = api_request.context
    embedder, vector = await context.embedder.vector(query.q)
    collection = collection_of(embedder.model, embedder.dimension)
    hits: list[Hit] = []
    # The collection also holds turns of versions that are not current, so that a version can become current again.
    for factor in _SEARCH_FACTORS:
        size = factor * query.limit
        found = await context.qdrant(
            context.vectors.search,
            collection,
            vector,
            tenant=api_request.tenant,
            limit=size,
            text=query.q,
            min_score=min_score(embedder.model, context.settings.embedding.min_score),
        )
        hits = await context.clickhouse(context.calls.keep_current_hits, found)
        if len(hits) >= query.limit or len(found) < size:
            break
    hits = hits[: query.limit]
    if query.group_by == "call":
        hits = _by_call(hits)
    return json_response(
        SearchResults(
            results=[
                SearchHit(
                    tenant=hit.tenant,
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


def _by_call(hits: Sequence[Hit]) -> list[Hit]:
    """Groups the hits by call, the calls in the order of their best hits."""
    calls: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        calls.setdefault((hit.tenant, hit.call_id), []).append(hit)
    return [hit for of_call in calls.values() for hit in of_call]
