"""Object storage and event sink in memory, whose operations fail once."""

from collections.abc import Iterable
from pathlib import Path

from redpanda.client import EventProducer, LogUnavailableError
from schemas.events import Event, ObjectRef
from schemas.ids import sha256_hex
from sinks.object_store import ObjectStore, ObjectStoreError


class Faults:
    """Makes every operation fail once: failure n happens at step n."""

    def __init__(self) -> None:
        self._step = 0
        self._fail_at = 0
        self.failed = 0

    def pass_or_raise(self, error: Exception) -> None:
        self._step += 1
        if self._step > self._fail_at:
            self._step, self._fail_at, self.failed = 0, self._fail_at + 1, self.failed + 1
            raise error


class Store(ObjectStore):
    """Object storage in memory."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        self.objects[key] = data
        self._faults.pass_or_raise(ObjectStoreError("the store is away"))
        return ObjectRef(key=key, sha256=sha256_hex(data), size=len(data))

    def put_file(self, key: str, path: Path, content_type: str, sha256: str) -> ObjectRef:
        return self.put(key, path.read_bytes(), content_type)


class Events(EventProducer):
    """Event sink in memory."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.sent: list[Event] = []

    def send(self, topic: str, events: Iterable[Event], timeout_s: float = 30.0) -> None:
        self.sent += events
        if self._faults.failed < 4:
            self._faults.pass_or_raise(LogUnavailableError("the log is away"))
