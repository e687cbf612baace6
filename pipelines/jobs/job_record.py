"""The record of one paid piece of work: its order, the answers it paid for, and its charge."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from pydantic import Field

from pipelines.billing.pricing import Charge
from pipelines.jobs.documents import Document
from pipelines.jobs.order_record import OrderRecord
from pipelines.runtime.errors import BilledFailureError, RetryableError
from schemas.artifacts import job_record_key
from schemas.events import Frozen, Tokens
from sinks.object_store import ObjectStore


class StepResult(Frozen):
    """A checked answer of a language model, and the tokens it cost."""

    text: str
    tokens: Tokens


class JobRecord(Frozen):
    """Durable state of a job.

    order: its order at a provider that works remotely. steps: answers of a language model by step, stored as soon as
    they arrive, since such a provider keeps no order that could be found after a crash. wasted: tokens of answers that
    were paid for and could not be used. charge: the cost and the price; it never changes.
    """

    order: OrderRecord | None = None
    steps: dict[str, StepResult] = Field(default_factory=dict)
    wasted: Tokens = Tokens()
    charge: Charge | None = None

    def spent(self) -> Tokens:
        """Returns all tokens of the job."""
        return sum((step.tokens for step in self.steps.values()), self.wasted)

    def with_step(self, name: str, step: StepResult) -> "JobRecord":
        """Adds an answer. The first answer to a step stands; another one counts as wasted."""
        if name in self.steps:
            return self.with_wasted(step.tokens)
        return self.model_copy(update={"steps": {**self.steps, name: step}})

    def with_wasted(self, tokens: Tokens) -> "JobRecord":
        """Adds wasted tokens."""
        return self.model_copy(update={"wasted": self.wasted + tokens})

    def with_charge(self, charge: Charge) -> "JobRecord":
        """Adds the charge, unless there is one: the first one stands."""
        return self if self.charge else self.model_copy(update={"charge": charge})

    def with_order(self, order: OrderRecord, *, replaces: OrderRecord | None) -> "JobRecord":
        """Replaces the order, if it is still the one that the worker decided on."""
        return self.model_copy(update={"order": order}) if self.order == replaces else self

    def with_submitted(self, remote_id: str) -> "JobRecord":
        """Records that the provider has the order. It is a fact, no matter which worker holds the lease."""
        if self.order is not None and self.order.state != "claimed":
            return self
        return self.model_copy(update={"order": OrderRecord(state="submitted", remote_id=remote_id)})


class JobDocument(Document[JobRecord]):
    """The stored `JobRecord` of one job. Methods raise what `Document` raises."""

    def __init__(self, objects: ObjectStore, tenant: str, call_id: str, job_id: str) -> None:
        super().__init__(objects, job_record_key(tenant, call_id, job_id), JobRecord)

    async def known(self) -> JobRecord:
        """Returns the record, reading it only if that has not happened yet; an empty one if it does not exist."""
        if not self.was_read:
            await self.get()
        return self.content or JobRecord()

    async def change(self, change: Callable[[JobRecord], JobRecord]) -> JobRecord:
        """Changes the record, starting with an empty one."""
        return await self.update(lambda record: change(record or JobRecord()))

    async def replace_order(self, order: OrderRecord, *, replaces: OrderRecord | None) -> bool:
        """Returns True if the order is now this one. False: another worker has changed it meanwhile."""
        return (await self.change(lambda record: record.with_order(order, replaces=replaces))).order == order

    async def charge(self, decide: Callable[[JobRecord], Awaitable[Charge | None]]) -> Charge | None:
        """Returns the charge of the job, None if it is free.

        The first charge is stored and stands: prices may change before the job's events are published again, and the
        ledger line must stay the same. `decide` runs each time, since parts with the same audio share a job, and each
        of them records that it was charged.
        """
        charge = await decide(await self.known())
        return (await self.change(lambda record: record.with_charge(charge))).charge if charge else None

    async def step(self, name: str) -> str | None:
        """Returns the stored answer to a step."""
        step = (await self.known()).steps.get(name)
        return step.text if step else None

    async def save_step(self, name: str, text: str, tokens: Tokens) -> None:
        """Stores the answer to a step. Raises BilledFailureError if that fails, since the answer is paid for."""
        with _answer_is_paid():
            await self.change(lambda record: record.with_step(name, StepResult(text=text, tokens=tokens)))

    async def count_wasted(self, tokens: Tokens) -> None:
        """Counts tokens of an unusable answer. Raises BilledFailureError if that fails.

        They count twice if the store's answer to the write is lost: the margin may look too small, never too large.
        """
        with _answer_is_paid():
            await self.change(lambda record: record.with_wasted(tokens))


@contextmanager
def _answer_is_paid() -> Iterator[None]:
    try:
        yield
    except RetryableError as error:
        raise BilledFailureError(str(error)) from error
