"""Endpoints for operators: state of services and stores, and dead letters."""

import asyncio

from aiohttp import web

from api.endpoint import ApiRequest
from api.errors import ApiError
from api.handlers.health import missing_log, missing_stores
from api.models import DeadLetter, DeadLetterList, Operations, Provider, ServiceState, Store
from api.params import DeadLettersQuery, NoQuery
from api.responses import json_response
from api.service_health import provider_state, query_services
from pipelines.runtime.dead_letters import DeadLetterRecord, healed, is_replayable, read_dead_letters, replay
from pipelines.stages import ENGINE_STAGES

_NEWEST = 500
_LOG = "Log"


async def get_operations(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns the state of services, stores and providers."""
    context = api_request.context
    settings = context.settings
    states, missing, log_reason = await asyncio.gather(
        query_services(settings.api.watched), missing_stores(context), missing_log(context)
    )
    missing |= {_LOG: log_reason} if log_reason else {}
    by_name = {state.name: state for state in states}
    engines = {spec.service: getattr(settings, engine).provider for engine, spec in ENGINE_STAGES.items()}
    stores = (_LOG, context.clickhouse.name, context.s3.name, context.qdrant.name)
    return json_response(
        Operations(
            services=states,
            stores=[Store(name=name, ok=name not in missing, reason=missing.get(name)) for name in stores],
            providers=[_provider(provider, service, by_name.get(service)) for service, provider in engines.items()],
        )
    )


def _provider(name: str, service: str, found: ServiceState | None) -> Provider:
    state, reason = provider_state(found)
    return Provider(
        name=name,
        service=service,
        state=state,
        reason=reason,
        away=found.provider_away if found else None,
        attempts=found.attempts if found else {},
        attempt_s=found.attempt_s if found else None,
    )


async def list_dead_letters(api_request: ApiRequest, query: DeadLettersQuery) -> web.StreamResponse:
    """Returns the newest dead letters."""
    wanted = [one for one in await _letters(api_request) if query.all or one.open]
    return json_response(
        DeadLetterList(letters=[_letter(one) for one in reversed(wanted[-_NEWEST:])], total=len(wanted))
    )


async def replay_dead_letter(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Replays a dead letter: sends it to its stage again."""
    kafka, wanted = api_request.context.settings.kafka, api_request.request.match_info["id"]
    letter = next((one for one in await _letters(api_request) if one.id == wanted), None)
    if letter is None:
        raise ApiError(404, "not_found", f"there is no dead letter {wanted!r}")
    if letter.replayed_at_ms is not None:
        raise ApiError(
            409, "conflict", "the dead letter was replayed already; if the replay failed, there is a new dead letter"
        )
    if letter.healed:
        raise ApiError(409, "conflict", f"{letter.letter.stage} has a result now: there is nothing to replay")
    if not is_replayable(letter.letter):
        raise ApiError(409, "conflict", "the dead letter cannot be replayed: it does not contain the complete record")
    (replayed,) = await api_request.context.log(lambda: list(replay(kafka, [letter])))
    return json_response(_letter(replayed), status=202)


async def _letters(api_request: ApiRequest) -> list[DeadLetterRecord]:
    """Returns all dead letters, oldest first."""
    context = api_request.context
    letters = await context.log(read_dead_letters, context.settings.kafka)
    return await context.clickhouse(healed, letters, context.calls, context.replays)


def _letter(one: DeadLetterRecord) -> DeadLetter:
    letter = one.letter
    return DeadLetter(
        id=one.id,
        tenant=letter.tenant,
        call_id=letter.call_id,
        part=letter.part,
        stage=letter.stage,
        error_class=letter.error_class,
        error=letter.error,
        attempts=letter.attempts,
        occurred_at_ms=letter.occurred_at_ms,
        origin_topic=letter.origin_topic,
        replayable=is_replayable(letter) and one.open,
        replayed_at_ms=one.replayed_at_ms,
        healed=one.healed,
    )
