"""Carries out the decisions about records: the sink of the recorder's Quix dataframe. Uses memory and disk only."""

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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecidedRecord:
    """A record and the transition that the state machine decided for it."""

    record: MediaRecord
    transition: Transition


class JournalBehindError(Exception):
    """A journal lacks records that the state of its call includes.

    To continue would lose them. After a restart they are read from the log again.
    """


class JournalSink(BaseSink):
    """Sink that writes journals.

    Quix invokes `add` for every record, and `flush` before it commits offsets. So "committed" means "on disk".
    """

    def __init__(
        self,
        *,
        spool: Spool,
        call_timeouts: CallTimeouts,
        finalizer: RecordingFinalizer,
        metrics: RecorderMetrics | None = None,
    ) -> None:
        super().__init__(on_client_connect_success=lambda: None)
        self._spool = spool
        self._call_timeouts = call_timeouts
        self._finalizer = finalizer
        self._metrics = metrics or RecorderMetrics("recorder")
        # When a partition is revoked, Quix flushes in a thread of its own and waits for it only for a limited time.
        self._lock = threading.Lock()

    def add(  # noqa: PLR0917  (the signature is Quix')
        self, value: Any, key: Any, timestamp: int, headers: Any, topic: str, partition: int, offset: int
    ) -> None:
        """Carries out the decision about one record.

        Raises:
            SpoolError: The disk does not accept the record.
            JournalBehindError: The journal lacks earlier records.
        """
        decided: DecidedRecord = value
        record, decision = decided.record, decided.transition
        identity = PartId(record.tenant, record.call_id, decision.part, partition)
        with self._lock:
            match decision.action:
                case Action.APPEND:
                    if decision.expected_offset < 0:
                        logger.info("call %s part %d opened (%s)", record.call_id, decision.part, record.carrier)
                    self._append(identity, record, decision, offset)
                    self._call_timeouts.touch(OpenCall(identity, record.carrier, offset, decision.ended))
                case Action.FINISH:
                    self._append(identity, record, decision, offset)
                    self._call_timeouts.forget(identity)
                    self._finalizer.submit(identity, self._spool.write(identity), offset)
                    self._metrics.closed(record.detail)
                    logger.info("call %s part %d closed (%s)", record.call_id, decision.part, record.detail)
                case Action.RETRY:
                    self._finalizer.submit(identity, self._spool.write(identity), offset)
                case Action.WATCH:
                    self._call_timeouts.touch(
                        OpenCall(identity, record.carrier, decision.expected_offset, decision.ended)
                    )
                case Action.RELEASE:
                    self._call_timeouts.forget(identity)
                    self._spool.release(identity)
                case Action.FORGET:
                    logger.debug("call %s: state deleted", record.call_id)
                case Action.IGNORE:
                    logger.debug("call %s: %s at offset %d ignored: %s", key, record.type, offset, decision.reason)

    def flush(self) -> None:
        """Syncs every journal to disk.

        Raises:
            SpoolError: The disk does not accept the records. Quix then commits nothing.
        """
        with self._lock:
            self._spool.flush()

    def _append(self, identity: PartId, record: MediaRecord, decision: Transition, offset: int) -> None:
        if self._spool.last_offset(identity) < decision.expected_offset:
            raise JournalBehindError(
                f"the journal of call {identity.call_id} part {identity.part} ends before offset "
                f"{decision.expected_offset} of partition {identity.partition}: start the recorder again, and it "
                "completes the journal from the log"
            )
        self._spool.append(identity, record, offset)
