"""`audiotext idle`: what a gateway's pod waits for before it may end."""

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

    monkeypatch.setattr(idle, "_POLL_INTERVAL_S", 0.01)
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_waits_for_the_last_stream(serve: Serve) -> None:
    """Two streams, one, none, one that came late, none: it returns only after nothing has been live for a while. If it
    returned sooner, an update would cut that call off."""
    figures = [2, 1, 0, 1, 0]
    serve(figures)
    assert main.main(["idle", "--settle", "0.05", "--timeout", "30"]) == 0
    assert figures == [0]


def test_it_says_what_it_waits_for(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway of the directory that is named, which is another than the shell's settings say, has two streams, and
    twice one, then none: a line for each change. Whoever waits two hours has to see that it goes on."""
    serve([2, 1, 1, 0])
    port = os.environ["AUDIOTEXT_GATEWAY__PORT"]
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"AUDIOTEXT_GATEWAY__PORT": "9"})  # the command adds to it
    owner = DataDir(tmp_path)
    owner.publish(RunningStack({"AUDIOTEXT_GATEWAY__PORT": port}, []))
    assert main.main(["idle", "--settle", "0.05", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1", "no"]
    owner.release()


def test_it_does_not_wait_for_ever(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """A call that goes on for longer is said, and the pod is ended."""
    serve([3])
    assert main.main(["idle", "--timeout", "0.05"]) == 1
    assert "3 streams are still live" in capsys.readouterr().out


def test_no_gateway_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to wait for: one line, and at once."""
    monkeypatch.setenv("AUDIOTEXT_GATEWAY__PORT", "9")
    assert main.main(["idle"]) == 1
    assert "no gateway answers on port 9" in capsys.readouterr().err
