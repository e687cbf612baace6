"""Checks of running stages: their requests to the engines, as on the operations page."""

from api.service_health import provider_state, query_services
from core.checks import Check

_CURES = {
    "failing": "fix the reason, then `audiotext dlq list` and `audiotext dlq replay`",
    "away": "the stage waits and tries again; check the provider's status page and the network",
}


async def requests(name: str, url: str) -> Check:
    """Checks that the requests of a service succeed. url: base URL of its /healthz and /metrics."""
    (found,) = await query_services({name: url})
    state, reason = provider_state(found)
    heading = f"requests: {name}"
    if state == "unknown":
        return Check(heading, True, "unknown, because the service does not answer at this address")
    if cure := _CURES.get(state):
        return Check(heading, False, f"{state}: {reason or 'no request succeeds'}", cure)
    done = found.attempts.get("done", 0)
    return Check(heading, True, f"{done} succeeded since the service started" if done else "no requests yet")
