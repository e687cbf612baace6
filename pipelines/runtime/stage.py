"""What a slow stage is: a name, where its work comes from, and one coroutine."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.events import Event

E = TypeVar("E", bound=Event)
E_contra = TypeVar("E_contra", bound=Event, contravariant=True)


@dataclass(frozen=True, slots=True)
class Output:
    """An event and the topic it belongs on."""

    topic: str
    event: Event


class Handler(Protocol[E_contra]):
    """The work. Called again with the same event after a crash or a failure: every effect must be idempotent.

    Raises the errors of pipelines.runtime.errors; any other exception counts as retryable.
    """

    async def __call__(self, event: E_contra) -> Sequence[Output]: ...


@dataclass(frozen=True, slots=True)
class Stage(Generic[E]):
    """A consumer group and its work.

    name: consumer group, and the stage's name in dead letters ("transcribe").
    source, retry: topics the work comes from and is put aside on. event_type: what is on `source`.
    concurrency: calls in flight per process. timeout_s: deadline of one attempt. per_minute: attempts begun per minute
    and process at the most; None does not limit. replays: whether it is the replays' own: what a replay tells is not
    followed up by the others, since the replay does so itself. turn: returns when an attempt may begin.
    """

    name: str
    source: str
    retry: str
    event_type: type[E]
    handler: Handler[E]
    concurrency: int
    timeout_s: float
    per_minute: int | None = None
    replays: bool = False
    turn: Callable[[], Awaitable[None]] | None = None
