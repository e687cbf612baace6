"""Tests of a service's own /metrics and /healthz."""

import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Gauge

from core.metrics_server import ExporterError, serve
from core.settings import MetricsSettings
from tests.support.up_process import free_port


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def served(healthy: Callable[[], bool]) -> int:
    registry = CollectorRegistry()
    Gauge("something", "A gauge for this test.", registry=registry).set(3)
    port = serve(MetricsSettings(port=free_port()), registry, healthy)
    assert port is not None
    return port


def test_figures_and_health() -> None:
    """Sends the requests of Prometheus and of a liveness probe.

    A hung service must answer 503; otherwise Kubernetes does not restart it.
    """
    alive = True
    port = served(lambda: alive)
    assert get(port, "/metrics")[0] == 200
    assert "something 3.0" in get(port, "/metrics?x=1")[1]
    assert get(port, "/healthz") == (200, '{"status": "alive"}')
    alive = False
    assert get(port, "/healthz")[0] == 503
    assert get(port, "/other")[0] == 404


def test_without_a_port_nothing_is_served() -> None:
    """Serves with the default settings: no port may be opened."""
    assert serve(MetricsSettings(), CollectorRegistry(), lambda: True) is None


def test_taken_port_is_reported_with_its_setting() -> None:
    """Serves twice on one port: the error must name the port and the setting, because the user can fix it."""
    port = served(lambda: True)
    with pytest.raises(ExporterError, match=f"127.0.0.1:{port} .*AUDIOTEXT_METRICS__PORT"):
        serve(MetricsSettings(port=port), CollectorRegistry(), lambda: True)
