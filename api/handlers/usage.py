"""Endpoint for usage: sums of ledger lines."""

import asyncio
from decimal import Decimal

from aiohttp import web

from api.call_filters import call_filter
from api.endpoint import ApiRequest
from api.errors import bad_parameter
from api.models import Bundled, Usage, UsageRow
from api.params import UsageQuery
from api.responses import json_response
from core.settings import BundledRate
from sinks.clickhouse.usage_queries import GroupBy, UsageSum


async def get_usage(api_request: ApiRequest, query: UsageQuery) -> web.StreamResponse:
    """Returns sums over the ledger lines of the client's calls."""
    if query.from_ is not None and query.to is not None and query.to < query.from_:
        raise bad_parameter("to", "is before `from`")

    async def sums(group_by: GroupBy | None) -> list[UsageSum]:
        return await context.clickhouse(
            context.usage.sums,
            tenant=wanted.tenant,
            from_ms=query.from_,
            to_ms=query.to,
            group_by=group_by,
            time_zone=query.time_zone,
            of_calls=wanted if wanted.narrows else None,
        )

    wanted = call_filter(api_request, query)
    context = api_request.context
    groups, total = await asyncio.gather(sums(query.group_by), sums(None))
    audio_ms = sum(row.duration_ms for row in total)
    return json_response(
        Usage(
            group_by=query.group_by,
            time_zone=query.time_zone,
            groups=[_row(row, operator=api_request.principal.operator) for row in groups],
            total=[_row(row, operator=api_request.principal.operator) for row in total],
            transcribed_minutes=f"{Decimal(audio_ms) / 60_000:.3f}",
            bundled=[
                _bundled(name, rate, audio_ms) for name, rate in api_request.context.settings.pricing.bundled.items()
            ],
        )
    )


def _row(found: UsageSum, *, operator: bool) -> UsageRow:
    """Returns the sum, with cost and margin only for operators."""
    row = UsageRow.model_validate(found.model_dump())
    return row if operator else row.model_copy(update={"provider_cost": None, "margin": None})


def _bundled(name: str, rate: BundledRate, audio_ms: int) -> Bundled:
    return Bundled(
        name=name,
        per_minute=f"{rate.per_minute:f}",
        currency=rate.currency,
        amount=f"{(rate.per_minute * audio_ms / 60_000).quantize(Decimal('0.000001')):f}",
        source=rate.source,
    )
