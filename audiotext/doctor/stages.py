"""The stages that run: whether their requests succeed, as the operations page shows it."""

from api.service_health import provider_state, query_services
from core.checks import Check

_CURES = {
    "failing": "mend the reason, then `audiotext dlq list` and `audiotext dlq replay`",
    "away": "the stage waits and tries again; look at the provider's status page and at the network",
}


async def requests(name: str, url: str) -> Check:
    """How the requests of a service fare. url: where its /healthz and /metrics are."""
    (found,) = await query_services({name: url})
    state, reason = provider_state(found)
    heading = f"requests: {name}"
    if state == "unknown":
        return Check(heading, True, "the service does not answer here, so nobody knows")
    if cure := _CURES.get(state):
        return Check(heading, False, f"{state}: {reason or 'no request succeeds'}", cure)
    done = found.attempts.get("done", 0)
    return Check(heading, True, f"{done} succeeded since the service started" if done else "none yet")
