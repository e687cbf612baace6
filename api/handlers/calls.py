"""Calls: the list, one call, its events."""

from urllib.parse import urlencode

from aiohttp import web

from api import gaps
from api.call_filters import call_filter
from api.endpoint import ApiRequest, missing_artefact
from api.errors import ApiError, bad_parameter
from api.models import (
    Artefacts,
    Call,
    CallList,
    CallListItem,
    Erasure,
    EventList,
    Part,
    Track,
    UsageLine,
    Waveform,
    call_path,
)
from api.params import CallsQuery, NoQuery, RecordingQuery
from api.responses import json_response
from pipelines.erase.handler import requested
from schemas.events import TrackOutline
from schemas.topics import Topic
from sinks.clickhouse.call_list_query import InvalidCursorError
from sinks.clickhouse.call_projection import CallDoc, PartDoc
from sinks.clickhouse.call_projection import UsageLine as BillLine
from sinks.object_store import ObjectMissingError


async def list_calls(api_request: ApiRequest, query: CallsQuery) -> web.StreamResponse:
    """Returns a page of the client's calls."""
    context = api_request.context
    try:
        calls, next_cursor = await context.clickhouse(
            context.calls.list_calls, call_filter(api_request, query), limit=query.limit, cursor=query.cursor
        )
    except InvalidCursorError:
        raise bad_parameter("cursor", "is invalid: use the `next_cursor` of a list") from None
    return json_response(CallList(calls=[list_item(call) for call in calls], next_cursor=next_cursor))


async def get_call(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns one call."""
    call = await api_request.call()
    body = call_body(
        call, operator=api_request.principal.operator, tenant=call.tenant if api_request.sees_all_tenants else None
    )
    if api_request.principal.only_call is not None:  # a link shows the call, not its costs
        body = body.model_copy(update={"usage": []})
    return json_response(body)


async def erase_call(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Hides a call at once and requests the deletion of everything about it."""
    context, call = api_request.context, await api_request.call()
    request = requested(call.tenant, call.id)
    await context.log(context.publish, Topic.ERASURE_REQUESTS, [request])
    await context.clickhouse(context.replays.put, request)
    return json_response(Erasure(call_id=call.id), status=202)


async def get_events(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns a call's events."""
    context, call = api_request.context, await api_request.call()
    # The call's tenant, not the client's: a client that sees every tenant must not get the events of two calls with
    # one id.
    events = await context.clickhouse(context.calls.events, call.id, call.tenant)
    if not api_request.principal.operator:
        events = [{name: value for name, value in event.items() if name != "provider_cost"} for event in events]
    return json_response(EventList(call_id=call.id, events=events))


async def get_waveform(api_request: ApiRequest, query: RecordingQuery) -> web.StreamResponse:
    """Returns a part's waveform."""
    part = await api_request.part(query.part)
    if part.peaks is None:
        raise missing_artefact("waveform", part)
    context = api_request.context
    try:
        content = await context.s3(context.objects.get_verified, part.peaks)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the waveform is no longer in the object store") from None
    return json_response(Waveform.model_validate_json(content))


def call_body(call: CallDoc, *, operator: bool, tenant: str | None) -> Call:
    """Returns a call as the API shows it, with paths instead of object keys.

    operator: includes costs. tenant: named in the paths; None = the paths are unambiguous without a tenant.
    """
    return Call(
        **list_item(call).model_dump(),
        tracks=_tracks(call.tracks),
        summary=call.summary,
        end_reason=call.end_reason,
        repairs=call.repairs,
        times=call.times,
        artefacts=_artefacts(call.id, call.parts, tenant=tenant),
        parts=[_part(call.id, part, tenant) for part in call.parts],
        usage=[_line(line, operator=operator) for line in call.usage],
    )


def _line(found: BillLine, *, operator: bool) -> UsageLine:
    line = UsageLine.model_validate(found.model_dump())
    return line if operator else line.model_copy(update={"provider_cost": None})


def list_item(call: CallDoc) -> CallListItem:
    """Returns a call as a list shows it."""
    return CallListItem(
        **{name: getattr(call, name) for name in CallListItem.model_fields if name != "gap_ms"},
        gap_ms=sum(track.missing_ms for part in call.parts for track in part.tracks),
    )


def _part(call_id: str, part: PartDoc, tenant: str | None) -> Part:
    shared = Part.model_fields.keys() & PartDoc.model_fields.keys() - {"tracks"}
    return Part(
        **{name: getattr(part, name) for name in shared},
        tracks=_tracks(part.tracks),
        language=part.transcript.language if part.transcript else None,
        artefacts=_artefacts(call_id, [part], part=part.part, tenant=tenant),
    )


def _tracks(tracks: list[TrackOutline]) -> list[Track]:
    return [Track(**track.model_dump(), gap_summary=gaps.summary(track)) for track in tracks]


def _artefacts(call_id: str, parts: list[PartDoc], **parameters: str | int | None) -> Artefacts:
    """Returns the paths of the artefacts of these parts, with the parameters that are not None."""
    base = call_path(call_id)
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    suffix = f"?{query}" if query else ""
    return Artefacts(
        recording=f"{base}/recording{suffix}" if parts and parts[0].recording else None,
        waveform=f"{base}/waveform{suffix}" if parts and parts[0].peaks else None,
        transcript=f"{base}/transcript{suffix}" if any(part.transcript for part in parts) else None,
        summary=f"{base}/summary{suffix}" if any(part.summary for part in parts) else None,
    )
