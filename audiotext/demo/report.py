"""Texts that the demo prints. Pure functions from data to Rich renderables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from core.counting import number_of
from core.settings import Settings

_STATES = ("recorded", "transcribed", "summarized", "complete")
_SHOWN_SEGMENTS = 40


@dataclass(slots=True)
class CallView:
    """Progress of a call. hung_up_at, reached_at: monotonic seconds. total_ms, sent_ms: ms of the stream."""

    name: str
    sent_ms: int = 0
    total_ms: int = 0
    hung_up_at: float | None = None
    reached_at: dict[str, float] = field(default_factory=dict)

    def reached(self, status: str, now: float) -> None:
        """Records a status that the API reported. Earlier states that were not seen count as reached now."""
        if status in _STATES:
            for state in _STATES[: _STATES.index(status) + 1]:
                self.reached_at.setdefault(state, now)


@dataclass(slots=True)
class Result:
    """Result of the demo: the ledger lines of all calls, and the problems."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if there are no problems."""
        return not self.problems


def progress_table(views: Iterable[CallView]) -> RenderableType:
    """Returns a table with one line per call: the played time, and the time from hang-up to the end of each stage."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("call", "played", *_STATES):
        table.add_column(heading, no_wrap=True)
    for view in views:
        times = [
            f"+{max(0.0, view.reached_at[state] - view.hung_up_at):.1f} s"
            if view.hung_up_at is not None and state in view.reached_at
            else "·"
            for state in _STATES
        ]
        table.add_row(
            view.name,
            f"{view.sent_ms / 1000:.0f}/{view.total_ms / 1000:.0f} s",
            *times,
        )
    return table


def call_report(
    name: str, call: Mapping[str, Any], transcript: Mapping[str, Any], query: str, hit: Mapping[str, Any] | None
) -> RenderableType:
    """Returns the results of a call: transcript by speaker, summary, one search with its hit, ledger lines."""
    tracks = "; ".join(
        f"{track['name']} {track['audio_ms'] / 1000:.1f} s of audio, {len(track['gaps'])} gaps"
        for track in call["tracks"]
    )
    parts: list[RenderableType] = [
        Text.from_markup(f"\n[bold cyan]{name}[/]  [dim]{call['id']}[/]"),
        Text(f"recording: {call['duration_ms'] / 1000:.1f} s, two channels ({tracks})"),
        Text(f"\ntranscript ({transcript['provider']} {transcript['model']}, {transcript['language']})", style="bold"),
    ]
    segments = transcript["segments"]
    parts += [_segment(segment) for segment in segments[:_SHOWN_SEGMENTS]]
    if len(segments) > _SHOWN_SEGMENTS:
        parts.append(Text(f"… and {len(segments) - _SHOWN_SEGMENTS} more"))
    summary = call["summary"]
    parts += [Text("\nsummary", style="bold"), Text(summary["abstract"])]
    for heading, items in (("key points", summary["key_points"]), ("action items", summary["action_items"])):
        if items:
            parts += [Text(f"\n{heading}", style="bold"), *(_bullet(item) for item in items)]
    parts.append(Text(f"\nsearch “{query}”", style="bold"))
    if hit is None:
        parts.append(Text("no hits"))
    else:
        parts.append(
            Text(f"{hit['score']:.2f}  {hit['call_id']} at {clock(hit['start_ms'])}, {hit['speaker']}: {hit['text']}")
        )
    parts.append(Text("\nledger", style="bold"))
    parts += [Text(_ledger_line(line)) for line in call["usage"]]
    return Padding(Group(*parts), (0, 0, 0, 2))


def closing(result: Result, settings: Settings, *, kept: bool) -> RenderableType:
    """Returns the sum of the bill, the problems, and the addresses for further reading."""
    parts: list[RenderableType] = [Text("\n4. The bill", style="bold")]
    if result.lines:
        cost = sum((Decimal(line["provider_cost"]) for line in result.lines), Decimal(0))
        price = sum((Decimal(line["price"]) for line in result.lines), Decimal(0))
        units, currency = sum(line["units"] for line in result.lines), result.lines[0]["currency"]
        money = ", ".join(
            f"{name} {amount} {currency}"
            for name, amount in (("cost", cost), ("price", price), ("margin", price - cost))
        )
        parts.append(Text(f"  {number_of(len(result.lines), 'call')}, {number_of(units, 'unit')}: {money}"))
    for problem in result.problems:
        parts.append(Text(f"  ✗ {problem}", style="bold red"))
    if result.ok:
        parts.append(Text("  ✓ both calls recorded, transcribed, summarized, found and billed once", style="green"))
    parts.append(Text("\n5. Next steps", style="bold"))
    if kept:
        key = settings.admin_key.get_secret_value() if settings.admin_key else ""
        parts.append(Text(f"  {sign_in_link(settings, key)}", style="bold"))
        parts.append(Text(f"  curl -H 'Authorization: Bearer {key}' {settings.base_url}/v1/calls"))
        parts.append(Text("  API: docs/api.md and /openapi.json"))
    else:
        parts += [
            Text(f"  all data is in {settings.data_dir}; start the stack again with"),
            Text(f"  AUDIOTEXT_ADMIN_KEY=choose-one .venv/bin/audiotext up --data-dir {settings.data_dir}"),
            Text(f"  and open {sign_in_link(settings, 'choose-one')}", style="bold"),
            Text("  API: docs/api.md and /openapi.json · `make demo ARGS=--keep` keeps it running"),
        ]
    return Group(*parts)


def sign_in_link(settings: Settings, key: str) -> str:
    """Returns a link to the web page that signs in. The key is behind the #, so browsers do not send it."""
    return f"{settings.base_url}/sign-in#{quote(key, safe='')}"


def clock(ms: int) -> str:
    """Returns a time as minutes, seconds and tenths: 1:02.3."""
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes}:{rest / 1000:04.1f}"


def _segment(segment: Mapping[str, Any]) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=7, justify="right", style="dim")
    row.add_column(width=9, style="cyan" if segment["channel"] == 0 else "magenta")
    row.add_column()
    row.add_row(clock(segment["start_ms"]), segment["speaker"], segment["text"])
    return row


def _bullet(text: str) -> RenderableType:
    """Returns an item of a list. Lines that are wrapped are indented."""
    row = Table.grid(padding=(0, 1))
    row.add_row("•", Text(text))
    return row


def _ledger_line(line: Mapping[str, Any]) -> str:
    margin = Decimal(line["price"]) - Decimal(line["provider_cost"])
    return (
        f"{line['key']}: {number_of(line['units'], 'unit')}, cost {line['provider_cost']}, price {line['price']}, "
        f"margin {margin} {line['currency']}"
    )
