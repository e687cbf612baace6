"""How the services fare, by what each says of itself on /healthz and /metrics."""

import asyncio
from collections.abc import Mapping

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from api.models import ServiceState
from core import metrics
from core.metrics import Metric

_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_MAX_BYTES = 2_000_000

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def look(addresses: Mapping[str, str]) -> list[ServiceState]:
    """The state of each service, asked all at once. addresses: where its /healthz and /metrics are, by name."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as client:
        return list(await asyncio.gather(*(_service(client, name, url) for name, url in addresses.items())))


async def _service(client: aiohttp.ClientSession, name: str, url: str) -> ServiceState:
    base = url.rstrip("/")
    try:
        async with client.get(f"{base}/healthz") as response:
            healthy = response.status == 200
        async with client.get(f"{base}/metrics") as response:
            text = (await response.content.read(_MAX_BYTES)).decode(errors="replace") if response.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError, OSError):
        return state_of(name, "down", {})
    return state_of(name, "up" if healthy else "stalled", figures(text))


def figures(text: str) -> Figures:
    """Samples in Prometheus' text format, by name and labels; none if it is not in that format."""
    found: Figures = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    except ValueError:
        return {}
    return found


def state_of(name: str, state: str, known: Figures) -> ServiceState:
    """A service's state in figures that matter to whoever operates it; null where it does not say."""
    attempts = _by_label(known, metrics.ATTEMPTS, "result")
    seconds, count = (_sum(known, metrics.ATTEMPT_SECONDS.name + suffix) for suffix in ("_sum", "_count"))
    return ServiceState(
        name=name,
        state=state,
        started_at_ms=_ms(_sum(known, "process_start_time_seconds")),
        memory_bytes=_whole(_sum(known, "process_resident_memory_bytes")),
        lag_records=_whole(_sum(known, metrics.LAG.exposed)),
        jobs_held=_whole(_sum(known, metrics.HELD.exposed)),
        jobs_running=_whole(_sum(known, metrics.RUNNING.exposed)),
        retries=_counted(known, metrics.RETRIES.exposed, beside=metrics.HELD.exposed),
        dead_letters=_counted(known, metrics.DEAD_LETTERS.exposed, beside=metrics.LAG.exposed),
        provider_away=_flag(_sum(known, metrics.PROVIDER_AWAY.exposed)),
        attempts={result: round(value) for result, value in sorted(attempts.items())},
        attempt_s=round(seconds / count, 3) if seconds is not None and count else None,
    )


def _sum(known: Figures, name: str) -> float | None:
    values = [value for (found, _), value in known.items() if found == name]
    return sum(values) if values else None


def _counted(known: Figures, name: str, *, beside: str) -> int | None:
    """A counter with labels, which is not told before it has counted: 0 if what it stands beside is there."""
    return _whole(_sum(known, name)) or (0 if _sum(known, beside) is not None else None)


def _by_label(known: Figures, metric: Metric, label: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for (name, labels), value in known.items():
        if name == metric.exposed:
            key = dict(labels).get(label, "")
            sums[key] = sums.get(key, 0) + value
    return sums


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _flag(value: float | None) -> bool | None:
    return None if value is None else value > 0
