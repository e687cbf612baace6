"""A service's `/metrics` and `/healthz`, on a port of its own, served by a thread of its own."""

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
    """The port cannot be listened on; the message says which setting it is."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # What hangs with an open connection must not hold up the process' end.
    block_on_close = False


def serve(
    settings: MetricsSettings,
    registry: CollectorRegistry,
    healthy: Callable[[], bool],
    more: Callable[[], Mapping[str, object]] = dict,
) -> int | None:
    """Serves until the process ends, if a port is configured; returns the port. Raises ExporterError.

    `/healthz` is 200 while `healthy()`, else 503; its JSON has `status`, and what `more()` adds.
    """
    if settings.port is None:
        return None

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # s that a client may take for its request

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif path == "/healthz":
                alive = healthy()
                status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
                body = json.dumps({"status": "alive" if alive else "hangs", **more()}).encode()
                self._answer(status, "application/json", body)
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics and /healthz\n")

        def log_message(self, *_: object) -> None:
            """A scrape every few seconds is no news."""

        def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
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
