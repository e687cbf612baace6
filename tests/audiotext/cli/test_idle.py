"""`audiotext idle`: the wait before the pod of a gateway may end."""

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from audiotext.cli import main
from audiotext.cli.commands import idle
from audiotext.stack.datadir import DataDir, RunningStack

Serve = Callable[[list[int]], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serves numbers of live streams one after the other at the port of the gateway; the last one is repeated."""
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

    monkeypatch.setattr(idle, "_POLL_INTERVAL_S", 0.01)
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_waits_until_no_stream_is_live(serve: Serve) -> None:
    """Serves 2, 1, 0, 1 and 0 live streams: the command returns after a while without live streams.

    A failure means that an update cuts off a call that begins late.
    """
    figures = [2, 1, 0, 1, 0]
    serve(figures)
    assert main.main(["idle", "--settle", "0.05", "--timeout", "30"]) == 0
    assert figures == [0]


def test_it_prints_each_change(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serves 2, 1, 1 and 0 streams at the port of the stack on the named directory.

    The shell's settings name another port. The command prints a line for each change, so that an operator who waits for
    two hours sees progress.
    """
    serve([2, 1, 1, 0])
    port = os.environ["AUDIOTEXT_GATEWAY__PORT"]
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"AUDIOTEXT_GATEWAY__PORT": "9"})  # the command adds to it
    owner = DataDir(tmp_path)
    owner.publish(RunningStack({"AUDIOTEXT_GATEWAY__PORT": port}, []))
    assert main.main(["idle", "--settle", "0.05", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1", "no"]
    owner.release()


def test_it_ends_after_the_timeout(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """Serves 3 streams forever: the command prints the number and returns 1, so that the pod can end."""
    serve([3])
    assert main.main(["idle", "--timeout", "0.05"]) == 1
    assert "3 streams are still live" in capsys.readouterr().out


def test_no_gateway_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs the command without a gateway: it prints one line and returns at once."""
    monkeypatch.setenv("AUDIOTEXT_GATEWAY__PORT", "9")
    assert main.main(["idle"]) == 1
    assert "no gateway answers on port 9" in capsys.readouterr().err
