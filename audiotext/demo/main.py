"""Runs the demo: starts the stack, plays the calls, waits for the last stage, checks and prints the results."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import FrameType

from pydantic import SecretStr
from rich.console import Console
from rich.live import Live

from audiotext.cli.commands.up import load_settings
from audiotext.cli.terminal import Terminal, notes
from audiotext.demo.client import ApiClient, ApiError, Json
from audiotext.demo.report import CallView, Result, call_report, closing, progress_table, sign_in_link
from audiotext.embedded.server import port_is_free
from audiotext.stack.stack import Stack
from core.settings import Settings
from gateway.simulator import Played, Progress, play

DATA_DIR = Path("data") / "demo"
_STAGES_S = 120.0  # time after hang-up within which the last stage must finish, also on a slow machine
_QUERIES = {
    "broadband_outage": "the internet connection is down, send a technician",
    "clinic_reschedule": "does my insurance pay for the dental x-ray",
}


@dataclass(frozen=True, slots=True)
class DemoCall:
    """One of the calls in the package, and the call id of this run."""

    name: str
    audio: Path
    call_id: str


def run_demo(data_dir: Path | None, port: int | None, speed: float, *, keep: bool) -> int:
    """Runs the demo and returns the exit code.

    0: both calls are recorded, transcribed, summarized, found by the search and billed once. keep: runs the stack until
    Ctrl-C afterwards.
    """
    console = Terminal(highlight=False)
    settings = _settings(data_dir, port)
    if not data_dir:
        _start_empty(settings.data_dir)
    stack = Stack(settings, lambda line: console.print(f"  {line}", style="dim", markup=False))
    with _stopped_by_signals(stack):
        try:
            return _run(stack, console, speed, keep=keep)
        except KeyboardInterrupt:
            console.print("interrupted")
            return 130
        finally:
            stack.stop()


def _run(stack: Stack, console: Console, speed: float, *, keep: bool) -> int:
    began = time.monotonic()
    console.print("[bold]1. Starting everything on this machine[/]")
    stack.start()
    stack.wait_ready()
    console.print(f"  {', '.join(sorted(stack.status()))}", style="dim")
    console.print(f"  ready after {time.monotonic() - began:.1f} s")
    key = _secret(stack.settings.admin_key)
    console.print(f"  watch it at {sign_in_link(stack.settings, key)}\n", markup=False, soft_wrap=True)
    with resources.as_file(resources.files("audiotext") / "demo_calls") as folder:
        calls = [
            DemoCall(name, folder / f"{name}.flac", f"CA{name.replace('_', '-')}-{secrets.token_hex(4)}")
            for name in _QUERIES
        ]
        result = asyncio.run(_play_and_watch(stack.settings, calls, console, speed))
    console.print(closing(result, stack.settings, kept=keep))
    if keep:
        for note in notes(stack):
            console.print(f"  note: {note}", style="dim", markup=False)
        console.print("Everything keeps running; Ctrl-C stops it.")
        while True:
            signal.pause()
    console.print(f"[dim]took {time.monotonic() - began:.0f} s[/]")
    return 0 if result.ok else 1


async def _play_and_watch(settings: Settings, calls: Sequence[DemoCall], console: Console, speed: float) -> Result:
    """Plays all calls at the same time, shows the progress of each, and collects the results."""
    pace = "in real time" if speed == 1 else f"{speed:g} times as fast as real time"
    console.print(f"[bold]2. Playing two calls at the same time[/], {pace}, as Twilio would stream them")
    key = _secret(settings.admin_key)
    async with ApiClient(f"http://127.0.0.1:{settings.gateway.port}", key) as api:
        views = {call.call_id: CallView(call.name) for call in calls}
        with _shown(views, console):
            watching = [asyncio.create_task(_watch(api, call.call_id, views[call.call_id])) for call in calls]
            try:
                await asyncio.gather(*(_play(settings, call, views[call.call_id], speed) for call in calls))
                documents = await asyncio.gather(*(api.finished(call.call_id, _STAGES_S) for call in calls))
                await asyncio.sleep(0.3)  # time for the table to show the last state
            finally:
                for task in watching:
                    task.cancel()
        console.print("\n[bold]3. Results[/]")
        result = Result()
        for call, document in zip(calls, documents, strict=True):
            await _collect(api, call, document, result, console)
        return result


async def _collect(api: ApiClient, call: DemoCall, document: Json | None, result: Result, console: Console) -> None:
    """Fetches and prints the results of a call, and records problems."""
    if document is None or document["status"] != "complete":
        state = "nothing" if document is None else f"{document['status']} ({document['failed_reason']})"
        result.problems.append(f"{call.name}: not complete after {_STAGES_S:g} s but {state}")
        return
    try:
        transcript = await api.get(f"/v1/calls/{call.call_id}/transcript", format="json")
        query = _QUERIES[call.name]
        hits = (await api.get("/v1/search", q=query, limit="10"))["results"]
    except ApiError as error:
        result.problems.append(f"{call.name}: {error}")
        return
    if not transcript["segments"]:
        result.problems.append(f"{call.name}: the transcript is empty")
    # A directory from an earlier run has the same calls under other ids; they are equally good hits.
    best = next((hit for hit in hits if call.name.replace("_", "-") in hit["call_id"]), None)
    if not hits or best is not hits[0]:
        result.problems.append(f"{call.name}: not the first hit for “{query}”")
    lines = [line for line in document["usage"] if line["kind"] == "transcription"]
    if len(lines) != 1:
        result.problems.append(f"{call.name}: {len(lines)} ledger lines instead of one")
    result.lines += lines
    console.print(call_report(call.name, document, transcript, query, hits[0] if hits else None))


async def _play(settings: Settings, call: DemoCall, view: CallView, speed: float) -> Played:
    def on_progress(progress: Progress) -> None:
        view.sent_ms, view.total_ms = progress.sent_ms, progress.total_ms

    played = await play(
        call.audio,
        url=f"ws://127.0.0.1:{settings.gateway.port}/v1/media/twilio",
        auth_token=_secret(settings.twilio.auth_token),
        public_url=settings.base_url,
        call_id=call.call_id,
        speed=speed,
        on_progress=on_progress,
    )
    view.hung_up_at = time.monotonic()
    return played


async def _watch(api: ApiClient, call_id: str, view: CallView) -> None:
    while True:
        call = await api.call(call_id)
        if call is not None:
            view.reached(call["status"], time.monotonic())
        await asyncio.sleep(0.2)


@contextlib.contextmanager
def _shown(views: dict[str, CallView], console: Console) -> Iterator[None]:
    """Shows the progress: a live table on a terminal, or only the final table in a file or CI."""
    if console.is_terminal:
        with Live(console=console, get_renderable=lambda: progress_table(views.values()), refresh_per_second=8):
            yield
    else:
        yield
        console.print(progress_table(views.values()))


def _settings(data_dir: Path | None, port: int | None) -> Settings:
    """Returns the user's settings, with random secrets for this run where none are set.

    If no port is set and the default port is taken, the settings name a free one.
    """
    settings = load_settings(data_dir, port)
    changes: dict[str, object] = {}
    if not data_dir:
        changes["data_dir"] = DATA_DIR
    if settings.admin_key is None:
        changes["admin_key"] = SecretStr(secrets.token_urlsafe(24))
    if settings.twilio.auth_token is None:
        token = SecretStr(secrets.token_hex(16))
        changes["twilio"] = settings.twilio.model_copy(update={"auth_token": token})
    gateway = settings.gateway
    if "port" not in gateway.model_fields_set:
        free = next(number for number in range(gateway.port, 65535) if port_is_free(number, gateway.host))
        changes["gateway"] = gateway.model_copy(update={"port": free})
    return settings.model_copy(update=changes)


def _start_empty(data_dir: Path) -> None:
    """Removes the data of earlier demos, except the models that they prepared."""
    for entry in data_dir.glob("*"):
        if entry.name not in ("models", "lock"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextlib.contextmanager
def _stopped_by_signals(stack: Stack) -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM stop the demo at any point. A second signal kills the processes at once."""
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            stack.force_stop()
            return
        stopping = True
        stack.cancel()
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _secret(value: SecretStr | None) -> str:
    assert value is not None
    return value.get_secret_value()
