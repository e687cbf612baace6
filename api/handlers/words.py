"""What was said: transcripts, summaries, search."""

from collections.abc import Sequence

from aiohttp import web

from api.embedding import min_score
from api.endpoint import ApiRequest, not_there
from api.errors import ApiError
from api.formats import RENDERERS
from api.models import SearchHit, SearchResults
from api.params import SearchQuery, SummaryQuery, TranscriptQuery
from api.responses import json_response, text_response
from api.transcripts import joined, joined_summary
from schemas.artifacts import Summary, Transcript
from sinks.clickhouse.call_projection import PartDoc, SummaryDoc
from sinks.clickhouse.result_versions import Result
from sinks.object_store import ObjectMissingError
from sinks.qdrant.store import Hit, collection_of

_ASKED_FOR = (2, 10, 50)  # times what is wanted: more turns in a row that do not count are not worth it


async def get_transcript(asked: ApiRequest, query: TranscriptQuery) -> web.StreamResponse:
    """The transcript of a part or of all parts joined; or one version of one."""
    parts = await asked.parts(query.part)
    if query.version is not None:
        parts = [_of_version(parts, query.version, "transcript")]
    if not any(part.transcript for part in parts):
        raise not_there("transcript", parts[0])
    transcript = joined([(part, await _stored(asked, part)) for part in parts])
    if query.format == "json":
        return json_response(transcript)
    content_type, render = RENDERERS[query.format]
    return text_response(render(transcript), content_type)


async def get_summary(asked: ApiRequest, query: SummaryQuery) -> web.StreamResponse:
    """The summary of a part or of all parts joined; or one version of one."""
    parts = await asked.parts(query.part)
    if query.version is not None:
        parts = [await _with_summary(asked, _of_version(parts, query.version, "summary"), query.version)]
    if not any(part.summary for part in parts):
        raise not_there("summary", parts[0])
    return json_response(joined_summary(asked.call_id, parts))


async def search(asked: ApiRequest, query: SearchQuery) -> web.StreamResponse:
    """Turns of the asker's calls that mean something like the query, or say its words."""
    services = asked.services
    embedder, vector = await services.embedder.vector(query.q)
    collection = collection_of(embedder.model, embedder.dimension)
    hits: list[Hit] = []
    # Turns of versions that do not count lie beside the others, so that they can be set back.
    for factor in _ASKED_FOR:
        size = factor * query.limit
        found = await services.qdrant(
            services.vectors.search,
            collection,
            vector,
            tenant=asked.tenant,
            limit=size,
            text=query.q,
            min_score=min_score(embedder.model, services.settings.embedding.min_score),
        )
        hits = await services.clickhouse(services.calls.that_count, found)
        if len(hits) >= query.limit or len(found) < size:
            break
    hits = hits[: query.limit]
    if query.group_by == "call":
        hits = _by_call(hits)
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


def _by_call(hits: Sequence[Hit]) -> list[Hit]:
    """The hits of a call one after the other, the calls in the order of their best hits."""
    calls: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        calls.setdefault((hit.tenant, hit.call_id), []).append(hit)
    return [hit for of_call in calls.values() for hit in of_call]


async def _stored(asked: ApiRequest, part: PartDoc) -> Transcript | None:
    """A part's transcript from S3, or None if it has none."""
    if part.transcript is None:
        return None
    services = asked.services
    try:
        content = await services.s3(services.objects.get_verified, part.transcript.object)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the transcript is not in the object store any more") from None
    return Transcript.model_validate_json(content)


def _of_version(parts: list[PartDoc], version_id: str, of: Result) -> PartDoc:
    """The part with that version instead of the one that counts. Raises ApiError 404."""
    for part in parts:
        for version in part.versions:
            if version.version_id != version_id or version.of != of:
                continue
            if of == "summary" or part.transcript is None:
                return part
            return part.model_copy(update={"transcript": part.transcript.model_copy(update={"object": version.object})})
    raise ApiError(404, "not_found", f"there is no {of} with version {version_id!r}", parameter="version")


async def _with_summary(asked: ApiRequest, part: PartDoc, version_id: str) -> PartDoc:
    """The part with that version of its summary, from S3."""
    services = asked.services
    ref = next(one.object for one in part.versions if one.version_id == version_id)
    try:
        content = await services.s3(services.objects.get_verified, ref)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the summary is not in the object store any more") from None
    summary = Summary.model_validate_json(content)
    shown = SummaryDoc(abstract=summary.abstract, key_points=summary.key_points, action_items=summary.action_items)
    return part.model_copy(update={"summary": shown})
