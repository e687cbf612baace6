"""State of the services as each reports it on /healthz and /metrics."""

import asyncio
from collections.abc import Mapping
from typing import Literal

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ValidationError

from api.models import ServiceState
from core import metrics
from core.http_address import connector_for
from core.metrics import Metric

_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_MAX_BYTES = 2_000_000

ProviderState = Literal["healthy", "failing", "away", "idle", "unknown"]


class Failing(BaseModel):
    """Failures of a stage whose last attempts all failed."""

    in_a_row: int
    error: str


class _Health(BaseModel):
    failing: Failing | None = None


Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def query_services(addresses: Mapping[str, str]) -> list[ServiceState]:
    """Queries all services at the same time and returns their states. addresses: base URL by service name."""
    return list(await asyncio.gather(*(_query(name, address) for name, address in addresses.items())))


async def _query(name: str, address: str) -> ServiceState:
    connector, base = connector_for(address)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=False) as client:
        return await _service(client, name, base)


async def _service(client: aiohttp.ClientSession, name: str, base: str) -> ServiceState:
    try:
        async with client.get(f"{base}/healthz") as response:
            healthy = response.status == 200
            failing = _failing(await response.content.read(_MAX_BYTES))
        async with client.get(f"{base}/metrics") as response:
            text = (await response.content.read(_MAX_BYTES)).decode(errors="replace") if response.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError, OSError):
        return state_of(name, "down", {})
    state = "stalled" if not healthy else "failing" if failing else "up"
    return state_of(name, state, figures(text), failing)


def provider_state(service: ServiceState | None) -> tuple[ProviderState, str | None]:
    """Returns the state of a service's engine, and the last error if it fails."""
    if service is None or service.state == "down":
        return "unknown", None
    if service.provider_away:
        return "away", service.last_error
    if service.failures_in_a_row:
        return "failing", service.last_error
    return ("healthy" if service.attempts.get("done") else "idle"), None


def _failing(body: bytes) -> Failing | None:
    """Returns the failures in a stage's /healthz; None if it does not fail or is not a stage."""
    try:
        return _Health.model_validate_json(body).failing
    except ValidationError:
        return None


def figures(text: str) -> Figures:
    """Parses samples in Prometheus' text format, by name and labels; empty if the text is not in that format."""
    found: Figures = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    except ValueError:
        return {}
    return found


def state_of(name: str, state: str, known: Figures, failing: Failing | None = None) -> ServiceState:
    """Returns a service's state in figures for operators; None for a missing figure."""
    attempts = _by_label(known, metrics.ATTEMPTS, "result")
    seconds, count = (_sum(known, metrics.ATTEMPT_SECONDS.name + suffix) for suffix in ("_sum", "_count"))
    return ServiceState(
        name=name,
        state=state,
        started_at_ms=_ms(_sum(known, "process_start_time_seconds")),
        memory_bytes=_rounded(_sum(known, "process_resident_memory_bytes")),
        lag_records=_rounded(_sum(known, metrics.LAG.exposed_name)),
        jobs_held=_rounded(_sum(known, metrics.JOBS_HELD.exposed_name)),
        jobs_running=_rounded(_sum(known, metrics.RUNNING.exposed_name)),
        retries=_counted(known, metrics.RETRIES.exposed_name, beside=metrics.JOBS_HELD.exposed_name),
        dead_letters=_counted(known, metrics.DEAD_LETTERS.exposed_name, beside=metrics.LAG.exposed_name),
        provider_away=_flag(_sum(known, metrics.PROVIDER_UNAVAILABLE.exposed_name)),
        attempts={result: round(value) for result, value in sorted(attempts.items())},
        attempt_s=round(seconds / count, 3) if seconds is not None and count else None,
        failures_in_a_row=failing.in_a_row if failing else None,
        last_error=failing.error if failing else None,
    )


def _sum(known: Figures, name: str) -> float | None:
    values = [value for (found, _), value in known.items() if found == name]
    return sum(values) if values else None


def _counted(known: Figures, name: str, *, beside: str) -> int | None:
    """Returns a labelled counter, which is missing until its first count: 0 if the metric `beside` is present."""
    return _rounded(_sum(known, name)) or (0 if _sum(known, beside) is not None else None)


def _by_label(known: Figures, metric: Metric, label: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for (name, labels), value in known.items():
        if name == metric.exposed_name:
            key = dict(labels).get(label, "")
            sums[key] = sums.get(key, 0) + value
    return sums


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _flag(value: float | None) -> bool | None:
    return None if value is None else value > 0
