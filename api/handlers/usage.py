"""The bill."""

import asyncio
from decimal import Decimal

from aiohttp import web

from api.endpoint import ApiRequest
from api.errors import bad_parameter
from api.models import Bundled, Usage
from api.params import UsageQuery
from api.responses import json_response
from core.settings import BundledRate
from sinks.clickhouse.queries import GroupBy, UsageRow


async def get_usage(asked: ApiRequest, query: UsageQuery) -> web.StreamResponse:
    """Sums over the lines of the asker's calls."""
    if query.from_ is not None and query.to is not None and query.to < query.from_:
        raise bad_parameter("to", "lies before `from`")

    async def sums(group_by: GroupBy | None) -> list[UsageRow]:
        return await services.clickhouse(
            services.calls.usage,
            tenant=asked.tenant,
            from_ms=query.from_,
            to_ms=query.to,
            group_by=group_by,
            time_zone=query.time_zone,
        )

    services = asked.services
    # Compared with what others charge for a call once: a replay adds a line, but no minutes to that.
    heard = services.clickhouse(services.calls.transcribed_ms, tenant=asked.tenant, from_ms=query.from_, to_ms=query.to)
    groups, total, heard_ms = await asyncio.gather(sums(query.group_by), sums(None), heard)
    return json_response(
        Usage(
            group_by=query.group_by,
            time_zone=query.time_zone,
            groups=groups,
            total=total,
            transcribed_minutes=f"{Decimal(heard_ms) / 60_000:.3f}",
            bundled=[_bundled(name, rate, heard_ms) for name, rate in asked.services.settings.pricing.bundled.items()],
        )
    )


def _bundled(name: str, rate: BundledRate, heard_ms: int) -> Bundled:
    return Bundled(
        name=name,
        per_minute=f"{rate.per_minute:f}",
        currency=rate.currency,
        amount=f"{(rate.per_minute * heard_ms / 60_000).quantize(Decimal('0.000001')):f}",
        source=rate.source,
    )
