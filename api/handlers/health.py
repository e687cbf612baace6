"""The service itself: alive, ready, measured, described."""

import asyncio
from collections.abc import Awaitable
from itertools import islice

from aiohttp import web
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.endpoint import ApiContext, ApiRequest
from api.errors import ApiError
from api.models import Health, Readiness
from api.params import NoQuery
from api.responses import json_response
from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config
from sinks.object_store import ObjectMissingError

_PROBE_TIMEOUT_S = 3.0  # whoever asks for readiness waits about as long
_LOG_TIMEOUT_S = 2.0
_NO_HASH = "0" * 64  # no token's hash
_NO_NAME = "readyz"  # prefix of no object, name of no collection


async def healthz(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """The process answers, whatever its stores do."""
    return json_response(Health())


async def readyz(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Whether every store answers, and which does not."""
    missing = await missing_stores(asked.services)
    return json_response(
        Readiness(status="not ready" if missing else "ready", missing=missing), status=503 if missing else 200
    )


async def metrics(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Prometheus."""
    return web.Response(
        body=generate_latest(asked.services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


async def openapi(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """The description of the API."""
    return web.Response(text=asked.services.openapi, content_type="application/json")


async def missing_stores(services: ApiContext) -> dict[str, str]:
    """Stores that cannot be used now, by name, each with the reason. Asked all at once, by a query each that touches
    what the API needs and finds nothing."""
    probes: dict[str, Awaitable[object]] = {
        # Connecting migrates; the query tells that the tables are there.
        services.clickhouse.name: services.clickhouse(services.calls.find_by_hash, _NO_HASH),
        services.s3.name: services.s3(lambda: list(islice(services.objects.list(f"{_NO_NAME}/"), 1))),
        services.qdrant.name: services.qdrant(services.vectors.search, _NO_NAME, [0.0], tenant=None, limit=1),
    }
    reasons = await asyncio.gather(*(_reason(probe) for probe in probes.values()))
    return {name: reason for name, reason in zip(probes, reasons, strict=True) if reason is not None}


async def missing_log(services: ApiContext) -> str | None:
    """Why the log cannot be used now; None if it answers."""
    return await _reason(services.log(_ask_log, services.settings.kafka))


def _ask_log(kafka: KafkaSettings) -> None:
    """Raises LogUnavailableError unless the log says which topics it has."""
    admin = AdminClient(connection_config(kafka) | {"log_level": 0})
    try:
        admin.list_topics(timeout=_LOG_TIMEOUT_S)
    except KafkaException as error:
        raise LogUnavailableError(f"the log does not answer: {error}") from error


async def _reason(probe: Awaitable[object]) -> str | None:
    """Why a probe failed; None if it did not."""
    try:
        await asyncio.wait_for(probe, _PROBE_TIMEOUT_S)
    except ObjectMissingError:
        return "the bucket does not exist"
    except ApiError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {_PROBE_TIMEOUT_S:g} s"
    return None
