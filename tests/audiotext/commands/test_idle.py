"""`audiotext idle`: what a gateway's pod waits for before it may end."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from audiotext import cli
from audiotext.commands import idle

Serve = Callable[[list[int]], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serves figures one after the other, the last for ever, where the gateway's are expected."""
    servers: list[HTTPServer] = []

    def start(figures: list[int]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                figure = figures.pop(0) if len(figures) > 1 else figures[0]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"# HELP x\naudiotext_gateway_streams_live %.1f\nother 7\n" % figure)

            def log_message(self, *_: object) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AUDIOTEXT_GATEWAY__PORT", str(server.server_address[1]))

    monkeypatch.setattr(idle, "_EVERY_S", 0.01)
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_waits_for_the_last_stream(serve: Serve) -> None:
    """Two streams, one, none, one that came late, none: it returns only after nothing has been live for a while. If it
    returned sooner, an update would cut that call off."""
    figures = [2, 1, 0, 1, 0]
    serve(figures)
    assert cli.main(["idle", "--settle", "0.05", "--timeout", "30"]) == 0
    assert figures == [0]


def test_it_does_not_wait_for_ever(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """A call that goes on for longer is said, and the pod is ended."""
    serve([3])
    assert cli.main(["idle", "--timeout", "0.05"]) == 1
    assert "3 streams are still live" in capsys.readouterr().out


def test_no_gateway_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to wait for: one line, and at once."""
    monkeypatch.setenv("AUDIOTEXT_GATEWAY__PORT", "9")
    assert cli.main(["idle"]) == 1
    assert "no gateway answers on port 9" in capsys.readouterr().err
