"""Endpoints for transcripts and summaries."""

from aiohttp import web

from api.endpoint import ApiRequest, missing_artefact
from api.errors import ApiError
from api.formats import RENDERERS
from api.params import SummaryQuery, TranscriptQuery
from api.responses import json_response, text_response
from api.transcripts import join_summaries, join_transcripts
from schemas.artifacts import Summary, Transcript
from sinks.clickhouse.call_projection import PartDoc, SummaryDoc
from sinks.clickhouse.result_versions import Result
from sinks.object_store import ObjectMissingError


async def get_transcript(api_request: ApiRequest, query: TranscriptQuery) -> web.StreamResponse:
    """Returns the transcript of one part, of all parts joined, or one version of a part's transcript."""
    parts = await api_request.parts(query.part)
    if query.version is not None:
        parts = [_of_version(parts, query.version, "transcript")]
    if not any(part.transcript for part in parts):
        raise missing_artefact("transcript", parts[0])
    transcript = join_transcripts([(part, await _stored(api_request, part)) for part in parts])
    if query.format == "json":
        return json_response(transcript)
    content_type, render = RENDERERS[query.format]
    return text_response(render(transcript), content_type)


async def get_summary(api_request: ApiRequest, query: SummaryQuery) -> web.StreamResponse:
    """Returns the summary of one part, of all parts joined, or one version of a part's summary."""
    parts = await api_request.parts(query.part)
    if query.version is not None:
        parts = [await _with_summary(api_request, _of_version(parts, query.version, "summary"), query.version)]
    if not any(part.summary for part in parts):
        raise missing_artefact("summary", parts[0])
    return json_response(join_summaries(api_request.call_id, parts))


async def _stored(api_request: ApiRequest, part: PartDoc) -> Transcript | None:
    """Returns a part's transcript from S3, or None if the part has no transcript."""
    if part.transcript is None:
        return None
    context = api_request.context
    try:
        content = await context.s3(context.objects.get_verified, part.transcript.object)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the transcript is no longer in the object store") from None
    return Transcript.model_validate_json(content)


def _of_version(parts: list[PartDoc], version_id: str, of: Result) -> PartDoc:
    """Returns the part with that version instead of the current one. Raises ApiError 404."""
    for part in parts:
        for version in part.versions:
            if version.version_id != version_id or version.of != of:
                continue
            if of == "summary" or part.transcript is None:
                return part
            return part.model_copy(update={"transcript": part.transcript.model_copy(update={"object": version.object})})
    raise ApiError(404, "not_found", f"there is no {of} with version {version_id!r}", parameter="version")


async def _with_summary(api_request: ApiRequest, part: PartDoc, version_id: str) -> PartDoc:
    """Returns the part with that version of its summary, from S3."""
    context = api_request.context
    ref = next(one.object for one in part.versions if one.version_id == version_id)
    try:
        content = await context.s3(context.objects.get_verified, ref)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the summary is no longer in the object store") from None
    summary = Summary.model_validate_json(content)
    return part.model_copy(update={"summary": SummaryDoc(**summary.content)})
