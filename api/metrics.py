"""Prometheus metrics of the API, in a registry of its own."""

import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, ProcessCollector

from core import metrics


class ApiMetrics:
    """Metrics of requests. Routes are templates (`/v1/calls/{id}`): an id as label would make a series per call."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = metrics.API_REQUESTS.on(self.registry)
        self.seconds = metrics.API_SECONDS.on(self.registry)

    def middleware(self) -> Middleware:
        """Returns the middleware that counts and times every request."""

        @web.middleware
        async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
            started = time.perf_counter()
            status = 500  # stays if the handler raises, as on a broken connection
            try:
                response = await handler(request)
                status = response.status
                return response
            finally:
                method, route = _labels(request)
                self.requests.labels(method, route, str(status)).inc()
                self.seconds.labels(method, route).observe(time.perf_counter() - started)

        return measure


def _labels(request: web.Request) -> tuple[str, str]:
    """Returns method and route as labels. Their number is bounded: unknown methods and paths share one label."""
    resource = request.match_info.route.resource
    method = (
        request.method if request.method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
    )
    return method, resource.canonical if resource is not None else "unmatched"
