"""HTTP server for `/metrics` and `/healthz` of a service, on its own port and in its own thread."""

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from core.errors import UserError
from core.settings import MetricsSettings


class ExporterError(UserError):
    """The metrics port cannot be used; the message names the setting."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A hanging connection must not delay the end of the process.
    block_on_close = False


def serve(
    settings: MetricsSettings,
    registry: CollectorRegistry,
    healthy: Callable[[], bool],
    details: Callable[[], Mapping[str, object]] = dict,
) -> int | None:
    """Serves until the process ends, if a port is configured, and returns the port.

    `/healthz` returns 200 while `healthy()` is true, else 503. Its JSON has `status` and the fields of `details()`.
    Raises ExporterError.
    """
    if settings.port is None:
        return None

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a client to send its request

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._respond(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif path == "/healthz":
                alive = healthy()
                status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
                body = json.dumps({"status": "alive" if alive else "hangs", **details()}).encode()
                self._respond(status, "application/json", body)
            else:
                self._respond(HTTPStatus.NOT_FOUND, "text/plain", b"not found: use /metrics or /healthz\n")

        def log_message(self, *_: object) -> None:
            """Logs nothing: Prometheus sends a request every few seconds."""

        def _respond(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = _Server((settings.host, settings.port), Handler)
    except OSError as error:
        raise ExporterError(
            f"metrics cannot be served on {settings.host}:{settings.port} ({error.strerror or error}): "
            "choose another AUDIOTEXT_METRICS__PORT"
        ) from None
    threading.Thread(target=server.serve_forever, name="exporter", daemon=True).start()
    return int(server.server_address[1])
