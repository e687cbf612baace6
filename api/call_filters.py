"""Makes the filter of calls that a request asks for."""

from api.endpoint import ApiRequest
from api.params import CallFilters, CallsQuery, SearchQuery, WordFilters, words_of
from sinks.clickhouse.call_list_query import CallFilter


def call_filter(api_request: ApiRequest, query: CallFilters) -> CallFilter:
    """Returns the filter for the calls that the client sees.

    Raises ApiError 400 if the client does not see the calls of the tenant in the query.
    """
    timed = query if isinstance(query, (CallsQuery, SearchQuery)) else None
    listed = query if isinstance(query, CallsQuery) else None
    text = query.text if isinstance(query, WordFilters) else None
    return CallFilter(
        tenant=api_request.tenant_within(query.tenant),
        status=listed.status if listed else None,
        since_ms=timed.since if timed else None,
        until_ms=timed.until if timed else None,
        query=listed.q if listed else None,
        carrier=query.carrier,
        number=query.number,
        min_ms=_ms(query.min_duration_s),
        max_ms=_ms(query.max_duration_s),
        words=tuple(words_of(text or "")),
    )


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else 1000 * seconds
