"""One run: starts the stack, plays the calls, causes the faults, waits for the rest, and checks the results."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException

from audiotext.cli.connection import settings_for
from core.settings import Settings
from tests.chaos import faults
from tests.chaos.carrier import Call, make
from tests.chaos.faults import SUPERVISOR, Action, Fault
from tests.chaos.log_reader import LogReader
from tests.chaos.plans import CallPlan, plans
from tests.chaos.promises import END_BOUND_S, KILL_BOUND_S, Finding, GatewayEnd, Measured
from tests.chaos.target import IDLE_S, Target
from tests.chaos.verdict import Evidence, judge

_PROGRESS_S = 10.0
_QUIET_S = 240.0  # how long after the last fault everything may take
_READ_S = 20.0


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run. every_s: average time between faults. keep: keeps the data directory in any case."""

    minutes: float
    calls: int
    seed: int
    log: str = "embedded"
    every_s: float = 3.0
    keep: bool = False


@dataclass(slots=True)
class Outcome:
    """Outcome of a run. done: faults that hit a target. quiet_s: time from the last fault to the end of all work."""

    directory: Path
    calls: list[Call] = field(default_factory=list)
    done: list[Fault] = field(default_factory=list)
    ends: list[GatewayEnd] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    measured: Measured = field(default_factory=Measured)
    disk: bool = False
    quiet_s: float | None = None


class Run:
    """One run. say: receives one line at a time."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options = options
        self._tell = say
        self._directory = Path(tempfile.mkdtemp(prefix=f"audiotext-chaos-{options.seed}-"))
        self._journal = (self._directory / "chaos.log").open("a")
        self._target = Target(self._directory, options.log)
        self._outcome = Outcome(self._directory)
        self._live = 0
        self._began = time.monotonic()

    def run(self) -> Outcome:
        """Runs everything. Keeps the directory if a check fails; its `chaos.log` has each fault with its time."""
        outcome = self._outcome
        try:
            self._target.start()
            outcome.disk = self._target.disk
            asyncio.run(self._attack())
            self._judge()
        finally:
            self._target.stop()
            self._journal.close()
        if not outcome.findings and not self._options.keep:
            shutil.rmtree(self._directory)
        return outcome

    async def _attack(self) -> None:
        options = self._options
        seconds = options.minutes * 60
        self._began = time.monotonic()
        deck = faults.deck(self._target.brokers, disk=self._target.disk)
        todo = faults.schedule(options.seed, deck, seconds=seconds, every_s=options.every_s)
        audio = self._directory / "audio"
        audio.mkdir()
        self._say(f"seed {options.seed}: {options.calls} calls, {len(todo)} faults in {seconds:.0f} s, {options.log}")
        progress = asyncio.create_task(self._progress())
        async with asyncio.TaskGroup() as group:
            for fault in todo:
                group.create_task(self._inflict(fault))
            for plan in plans(options.seed, options.calls, seconds):
                group.create_task(self._call(plan, audio, self._began + seconds + IDLE_S))
        progress.cancel()
        self._target.heal()

    async def _call(self, plan: CallPlan, audio: Path, patience_ends: float) -> None:
        await asyncio.sleep(self._began + plan.at_s - time.monotonic())
        self._live += 1
        call = await make(plan, self._target.up, audio, lambda: time.monotonic() > patience_ends)
        self._live -= 1
        self._outcome.calls.append(call)
        self._note(f"call {plan.call_id} ({plan.kind}): {', '.join(stream.ending for stream in call.streams)}")

    async def _inflict(self, fault: Fault) -> None:
        await asyncio.sleep(self._began + fault.at_s - time.monotonic())
        card = fault.card
        at = time.monotonic()
        ends_gateway = card.target == SUPERVISOR or (card.target == "gateway" and card.action is not Action.PAUSE)
        if card.target == SUPERVISOR:
            whom = await asyncio.to_thread(self._target.begin, card)
        else:
            whom = self._target.begin(card)  # in this thread, whose end would be that of brokers it started
        self._note(f"{card} for {fault.for_s:.1f} s: {whom or 'nobody there'}")
        if not whom:
            return
        self._outcome.done.append(fault)
        if ends_gateway:
            # A supervisor's gateway is asked to end, but so is the embedded log, which need not wait for it.
            asked = card.action is Action.END or (card.target == SUPERVISOR and self._target.brokers)
            bound_s = END_BOUND_S if asked else KILL_BOUND_S
            self._outcome.ends.append(GatewayEnd(at, bound_s))
        await asyncio.sleep(fault.for_s)
        self._target.end(card)

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            outcome = self._outcome
            broken = sum(call.broken for call in outcome.calls)
            self._say(
                f"{len(outcome.calls)} calls over ({broken} broken), {self._live} live, {len(outcome.done)} faults"
            )

    def _judge(self) -> None:
        settings, _ = settings_for(self._target.up.data_dir)
        reader = LogReader(settings.kafka)
        try:
            over = time.monotonic()
            if self._wait_until_quiet(reader, over + _QUIET_S):
                self._outcome.quiet_s = time.monotonic() - over
            self._say(f"quiet after {time.monotonic() - over:.0f} s; looking at everything")
            self._outcome.findings, self._outcome.measured = judge(self._evidence(reader, settings))
        finally:
            reader.close()
        for finding in self._outcome.findings:
            self._note(f"{finding.kind}: {finding.subject}: {finding.detail}")

    def _wait_until_quiet(self, reader: LogReader, deadline: float) -> bool:
        said = time.monotonic()
        while time.monotonic() < deadline:
            waiting_for = self._unquiet(reader)
            if waiting_for is None:
                return True
            if time.monotonic() - said > _PROGRESS_S:
                said = time.monotonic()
                self._say(f"waiting: {waiting_for}")
            time.sleep(0.5)
        return False

    def _unquiet(self, reader: LogReader) -> str | None:
        """Returns what is still in progress, or None."""
        if not reader.read_on(_READ_S):
            return "the log does not give all it has"
        lag = {"?": 0}
        with contextlib.suppress(KafkaException):
            lag = reader.lag()
        if lag:
            return f"lag {lag}"
        if spooled := sum(1 for _ in self._target.spool.iterdir()):
            return f"{spooled} parts in the spool"
        unfinished = Counter(status for call in self._outcome.calls if (status := self._status(call.plan.call_id)))
        unfinished.pop("complete", None)
        return f"calls {dict(unfinished)}" if unfinished else None

    def _evidence(self, reader: LogReader, settings: Settings) -> Evidence:
        reader.read_on(_READ_S)
        lag = {"every group": -1}
        with contextlib.suppress(KafkaException):
            lag = reader.lag()
        return Evidence(
            calls=self._outcome.calls,
            ends=self._outcome.ends,
            tape=reader.tape,
            settings=settings,
            spool=self._target.spool,
            lag=lag,
            status=self._status,
            bill=self._bill,
            orders=self._target.provider.orders,
            kept=self._target.provider.kept,
        )

    def _status(self, call_id: str) -> str | None:
        call = self._target.up.call(call_id)
        return str(call["status"]) if call is not None else None

    def _bill(self) -> Sequence[tuple[int, int, str]]:
        total = self._target.up.json("/v1/usage")["total"]
        return [(row["lines"], row["units"], row["price"]) for row in total]

    def _say(self, line: str) -> None:
        self._tell(f"{time.monotonic() - self._began:6.0f} s  {line}")
        self._note(line)

    def _note(self, line: str) -> None:
        self._journal.write(f"{time.monotonic() - self._began:8.2f}  {line}\n")
        self._journal.flush()
