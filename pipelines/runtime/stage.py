"""Definition of a slow stage: its name, its topics and the coroutine that does the work."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry

from schemas.events import Event

E = TypeVar("E", bound=Event)
E_contra = TypeVar("E_contra", bound=Event, contravariant=True)


@dataclass(frozen=True, slots=True)
class Output:
    """An event and the topic to publish it on."""

    topic: str
    event: Event


class Handler(Protocol[E_contra]):
    """Work of a stage.

    The runtime invokes it again with the same event after a crash or a failure, so every effect must be idempotent.
    """

    async def __call__(self, event: E_contra) -> Sequence[Output]:
        """Processes the event and returns the events to publish.

        Raises:
            StageError: See pipelines.runtime.errors. Any other exception counts as retryable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stage(Generic[E]):
    """A consumer group and its work.

    Attributes:
        name: Consumer group, and the stage's name in dead letters, for example "transcribe".
        source: Topic that the work arrives on.
        retry: Topic that failed jobs wait on.
        event_type: Type of the events on `source`.
        handler: Coroutine that does the work.
        concurrency: Calls in flight per process.
        timeout_s: Deadline of one attempt, in seconds.
        per_minute: Maximum of attempts that one process starts per minute; None means no limit.
        replays: True for the stage that runs replays. The other stages skip the events that a replay publishes,
            because the replay runs the following stages itself.
        registry: Registry with the handler's own metrics, to which the stage adds its metrics; None if it has none.
        admission: Returns when an attempt may start; None means at once.
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
    registry: CollectorRegistry | None = None
    admission: Callable[[], Awaitable[None]] | None = None
