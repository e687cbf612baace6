"""A journal that is not what the call's state says it was: the disk is another, or the partition was elsewhere in
between. The log still has the records, so the journal is completed from there."""

import logging
from collections.abc import Callable, Iterator

from pipelines.recorder.journal import PartId
from pipelines.recorder.spool import Spool
from schemas.media import MediaRecord, RecordType

log = logging.getLogger(__name__)

Read = Callable[[int, str, int, int], Iterator[tuple[int, MediaRecord]]]
"""partition, call id, first offset, end offset → the call's records in between, each with its offset"""


def complete(spool: Spool, identity: PartId, *, first_offset: int, last_offset: int, read: Read) -> None:
    """Sees to it that the part's journal holds the records from first_offset to last_offset (its close record, if
    it is closed). Raises redpanda.client.LogUnavailableError."""
    held = spool.last_offset(identity)
    if held >= last_offset:
        return
    start = max(first_offset, held + 1)
    log.warning(
        "call %s part %d: offsets %d to %d of partition %d are not on this disk; reading them again",
        identity.call_id, identity.part, start, last_offset, identity.partition,
    )  # fmt: skip
    for offset, record in read(identity.partition, identity.call_id, start, last_offset + 1):
        if record.tenant == identity.tenant and _belongs(record, closing=offset == last_offset):
            spool.append(identity, record, offset)
    if spool.last_offset(identity) < last_offset:
        log.error(
            "call %s part %d: the log has no record at offset %d any more; what is missing will be a gap",
            identity.call_id, identity.part, last_offset,
        )  # fmt: skip


def _belongs(record: MediaRecord, *, closing: bool) -> bool:
    """While a part is open everything of its call belongs to it, except decisions that did not close it."""
    return record.type is not RecordType.RECORDED and (closing or record.type is not RecordType.CLOSE)
