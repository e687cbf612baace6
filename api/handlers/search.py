"""Endpoint for search."""

from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from api.call_filters import call_filter
from api.embedding import min_score
from api.endpoint import ApiRequest
from api.models import SearchHit, SearchResults
from api.params import SearchQuery
from api.responses import json_response
from sinks.clickhouse.call_list_query import CallFilter
from sinks.qdrant.store import Hit, collection_of

_MOST_CALLS = 2_000  # of a filter: with more calls, the hits are filtered, and rare hits may not be found
_SEARCH_FACTORS = (2, 10, 50)  # hits requested per hit wanted; stops then, even if too many are of other versions


async def search(api_request: ApiRequest, query: SearchQuery) -> web.StreamResponse:
    """Returns turns of the client's calls that are close to the query in meaning or contain its words."""
    context = api_request.context
    embedder, vector = await context.embedder.vector(query.q)
    collection = collection_of(embedder.model, embedder.dimension)
    wanted = call_filter(api_request, query)
    calls = await _matching_calls(api_request, wanted)
    hits: list[Hit] = []
    # The collection also holds turns of versions that are not current, so that a version can become current again.
    for factor in _SEARCH_FACTORS:
        size = factor * query.limit
        found = await context.qdrant(
            context.vectors.search,
            collection,
            vector,
            tenant=wanted.tenant,
            limit=size,
            text=query.q,
            min_score=min_score(embedder.model, context.settings.embedding.min_score),
            call_ids=None if calls is None else {call_id for _, call_id in calls},
        )
        hits = await context.clickhouse(context.calls.keep_current_hits, found)
        if wanted.narrows:
            hits = await _of_matching_calls(api_request, hits, wanted, calls)
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


async def _matching_calls(api_request: ApiRequest, wanted: CallFilter) -> set[tuple[str, str]] | None:
    """Returns the calls (tenant, call id) that pass the filter; None if there is no filter, or if they are too many."""
    if not wanted.narrows:
        return None
    context = api_request.context
    found = await context.clickhouse(context.calls.find_matching, wanted, _MOST_CALLS + 1)
    return found if len(found) <= _MOST_CALLS else None


async def _of_matching_calls(
    api_request: ApiRequest, hits: Sequence[Hit], wanted: CallFilter, calls: set[tuple[str, str]] | None
) -> list[Hit]:
    """Returns the hits in calls that pass the filter. calls: all those calls, if they are known."""
    if calls is None and hits:
        context = api_request.context
        names = sorted({(hit.tenant, hit.call_id) for hit in hits})
        calls = await context.clickhouse(context.calls.find_matching, replace(wanted, calls=names), len(names))
    return [hit for hit in hits if (hit.tenant, hit.call_id) in (calls or ())]


def _by_call(hits: Sequence[Hit]) -> list[Hit]:
    """Groups the hits by call, the calls in the order of their best hits."""
    calls: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        calls.setdefault((hit.tenant, hit.call_id), []).append(hit)
    return [hit for of_call in calls.values() for hit in of_call]
