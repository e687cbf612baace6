"""The recorder's files: one directory per part with its journal. Everything here can be rebuilt from the log.

Records are held in memory until the next `flush`, which the checkpoint calls before it commits offsets: then each
journal is opened, written and fsynced once. So "committed" means "on disk", thousands of open calls need no open
files, and what a crash takes was not committed and comes again.
"""

import errno
import fcntl
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.recorder.journal import PartId, encode_identity, encode_record, read, read_identity, recover
from schemas.ids import uuid_of
from schemas.media import MediaRecord, RecordType

JOURNAL = "journal"
_LOCK = "lock"
# Free on the disk, or the recorder does not begin: what Quix keeps its states in takes a full disk for a locked one
# and retries for half a minute.
_ROOM_BYTES = 16 * 1024 * 1024
# The file system writes its own journal once for all who ask at the same time: 1,000 files take 0.2 s instead of 1.2.
_SYNCERS = 8


class SpoolError(Exception):
    """The disk does not take the audio. The message says what to do."""


@dataclass(slots=True)
class _Journal:
    directory: Path
    last_offset: int
    pending: list[bytes] = field(default_factory=list)
    unsynced: bool = False  # written since the last fsync
    begun: bool = False  # there is a file


def directory_of(root: Path, identity: PartId) -> Path:
    """Where a part lies. The name is a hash: call ids may hold anything."""
    return root / f"{uuid_of(identity.tenant, identity.call_id)}.{identity.part}"


def write_frames(directory: Path, frames: Sequence[bytes]) -> bool:
    """Appends to the part's journal, unsynced. Returns whether the journal is new. Raises OSError."""
    path = directory / JOURNAL
    new = not path.exists()
    directory.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(frames))
    return new


def sync(directories: Iterable[Path]) -> None:
    """Brings the parts' journals to disk, and that they are there. Raises OSError."""
    listed = list(directories)
    with ThreadPoolExecutor(_SYNCERS, thread_name_prefix="fsync") as syncers:
        list(syncers.map(_fsync, [path for directory in listed for path in (directory / JOURNAL, directory)]))
    for root in {directory.parent for directory in listed}:
        _fsync(root)


def lock_root(root: Path) -> int:
    """Creates the directory and takes it for this process: two recorders writing one journal would spoil it. Returns
    the descriptor that holds it, for as long as it is open. Raises SpoolError, also if its disk is full."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < _ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise cannot_write(root, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolError(
            f"another recorder works in {root}: give each recorder an AUDIOTEXT_DATA_DIR of its own"
        ) from None
    return descriptor


class Spool:
    """The parts on this machine's disk. Belongs to one thread; `directory_of` and `parts` may be called from any."""

    def __init__(self, root: Path) -> None:
        """Creates the directory. Raises SpoolError."""
        self._journals: dict[PartId, _Journal] = {}
        self._released: list[PartId] = []
        self._new_directories = False  # since the last flush
        self._syncers = ThreadPoolExecutor(_SYNCERS, thread_name_prefix="fsync")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(root, error) from error
        self.root = root

    def directory_of(self, identity: PartId) -> Path:
        """Where a part lies."""
        return directory_of(self.root, identity)

    def parts(self) -> Iterator[PartId]:
        """The parts that lie here. Directories without a readable journal are passed over: nothing in them was
        ever committed."""
        for path in sorted(self.root.glob(f"*/{JOURNAL}")):
            identity = read_identity(path)
            if identity is not None and path.parent == self.directory_of(identity):
                yield identity

    def age_s(self, identity: PartId) -> float:
        """Seconds since the part's journal was last written; 0 if there is none. May be called from any thread."""
        try:
            return time.time() - (self.directory_of(identity) / JOURNAL).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def last_offset(self, identity: PartId) -> int:
        """Log offset of the part's last journalled record, -1 if there is none. Reads the journal if need be."""
        return self._journal(identity).last_offset

    def known_offset(self, identity: PartId) -> int | None:
        """The same, if it is known without reading."""
        journal = self._journals.get(identity)
        return None if journal is None else journal.last_offset

    def set_known_offset(self, identity: PartId, last_offset: int) -> None:
        """The part's journal was completed behind our back: it lies on disk, up to that offset of the log."""
        self._journals[identity] = _Journal(self.directory_of(identity), last_offset, begun=True)

    def forget(self, identity: PartId) -> None:
        """Its journal may be changed behind our back from now on; what is not flushed comes again from the log."""
        self._journals.pop(identity, None)

    def append(self, identity: PartId, record: MediaRecord, offset: int) -> bool:
        """Adds a record unless the journal has it already: False says that it was a redelivery."""
        journal = self._journal(identity)
        if offset <= journal.last_offset:
            return False
        if journal.last_offset < 0 and not journal.pending:
            journal.pending.append(encode_identity(identity))
        journal.pending.append(encode_record(record, offset))
        journal.last_offset = offset
        return True

    def write(self, identity: PartId) -> Path:
        """Hands the part's records to the operating system, so that its directory, which is returned, can be read.
        They are not on disk before `flush`. Raises SpoolError."""
        journal = self._journal(identity)
        try:
            if journal.pending:
                self._write(journal)
        except OSError as error:
            self._journals.pop(identity)
            raise cannot_write(journal.directory, error) from error
        return journal.directory

    def release(self, identity: PartId) -> None:
        """The part is not needed any more: the next flush deletes it. Should the machine stop before the offsets
        are committed, it is rebuilt or found to be gone, either of which is right."""
        self._released.append(identity)

    def delete(self, identity: PartId) -> None:
        """Deletes the part at once."""
        self._journals.pop(identity, None)
        shutil.rmtree(self.directory_of(identity), ignore_errors=True)

    def delete_open(self) -> None:
        """Deletes the parts that are not closed: the log's offsets do not mean what they meant when those were written.
        They are made anew from the log. What is closed only waits for its recording, and needs no log."""
        for identity in list(self.parts()):
            last = deque(read(self.directory_of(identity) / JOURNAL), maxlen=1)
            if not last or last[0].record.type is not RecordType.CLOSE:
                self.delete(identity)

    def flush(self) -> None:
        """Brings everything appended to disk. Raises SpoolError; nothing may be committed then."""
        try:
            for journal in self._journals.values():
                if journal.pending:
                    self._write(journal)
            unsynced = [journal for journal in self._journals.values() if journal.unsynced]
            list(self._syncers.map(_fsync, [journal.directory / JOURNAL for journal in unsynced]))
            if self._new_directories:
                _fsync(self.root)
        except OSError as error:
            # What is known of the files may be wrong now: whoever goes on has to read them again.
            self._journals.clear()
            raise cannot_write(self.root, error) from error
        for journal in unsynced:
            journal.unsynced = False
        self._new_directories = False
        self._delete_released()

    def _write(self, journal: _Journal) -> None:
        if journal.begun and not (journal.directory / JOURNAL).exists():
            # What comes next would be taken for the whole of it.
            raise FileNotFoundError(errno.ENOENT, "the journal was deleted while its call is open")
        journal.begun = True
        new = write_frames(journal.directory, journal.pending)
        journal.pending.clear()
        journal.unsynced = True
        if new:
            _fsync(journal.directory)
            self._new_directories = True

    def _journal(self, identity: PartId) -> _Journal:
        journal = self._journals.get(identity)
        if journal is None:
            directory = self.directory_of(identity)
            tail = recover(directory / JOURNAL)
            journal = self._journals[identity] = _Journal(directory, tail.last_offset, begun=tail.last_offset >= 0)
        return journal

    def _delete_released(self) -> None:
        for identity in self._released:
            self.delete(identity)
        self._released.clear()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full_disk(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, of RocksDB's too, which is told by its text alone."""
    while error is not None:
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def cannot_write(path: Path, error: OSError) -> SpoolError:
    """What a user is told of a disk that fails."""
    return SpoolError(
        f"cannot write {path}: {error.strerror or error}. Free space there, or point AUDIOTEXT_DATA_DIR elsewhere; "
        "nothing is lost, the recorder goes on where it stopped"
    )
