"""The bill."""

from aiohttp import web

from gateway.api.endpoint import Asked
from gateway.api.errors import bad_parameter
from gateway.api.models import Usage
from gateway.api.params import UsageQuery
from gateway.api.responses import json_response
from sinks.clickhouse.queries import GroupBy, UsageRow


async def get_usage(asked: Asked, query: UsageQuery) -> web.StreamResponse:
    """Sums over the lines of the asker's calls."""
    if query.from_ is not None and query.to is not None and query.to < query.from_:
        raise bad_parameter("to", "lies before `from`")

    async def sums(group_by: GroupBy | None) -> list[UsageRow]:
        services = asked.services
        return await services.clickhouse(
            services.calls.usage, tenant=asked.tenant, from_ms=query.from_, to_ms=query.to, group_by=group_by
        )

    groups, total = await sums(query.group_by), await sums(None)
    return json_response(Usage(group_by=query.group_by, groups=groups, total=total))
