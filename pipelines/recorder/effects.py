"""Carries decisions out: the end of the recorder's Quix dataframe. Memory and disk only, but for a rebuild."""

import logging
from dataclasses import dataclass
from typing import Any

from quixstreams.sinks.base import BaseSink

from pipelines.recorder.closer import Closer, Watched
from pipelines.recorder.decisions import Action, CallState, Decision, step
from pipelines.recorder.finishing import Finisher
from pipelines.recorder.journal import PartId, read
from pipelines.recorder.rebuild import Read, complete
from pipelines.recorder.spool import JOURNAL, Spool
from schemas.media import MediaRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decided:
    """A record and what is to be done about it."""

    record: MediaRecord
    decision: Decision


class Effects(BaseSink):
    """Quix calls `add` for every record and `flush` before offsets are committed, which makes "committed" mean "on
    disk". All in one thread."""

    def __init__(self, *, spool: Spool, closer: Closer, finisher: Finisher, read_log: Read) -> None:
        super().__init__(on_client_connect_success=lambda: None)
        self._spool = spool
        self._closer = closer
        self._finisher = finisher
        self._read_log = read_log

    def resume(self) -> None:
        """Takes up what an earlier process left in the spool: open parts are watched, closed ones finished."""
        for identity in self._spool.parts():
            self._spool.last_offset(identity)  # cuts a torn tail off
            directory = self._spool.directory_of(identity)
            state, carrier = CallState(parts=identity.part - 1), ""
            for entry in read(directory / JOURNAL):
                state, _ = step(state, entry.record, entry.offset)
                carrier = entry.record.carrier
            if state.open is not None:
                self._closer.saw(Watched(identity, carrier, state.open.last_offset, state.open.ended))
            elif identity.part in state.unfinished:
                self._finisher.submit(identity, directory)

    def add(  # noqa: PLR0917  (the signature is Quix')
        self, value: Any, key: Any, timestamp: int, headers: Any, topic: str, partition: int, offset: int
    ) -> None:
        """Carries one decision out. Raises SpoolError, LogUnavailableError."""
        record, decision = value.record, value.decision
        identity = PartId(record.tenant, record.call_id, decision.part, partition)
        for part, (first, close) in decision.unfinished.items():
            self._refinish(PartId(record.tenant, record.call_id, part, partition), first, close)
        match decision.action:
            case Action.APPEND:
                if decision.opened:
                    log.info("call %s part %d opened (%s)", record.call_id, decision.part, record.carrier)
                self._append(identity, record, decision, offset)
                self._closer.saw(Watched(identity, record.carrier, offset, decision.ended))
            case Action.FINISH:
                self._append(identity, record, decision, offset)
                self._closer.forget(identity)
                self._finisher.submit(identity, self._spool.write(identity))
                log.info("call %s part %d closed (%s)", record.call_id, decision.part, record.detail)
            case Action.WATCH:
                self._closer.saw(Watched(identity, record.carrier, decision.expected_offset, decision.ended))
            case Action.RELEASE:
                self._closer.forget(identity)
                self._spool.release(identity)
            case Action.IGNORE:
                log.debug("call %s: %s at offset %d ignored: %s", record.call_id, record.type, offset, decision.why)

    def flush(self) -> None:
        """Brings every journal to disk. Raises SpoolError, and nothing is committed."""
        self._spool.flush()

    def _append(self, identity: PartId, record: MediaRecord, decision: Decision, offset: int) -> None:
        if decision.expected_offset >= 0:
            complete(
                self._spool,
                identity,
                first_offset=decision.first_offset,
                last_offset=decision.expected_offset,
                read=self._read_log,
            )
        self._spool.append(identity, record, offset)

    def _refinish(self, identity: PartId, first_offset: int, close_offset: int) -> None:
        """An older part whose recording is not known to be ready: under way, or lost with a disk."""
        complete(self._spool, identity, first_offset=first_offset, last_offset=close_offset, read=self._read_log)
        self._finisher.submit(identity, self._spool.write(identity))
