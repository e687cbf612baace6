"""The intent before money: what is decided, and that no history of crashes, freezes and lost answers pays twice."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.settings import S3Settings
from pipelines.jobs.job_record import JobDocument
from pipelines.jobs.order_record import (
    AdoptOrder,
    OrderRecord,
    PlaceOrder,
    PollResult,
    WaitForLease,
    next_action,
)
from pipelines.runtime.errors import PermanentError
from sinks.object_store import ObjectStore

ORDER_MS, SETTLE_MS = 30_000, 30_000
CLAIMED = OrderRecord(state="claimed", token="t", expires_at_ms=1_000)


@pytest.mark.parametrize(
    ("intent", "found", "asked_ms", "step"),
    [
        (None, None, 0, PlaceOrder()),
        (CLAIMED, None, 999, WaitForLease(0.001)),
        (CLAIMED, "r", 999, AdoptOrder("r")),
        (CLAIMED, "r", 1_000, AdoptOrder("r")),
        (CLAIMED, None, 1_000, PlaceOrder()),
        (OrderRecord(state="submitted", remote_id="r"), None, 0, PollResult("r")),
        (OrderRecord(state="done", remote_id="r"), None, 0, PollResult("r")),
    ],
)
def test_what_to_do(intent: OrderRecord | None, found: str | None, asked_ms: int, step: object) -> None:
    """Each state of an intent with each answer of the provider. A Claim in place of any other pays twice."""
    assert next_action(intent, found, asked_ms) == step


@dataclass
class Worker:
    """A worker between two of its steps. read: the intent it saw, by its version; found: the provider's answer
    to what it asked at asked_ms."""

    at: str = "idle"
    version: int = 0
    intent: OrderRecord | None = None
    asked_ms: int = 0
    found: str | None = None
    mine: OrderRecord | None = None


@dataclass
class Request:
    """An order on its way to the provider. arrives_by_ms: the network gives it up after that."""

    arrives_by_ms: int
    worker: int


class OneJob(RuleBasedStateMachine):
    """Three workers, one job: zombies, since a rebalance gave the job to another while the first still runs.

    Every step of every worker (read the intent, ask the provider, write the intent, look at the clock and send, write
    down the answer) can come in any order, be followed by a crash or a freeze of any length; requests arrive late or
    never, answers get lost. The intent is a versioned cell of which one writer wins, as object storage gives it.
    What must never happen: the provider takes the job's order twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.version = 0
        self.intent: OrderRecord | None = None
        self.workers = [Worker() for _ in range(3)]
        self.on_the_way: list[Request] = []
        self.taken = 0

    workers_ = st.integers(0, 2)

    @initialize()
    def begin(self) -> None:
        """Nothing is known of the job."""

    @rule(ms=st.sampled_from([1, 1_000, ORDER_MS - 1, ORDER_MS, SETTLE_MS, 200_000]))
    def time_passes(self, ms: int) -> None:
        """For all alike; requests too old are given up by the network."""
        self.now += ms
        self.on_the_way = [request for request in self.on_the_way if request.arrives_by_ms > self.now]

    @rule(n=workers_)
    def crash(self, n: int) -> None:
        """A worker is killed: what it sent is still on its way. The job is delivered again."""
        self.workers[n] = Worker()

    @rule(n=workers_)
    def step(self, n: int) -> None:
        """The next step of a worker."""
        worker = self.workers[n]
        getattr(self, f"_{worker.at}")(n, worker)

    def _idle(self, n: int, worker: Worker) -> None:
        self.workers[n] = Worker("asks", self.version, self.intent)

    def _asks(self, n: int, worker: Worker) -> None:
        worker.asked_ms = self.now
        worker.found = "r" if self.taken else None
        worker.at = "writes"

    def _writes(self, n: int, worker: Worker) -> None:
        step = next_action(worker.intent, worker.found, worker.asked_ms)
        if isinstance(step, PlaceOrder):
            mine = OrderRecord(state="claimed", token=str(n), expires_at_ms=self.now + ORDER_MS + SETTLE_MS)
            worker.at = "sends" if self._swap(worker, mine) else "idle"
        elif isinstance(step, AdoptOrder):
            self._swap(worker, OrderRecord(state="submitted", remote_id=step.remote_id))
            worker.at = "idle"
        else:
            worker.at = "idle"

    def _sends(self, n: int, worker: Worker) -> None:
        assert worker.mine is not None
        if self.now < worker.mine.expires_at_ms - SETTLE_MS:
            self.on_the_way.append(Request(worker.mine.expires_at_ms, n))
        worker.at = "idle"

    def _swap(self, worker: Worker, intent: OrderRecord) -> bool:
        if worker.version != self.version:
            return False
        self.version += 1
        self.intent = worker.mine = intent
        worker.version = self.version
        return True

    @precondition(lambda self: self.on_the_way)
    @rule(answered=st.booleans())
    def arrives(self, answered: bool) -> None:
        """The oldest request reaches the provider; the sender may learn of it or not."""
        request = self.on_the_way.pop(0)
        self.taken += 1
        worker = self.workers[request.worker]
        if answered and worker.mine is not None:
            self._swap(worker, OrderRecord(state="submitted", remote_id="r"))

    @invariant()
    def it_is_ordered_once(self) -> None:
        """The promise."""
        assert self.taken <= 1

    def teardown(self) -> None:
        """Whatever happened, a worker that is left alone gets the job ordered."""
        self.now += 1_000_000
        self.on_the_way.clear()
        self.workers = [Worker()]
        for _ in range(10):
            self.step(0)
            if self.on_the_way:
                self.arrives(True)
        assert self.taken == 1
        assert self.intent is not None
        assert self.intent.state == "submitted"


OneJob.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestOneJob = OneJob.TestCase


def document(objects: ObjectStore, call_id: str) -> JobDocument:
    """A worker's view of the record of a job."""
    return JobDocument(objects, "acme", call_id, "job")


async def test_an_order_is_replaced_only_by_who_read_it(s3: S3Settings) -> None:
    """Two workers read that there is no order, both claim it: the second learns that it was too late, reads, and may
    then replace it. If both succeeded, both would order."""
    objects, call_id = ObjectStore(s3), uuid.uuid4().hex
    one, other = document(objects, call_id), document(objects, call_id)
    assert (await one.get(), await other.get()) == (None, None)
    first, second = OrderRecord(state="claimed", token="a"), OrderRecord(state="claimed", token="b")

    assert await one.replace_order(first, replaces=None)
    assert not await other.replace_order(second, replaces=None)
    assert (await other.known()).order == first
    assert await other.replace_order(second, replaces=first)
    assert not await one.replace_order(OrderRecord(state="claimed", token="c"), replaces=first)


async def test_a_claim_whose_acknowledgement_was_lost_is_recognised(
    s3: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store took the claim, its answer was lost and the client asked again, which the store refuses. The writer
    must see that it is its own: otherwise it would wait a minute for itself."""
    objects, call_id = ObjectStore(s3), uuid.uuid4().hex
    swap = objects.compare_and_swap

    def repeated(*args: Any, **more: Any) -> Any:
        swap(*args, **more)
        return swap(*args, **more)

    monkeypatch.setattr(objects, "compare_and_swap", repeated)
    assert await document(objects, call_id).replace_order(OrderRecord(state="claimed", token="mine"), replaces=None)


async def test_a_submitted_order_stays_whoever_claims(s3: S3Settings) -> None:
    """A worker has ordered, and another one has claimed the order meanwhile: that the provider has it is recorded all
    the same, and no claim replaces it. Otherwise the order would be neither collected nor deleted at the provider."""
    objects, call_id = ObjectStore(s3), uuid.uuid4().hex
    late, other = document(objects, call_id), document(objects, call_id)
    mine, theirs = OrderRecord(state="claimed", token="a"), OrderRecord(state="claimed", token="b")
    assert await late.replace_order(mine, replaces=None)
    await other.get()
    assert await other.replace_order(theirs, replaces=mine)

    await late.change(lambda job: job.with_submitted("r"))
    assert not await other.replace_order(OrderRecord(state="claimed", token="c"), replaces=theirs)
    assert (await other.known()).order == OrderRecord(state="submitted", remote_id="r")


async def test_something_else_in_a_records_place_is_never_overwritten(s3: S3Settings) -> None:
    """The object is damaged. It is unknown whether money was spent, so none is spent: permanent, for every method."""
    objects, record = ObjectStore(s3), document(ObjectStore(s3), uuid.uuid4().hex)
    objects.put(record.key, b"{", "application/json")

    with pytest.raises(PermanentError):
        await record.get()
    with pytest.raises(PermanentError):
        await record.replace_order(OrderRecord(state="claimed"), replaces=None)
    assert objects.get(record.key) == b"{"


def test_of_many_writers_one_wins(s3: S3Settings) -> None:
    """Eight threads swap the same object at the same time, four times, with and without one to replace: each time
    exactly one succeeds. All of the promise rests on this property of the object storage."""
    objects = ObjectStore(s3)
    with ThreadPoolExecutor(8) as threads:
        for round_ in range(4):
            key = f"intents/{uuid.uuid4().hex}"
            before = objects.compare_and_swap(key, b"before", "text/plain", replaces=None) if round_ % 2 else None
            won = threads.map(
                lambda n, key=key, before=before: objects.compare_and_swap(
                    key, bytes([n]), "text/plain", replaces=before
                ),
                range(8),
            )
            assert sum(tagged is not None for tagged in won) == 1
