"""Carries decisions out: the end of the recorder's Quix dataframe. Memory and disk only."""

import logging
import threading
from dataclasses import dataclass
from typing import Any

from quixstreams.sinks.base import BaseSink

from pipelines.recorder.call_timeout import CallTimeouts, OpenCall
from pipelines.recorder.finalizer import RecordingFinalizer
from pipelines.recorder.journal import PartId
from pipelines.recorder.metrics import RecorderMetrics
from pipelines.recorder.spool import Spool
from pipelines.recorder.state_machine import Action, Transition
from schemas.media import MediaRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecidedRecord:
    """A record and what is to be done about it."""

    record: MediaRecord
    decision: Transition


class JournalBehindError(Exception):
    """A journal lacks records that its call's state knows. Going on would lose them; starting again brings them back
    from the log."""


class JournalSink(BaseSink):
    """Quix calls `add` for every record and `flush` before offsets are committed, which makes "committed" mean "on
    disk"."""

    def __init__(
        self,
        *,
        spool: Spool,
        closer: CallTimeouts,
        finisher: RecordingFinalizer,
        metrics: RecorderMetrics | None = None,
    ) -> None:
        super().__init__(on_client_connect_success=lambda: None)
        self._spool = spool
        self._closer = closer
        self._finisher = finisher
        self._metrics = metrics or RecorderMetrics("recorder")
        # When a partition is taken away Quix flushes in a thread of its own, for which it does not wait for ever.
        self._lock = threading.Lock()

    def add(  # noqa: PLR0917  (the signature is Quix')
        self, value: Any, key: Any, timestamp: int, headers: Any, topic: str, partition: int, offset: int
    ) -> None:
        """Carries one decision out. Raises SpoolError, JournalBehindError."""
        record, decision = value.record, value.decision
        identity = PartId(record.tenant, record.call_id, decision.part, partition)
        with self._lock:
            match decision.action:
                case Action.APPEND:
                    if decision.expected_offset < 0:
                        log.info("call %s part %d opened (%s)", record.call_id, decision.part, record.carrier)
                    self._append(identity, record, decision, offset)
                    self._closer.touch(OpenCall(identity, record.carrier, offset, decision.ended))
                case Action.FINISH:
                    self._append(identity, record, decision, offset)
                    self._closer.forget(identity)
                    self._finisher.submit(identity, self._spool.write(identity))
                    self._metrics.closed(record.detail)
                    log.info("call %s part %d closed (%s)", record.call_id, decision.part, record.detail)
                case Action.WATCH:
                    self._closer.touch(OpenCall(identity, record.carrier, decision.expected_offset, decision.ended))
                case Action.RELEASE:
                    self._closer.forget(identity)
                    self._spool.release(identity)
                case Action.FORGET:
                    log.debug("call %s is forgotten", record.call_id)
                case Action.IGNORE:
                    log.debug("call %s: %s at offset %d ignored: %s", key, record.type, offset, decision.why)

    def flush(self) -> None:
        """Brings every journal to disk. Raises SpoolError, and nothing is committed."""
        with self._lock:
            self._spool.flush()

    def _append(self, identity: PartId, record: MediaRecord, decision: Transition, offset: int) -> None:
        if self._spool.last_offset(identity) < decision.expected_offset:
            raise JournalBehindError(
                f"the journal of call {identity.call_id} part {identity.part} ends before offset "
                f"{decision.expected_offset} of partition {identity.partition}; start the recorder again, and the log "
                "completes it"
            )
        self._spool.append(identity, record, offset)
