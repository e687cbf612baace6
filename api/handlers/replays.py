"""Replays: asked for, looked at, stopped, gone on with."""

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
from pipelines.replay.overrides import OverrideError, overridden
from pipelines.replay.selection import EmptySelectionError, NothingToReplayError, Selection, choose, selection
from pipelines.replay.service import ReplayStateError
from schemas.events import ReplayOverrides
from sinks.clickhouse.replay_projection import ReplayDoc


async def list_replays(asked: ApiRequest, query: ReplaysQuery) -> web.StreamResponse:
    """The asker's replays."""
    services = asked.services
    found = await services.clickhouse(services.replays.list_replays, asked.tenant)
    return json_response(ReplayList(replays=[_item(one) for one in found if query.state in (None, one.state)]))


async def get_replay(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """One replay."""
    return json_response(await _body(asked, await _replay(asked)))


async def start_replay(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Chooses the calls now, and has them processed; or says what that would cost."""
    wanted = await asked.body(ReplayRequest)
    services = asked.services
    calls = chosen_calls(asked, wanted, every=wanted.all)
    overrides = ReplayOverrides(
        provider=wanted.provider, model=wanted.model, language=wanted.language, prompt=wanted.prompt
    )
    try:
        settings = overridden(services.settings, wanted.stage, overrides)
        engines = await asyncio.to_thread(engines_of, settings, wanted.stage)
        chosen = await services.choosing(choose, services.calls, calls, wanted.stage)
    except (OverrideError, SettingsError) as error:
        raise ApiError(400, "bad_parameter", str(error)) from None
    except NothingToReplayError as error:
        raise ApiError(404, "not_found", str(error)) from None
    costs = _estimate(estimate(chosen, engines, settings.pricing), operator=asked.principal.operator)
    if wanted.dry_run:
        return json_response(ReplayAnswer(id=None, replay=None, estimate=costs))
    replay_id = await services.log(
        services.desk.start,
        chosen,
        wanted.stage,
        overrides,
        tenant=asked.tenant,
        keep_current=wanted.keep_current,
    )
    replay = await services.clickhouse(services.replays.get_replay, replay_id, asked.tenant)
    return json_response(
        ReplayAnswer(id=replay_id, replay=_item(replay) if replay else None, estimate=costs), status=202
    )


def chosen_calls(asked: ApiRequest, wanted: CallFilters, *, every: bool) -> Selection:
    """The calls that a request selects, of those that its key sees. Raises ApiError 400 if it selects none."""
    if asked.tenant is not None and wanted.tenant not in (None, asked.tenant):
        raise bad_parameter("tenant", "is not yours")
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
    if not found.narrows and not every:
        raise bad_parameter("calls", "say which calls, filter them, or say `all`")
    return found if asked.tenant is None else replace(found, tenant=asked.tenant)


async def stop_replay(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """No more of its parts are begun."""
    return await _controlled(asked, stop=True)


async def resume_replay(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Its parts go on."""
    return await _controlled(asked, stop=False)


async def _controlled(asked: ApiRequest, *, stop: bool) -> web.StreamResponse:
    services, replay = asked.services, await _replay(asked)
    try:
        await services.log(services.desk.stop if stop else services.desk.resume, replay)
    except ReplayStateError as error:
        raise ApiError(409, "conflict", str(error)) from None
    return json_response(await _body(asked, await _replay(asked)), status=202)


async def _replay(asked: ApiRequest) -> ReplayDoc:
    """The replay in the path. Raises ApiError 404 if the asker has none such."""
    services = asked.services
    found = await services.clickhouse(services.replays.get_replay, asked.call_id, asked.tenant)
    if found is None:
        raise ApiError(404, "not_found", f"there is no replay {asked.call_id!r}")
    return found


async def _body(asked: ApiRequest, replay: ReplayDoc) -> Replay:
    services = asked.services
    parts = await services.clickhouse(services.replays.noted, replay.id)
    return Replay(
        **_item(replay).model_dump(),
        notes=[
            FailedPart(call_id=part.call_id, part=part.part, outcome=part.outcome, reason=part.note) for part in parts
        ],
    )


def _estimate(found: Estimate, *, operator: bool) -> ReplayEstimate:
    """The estimate as the asker may see it."""
    shown = ReplayEstimate.model_validate(found.model_dump())
    return shown if operator else shown.model_copy(update={"provider_cost": None})


def _item(replay: ReplayDoc) -> ReplayItem:
    return ReplayItem(**{name: getattr(replay, name) for name in ReplayItem.model_fields})
