"""A service's own /metrics and /healthz."""

import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Gauge

from core.metrics_server import ExporterError, serve
from core.settings import MetricsSettings
from tests.e2e.stack import free_port


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def served(healthy: Callable[[], bool]) -> int:
    registry = CollectorRegistry()
    Gauge("something", "Of this test.", registry=registry).set(3)
    port = serve(MetricsSettings(port=free_port()), registry, healthy)
    assert port is not None
    return port


def test_figures_and_health() -> None:
    """Asks as Prometheus and a liveness probe would: a service that hangs must answer 503, or nobody restarts it."""
    alive = True
    port = served(lambda: alive)
    assert get(port, "/metrics")[0] == 200
    assert "something 3.0" in get(port, "/metrics?x=1")[1]
    assert get(port, "/healthz") == (200, '{"status": "alive"}')
    alive = False
    assert get(port, "/healthz")[0] == 503
    assert get(port, "/other")[0] == 404


def test_without_a_port_nothing_is_served() -> None:
    """The default: on one machine nobody scrapes six services."""
    assert serve(MetricsSettings(), CollectorRegistry(), lambda: True) is None


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    """A user's mistake, told in one sentence."""
    port = served(lambda: True)
    with pytest.raises(ExporterError, match=f"127.0.0.1:{port} .*AUDIOTEXT_METRICS__PORT"):
        serve(MetricsSettings(port=port), CollectorRegistry(), lambda: True)
