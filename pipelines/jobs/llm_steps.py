"""What a language model answered, kept as soon as it is there: an answer that is paid for is not asked for again.

A model that answers at once has no order to look up after a crash. So of a job in several steps each answer is stored
before the next is asked for, and a worker that takes over goes on from there. What was paid for and could not be used
is counted, so that the bill knows it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import Field, ValidationError

from pipelines.jobs.documents import translate_store_errors
from pipelines.runtime.errors import BilledFailureError, PermanentError, RetryableError
from schemas.events import Frozen, Tokens
from sinks.object_store import ObjectStore


class StepResult(Frozen):
    """A model's answer, checked, and what it took."""

    text: str
    tokens: Tokens


class StepResults(Frozen):
    """All of a job. kept: by step. wasted: tokens of answers that nobody could use."""

    kept: dict[str, StepResult] = Field(default_factory=dict)
    wasted: Tokens = Tokens()

    def spent(self) -> Tokens:
        """All tokens of the job."""
        return sum((answer.tokens for answer in self.kept.values()), self.wasted)

    def with_kept(self, step: str, answer: StepResult) -> "StepResults":
        """With one more answer. Who answered a step first has answered it; another answer is wasted."""
        if step in self.kept:
            return self.with_wasted(answer.tokens)
        return self.model_copy(update={"kept": {**self.kept, step: answer}})

    def with_wasted(self, tokens: Tokens) -> "StepResults":
        """With more tokens that were for nothing."""
        return self.model_copy(update={"wasted": self.wasted + tokens})


class StepStore:
    """The answers of one job, in one object. Methods raise RetryableError when object storage is away, AnsweredError
    when that loses an answer, PermanentError for something else in the object's place."""

    def __init__(self, objects: ObjectStore, key: str) -> None:
        self._objects = objects
        self._key = key

    async def read(self) -> StepResults:
        """What is there so far."""
        with translate_store_errors():
            found = await asyncio.to_thread(self._objects.get_versioned, self._key)
        return self._parsed(found.data) if found else StepResults()

    async def save(self, step: str, text: str, tokens: Tokens) -> None:
        """Stores a step's answer."""
        with _answered():
            await self._change(lambda answers: answers.with_kept(step, StepResult(text=text, tokens=tokens)))

    async def count_wasted(self, tokens: Tokens) -> None:
        """Counts tokens that were for nothing."""
        with _answered():
            await self._change(lambda answers: answers.with_wasted(tokens))

    async def _change(self, change: Callable[[StepResults], StepResults]) -> None:
        # Again when somebody else was quicker. Should the store have taken a write and its answer be lost, tokens are
        # counted twice: rather a margin that looks too small than one that looks too large.
        while True:
            with translate_store_errors():
                found = await asyncio.to_thread(self._objects.get_versioned, self._key)
                data = change(self._parsed(found.data) if found else StepResults()).model_dump_json().encode()
                if await asyncio.to_thread(
                    self._objects.compare_and_swap, self._key, data, "application/json", replaces=found
                ):
                    return

    def _parsed(self, data: bytes) -> StepResults:
        try:
            return StepResults.model_validate_json(data)
        except ValidationError as error:
            # Asking again would pay again: somebody has to look.
            raise PermanentError(f"{self._key} holds no answers: {error}") from error


@contextmanager
def _answered() -> Iterator[None]:
    """An answer that cannot be kept has been paid for."""
    try:
        yield
    except RetryableError as error:
        raise BilledFailureError(str(error)) from error
