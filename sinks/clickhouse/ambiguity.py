"""Calls of several tenants with the same id. Carriers choose the ids, so two tenants may have the same one."""

from collections.abc import Iterable

from core.errors import UserError
from sinks.clickhouse.call_projection import CallDoc


class AmbiguousCallError(UserError):
    """A request names a call id that several tenants have, but no tenant."""

    def __init__(self, call_id: str, tenants: Iterable[str]) -> None:
        listed = ", ".join(sorted(tenants))
        super().__init__(
            f"several tenants have a call {call_id}: choose one of {listed} "
            "with `tenant` (on the command line with `--tenant`)"
        )


def require_one_tenant_each(calls: Iterable[CallDoc]) -> None:
    """Raises AmbiguousCallError if two of the calls have the same id."""
    owners: dict[str, list[str]] = {}
    for call in calls:
        owners.setdefault(call.id, []).append(call.tenant)
    for call_id, tenants in owners.items():
        if len(tenants) > 1:
            raise AmbiguousCallError(call_id, tenants)
