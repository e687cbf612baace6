"""Calls: the list, one call, its events."""

from aiohttp import web

from api import gaps
from api.endpoint import ApiRequest, not_there
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
from sinks.clickhouse.call_projection import CallDoc, PartDoc
from sinks.clickhouse.call_projection import UsageLine as BillLine
from sinks.clickhouse.queries import InvalidCursorError
from sinks.object_store import ObjectMissingError


async def list_calls(asked: ApiRequest, query: CallsQuery) -> web.StreamResponse:
    """A page of the asker's calls."""
    services = asked.services
    try:
        calls, next_cursor = await services.clickhouse(
            services.calls.list_calls,
            tenant=asked.tenant,
            limit=query.limit,
            cursor=query.cursor,
            status=query.status,
            since_ms=query.since,
            until_ms=query.until,
            query=query.q,
        )
    except InvalidCursorError:
        raise bad_parameter("cursor", "is none that a list gave out") from None
    return json_response(CallList(calls=[list_item(call) for call in calls], next_cursor=next_cursor))


async def get_call(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """One call."""
    body = call_body(await asked.call(), operator=asked.principal.operator)
    if asked.principal.only_call is not None:  # a link shows what was said, not what it cost whom
        body = body.model_copy(update={"usage": []})
    return json_response(body)


async def erase_call(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Hides a call, and has everything about it deleted."""
    services, call = asked.services, await asked.call()
    request = requested(call.tenant, call.id)
    await services.log(services.tell, Topic.ERASURE_REQUESTS, [request])
    await services.clickhouse(services.replays.put, request)
    return json_response(Erasure(call_id=call.id), status=202)


async def get_events(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """A call's events."""
    services, call = asked.services, await asked.call()
    # The call's tenant, not the asker's: who sees every tenant must not get two calls of one id mixed.
    events = await services.clickhouse(services.calls.events, call.id, call.tenant)
    if not asked.principal.operator:
        events = [{name: value for name, value in event.items() if name != "provider_cost"} for event in events]
    return json_response(EventList(call_id=call.id, events=events))


async def get_waveform(asked: ApiRequest, query: RecordingQuery) -> web.StreamResponse:
    """A part's waveform."""
    part = await asked.part(query.part)
    if part.peaks is None:
        raise not_there("waveform", part)
    services = asked.services
    try:
        content = await services.s3(services.objects.get_verified, part.peaks)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the waveform is not in the object store any more") from None
    return json_response(Waveform.model_validate_json(content))


def call_body(call: CallDoc, *, operator: bool) -> Call:
    """A call as the API shows it: paths to ask for instead of keys in a bucket. operator: costs are shown, too."""
    return Call(
        **list_item(call).model_dump(),
        tracks=_tracks(call.tracks),
        summary=call.summary,
        end_reason=call.end_reason,
        repairs=call.repairs,
        times=call.times,
        artefacts=_artefacts(call.id, call.parts, ""),
        parts=[_part(call.id, part) for part in call.parts],
        usage=[_line(line, operator=operator) for line in call.usage],
    )


def _line(found: BillLine, *, operator: bool) -> UsageLine:
    line = UsageLine.model_validate(found.model_dump())
    return line if operator else line.model_copy(update={"provider_cost": None})


def list_item(call: CallDoc) -> CallListItem:
    """A call as a list shows it."""
    return CallListItem(
        **{name: getattr(call, name) for name in CallListItem.model_fields if name != "gap_ms"},
        gap_ms=sum(track.missing_ms for part in call.parts for track in part.tracks),
    )


def _part(call_id: str, part: PartDoc) -> Part:
    shared = Part.model_fields.keys() & PartDoc.model_fields.keys() - {"tracks"}
    return Part(
        **{name: getattr(part, name) for name in shared},
        tracks=_tracks(part.tracks),
        language=part.transcript.language if part.transcript else None,
        artefacts=_artefacts(call_id, [part], f"?part={part.part}"),
    )


def _tracks(tracks: list[TrackOutline]) -> list[Track]:
    return [Track(**track.model_dump(), gap_summary=gaps.summary(track)) for track in tracks]


def _artefacts(call_id: str, parts: list[PartDoc], suffix: str) -> Artefacts:
    """Paths to what these parts have: of all of them, or of one with its number as suffix."""
    base = call_path(call_id)
    return Artefacts(
        recording=f"{base}/recording{suffix}" if parts and parts[0].recording else None,
        waveform=f"{base}/waveform{suffix}" if parts and parts[0].peaks else None,
        transcript=f"{base}/transcript{suffix}" if any(part.transcript for part in parts) else None,
        summary=f"{base}/summary{suffix}" if any(part.summary for part in parts) else None,
    )
