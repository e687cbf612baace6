"""Endpoints for replays: start, list, show, stop and resume."""

import asyncio
from dataclasses import replace

from aiohttp import web

from api.endpoint import ApiRequest
from api.errors import ApiError, bad_parameter
from api.params import NoQuery, ReplaysQuery
from api.replay_models import (
    CallFilters,
    FailedPart,
    Replay,
    ReplayAnswer,
    ReplayEstimate,
    ReplayItem,
    ReplayList,
    ReplayRequest,
)
from api.responses import json_response
from core.settings import SettingsError
from pipelines.replay.engine_cache import engines_of
from pipelines.replay.estimate import Estimate, estimate
from pipelines.replay.overrides import OverrideError, overridden, require_choice
from pipelines.replay.selection import EmptySelectionError, NothingToReplayError, Selection, choose, selection
from pipelines.replay.service import ReplayStateError
from schemas.events import ReplayOverrides
from sinks.clickhouse.replay_projection import ReplayDoc


async def list_replays(api_request: ApiRequest, query: ReplaysQuery) -> web.StreamResponse:
    """Returns the client's replays."""
    context = api_request.context
    found = await context.clickhouse(context.replays.list_replays, api_request.tenant)
    return json_response(ReplayList(replays=[_item(one) for one in found if query.state in (None, one.state)]))


async def get_replay(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns one replay."""
    return json_response(await _body(api_request, await _replay(api_request)))


async def start_replay(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Selects the calls and starts a replay of them, or returns the estimated cost only."""
    wanted = await api_request.body(ReplayRequest)
    context = api_request.context
    calls = chosen_calls(api_request, wanted, every=wanted.all)
    overrides = ReplayOverrides(
        provider=wanted.provider, model=wanted.model, language=wanted.language, prompt=wanted.prompt
    )
    try:
        require_choice(context.settings, wanted.stage, overrides, api_request.tenant)
        settings = overridden(context.settings, wanted.stage, overrides)
        engines = await asyncio.to_thread(engines_of, settings, wanted.stage)
        chosen = await context.bulk_reads(choose, context.calls, calls, wanted.stage)
    except (OverrideError, SettingsError) as error:
        raise ApiError(400, "bad_parameter", str(error)) from None
    except NothingToReplayError as error:
        raise ApiError(404, "not_found", str(error)) from None
    costs = _estimate(estimate(chosen, engines, settings.pricing), operator=api_request.principal.operator)
    if wanted.dry_run:
        return json_response(ReplayAnswer(id=None, replay=None, estimate=costs))
    replay_id = await context.log(
        context.replay_service.start,
        chosen,
        wanted.stage,
        overrides,
        tenant=api_request.tenant,
        keep_current=wanted.keep_current,
    )
    replay = await context.clickhouse(context.replays.get_replay, replay_id, api_request.tenant)
    return json_response(
        ReplayAnswer(id=replay_id, replay=_item(replay) if replay else None, estimate=costs), status=202
    )


def chosen_calls(api_request: ApiRequest, wanted: CallFilters, *, every: bool) -> Selection:
    """Returns the selection of a request, limited to the calls that its key sees.

    Raises ApiError 400 if the request selects nothing.
    """
    tenant = api_request.tenant_within(wanted.tenant)
    try:
        found = selection(
            call_ids=wanted.calls,
            tenant=wanted.tenant,
            since_ms=wanted.since,
            until_ms=wanted.until,
            status=wanted.status,
            failed=wanted.failed,
            query=wanted.query,
            every=every,
        )
    except EmptySelectionError as error:
        raise bad_parameter(error.parameter, str(error)) from None
    if not found.has_filter and not every:
        raise bad_parameter("calls", "name calls, set a filter, or set `all`")
    return replace(found, tenant=tenant)


async def stop_replay(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Stops a replay: no further part is started."""
    return await _controlled(api_request, stop=True)


async def resume_replay(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Resumes a replay."""
    return await _controlled(api_request, stop=False)


async def _controlled(api_request: ApiRequest, *, stop: bool) -> web.StreamResponse:
    context, replay = api_request.context, await _replay(api_request)
    try:
        await context.log(context.replay_service.stop if stop else context.replay_service.resume, replay)
    except ReplayStateError as error:
        raise ApiError(409, "conflict", str(error)) from None
    return json_response(await _body(api_request, await _replay(api_request)), status=202)


async def _replay(api_request: ApiRequest) -> ReplayDoc:
    """Returns the replay in the path. Raises ApiError 404 if the client sees no such replay."""
    context = api_request.context
    found = await context.clickhouse(context.replays.get_replay, api_request.call_id, api_request.tenant)
    if found is None:
        raise ApiError(404, "not_found", f"there is no replay {api_request.call_id!r}")
    return found


async def _body(api_request: ApiRequest, replay: ReplayDoc) -> Replay:
    context = api_request.context
    parts = await context.clickhouse(context.replays.parts_with_notes, replay.id)
    return Replay(
        **_item(replay).model_dump(),
        notes=[
            FailedPart(tenant=part.tenant, call_id=part.call_id, part=part.part, outcome=part.outcome, reason=part.note)
            for part in parts
        ],
    )


def _estimate(found: Estimate, *, operator: bool) -> ReplayEstimate:
    """Returns the estimate, with costs only for operators."""
    shown = ReplayEstimate.model_validate(found.model_dump())
    return shown if operator else shown.model_copy(update={"provider_cost": None})


def _item(replay: ReplayDoc) -> ReplayItem:
    return ReplayItem(**{name: getattr(replay, name) for name in ReplayItem.model_fields})
