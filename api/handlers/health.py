"""Endpoints about the service itself: liveness, readiness, metrics, OpenAPI document."""

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

_PROBE_TIMEOUT_S = 3.0  # clients of the readiness check wait about this long
_LOG_TIMEOUT_S = 2.0
_UNUSED_HASH = "0" * 64  # not the hash of any token
_UNUSED_NAME = "readyz"  # not the prefix of any object or the name of any collection


async def healthz(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Confirms that the process answers, independent of its stores."""
    return json_response(Health())


async def readyz(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Reports readiness, and each store that does not answer."""
    missing = await missing_stores(api_request.context)
    return json_response(Readiness(ready=not missing, missing=missing), status=503 if missing else 200)


async def metrics(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns the Prometheus metrics."""
    return web.Response(
        body=generate_latest(api_request.context.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


async def openapi(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns the OpenAPI document."""
    return web.Response(text=api_request.context.openapi, content_type="application/json")


async def missing_stores(context: ApiContext) -> dict[str, str]:
    """Returns the reason for each store that cannot be used now, by the store's name.

    Probes all stores at the same time, each by a query that uses the same tables and rights as the API and finds
    nothing.
    """
    probes: dict[str, Awaitable[object]] = {
        # Connecting migrates the schema; the query proves that the tables exist.
        context.clickhouse.name: context.clickhouse(context.api_keys.find_by_hash, _UNUSED_HASH),
        context.s3.name: context.s3(lambda: list(islice(context.objects.list(f"{_UNUSED_NAME}/"), 1))),
        context.qdrant.name: context.qdrant(context.vectors.search, _UNUSED_NAME, [0.0], tenant=None, limit=1),
    }
    reasons = await asyncio.gather(*(_reason(probe) for probe in probes.values()))
    return {name: reason for name, reason in zip(probes, reasons, strict=True) if reason is not None}


async def missing_log(context: ApiContext) -> str | None:
    """Returns the reason why the log cannot be used now, or None if it answers."""
    return await _reason(context.log(_probe_log, context.settings.kafka))


def _probe_log(kafka: KafkaSettings) -> None:
    """Raises LogUnavailableError unless the log lists its topics."""
    admin = AdminClient(connection_config(kafka) | {"log_level": 0})
    try:
        admin.list_topics(timeout=_LOG_TIMEOUT_S)
    except KafkaException as error:
        raise LogUnavailableError(f"the log does not answer: {error}") from error


async def _reason(probe: Awaitable[object]) -> str | None:
    """Returns the reason why a probe failed, or None if it succeeded."""
    try:
        await asyncio.wait_for(probe, _PROBE_TIMEOUT_S)
    except ObjectMissingError:
        return "the bucket does not exist"
    except ApiError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {_PROBE_TIMEOUT_S:g} s"
    return None
