"""Spool: the recorder's files, one directory with a journal per part. All of it can be rebuilt from the log.

Records stay in memory until the next `flush`, which the checkpoint invokes before it commits offsets. It opens, writes
and syncs each journal once. So "committed" means "on disk", thousands of open calls need no open files, and a crash
loses only uncommitted records, which are delivered again.
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
# The recorder does not start with less free disk space: RocksDB, in which Quix stores states, takes a full disk for a
# locked database, and Quix retries for half a minute.
_MIN_FREE_BYTES = 16 * 1024 * 1024
# The file system commits its own journal once for simultaneous fsyncs: 1,000 files take 0.2 s instead of 1.2 s.
_SYNCERS = 8


class SpoolError(Exception):
    """The disk does not accept the audio. The message names the fix."""


@dataclass(slots=True)
class _Journal:
    directory: Path
    last_offset: int
    pending: list[bytes] = field(default_factory=list)
    unsynced: bool = False  # written since the last fsync
    exists: bool = False  # the file was created


def directory_of(root: Path, identity: PartId) -> Path:
    """Returns the directory of a part. Its name is a hash, because call ids may contain any character."""
    return root / f"{uuid_of(identity.tenant, identity.call_id)}.{identity.part}"


def write_frames(directory: Path, frames: Sequence[bytes]) -> bool:
    """Appends frames to the part's journal without syncing it. Returns True if the journal is new.

    Raises:
        OSError: The file cannot be written.
    """
    path = directory / JOURNAL
    new = not path.exists()
    directory.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(frames))
    return new


def sync(directories: Iterable[Path]) -> None:
    """Syncs the parts' journals and their directories to disk.

    Raises:
        OSError: A file cannot be synced.
    """
    listed = list(directories)
    with ThreadPoolExecutor(_SYNCERS, thread_name_prefix="fsync") as syncers:
        list(syncers.map(_fsync, [path for directory in listed for path in (directory / JOURNAL, directory)]))
    for root in {directory.parent for directory in listed}:
        _fsync(root)


def lock_root(root: Path) -> int:
    """Creates the directory and locks it for this process: two recorders would corrupt each other's journals.

    Returns:
        The file descriptor that holds the lock while it is open.

    Raises:
        SpoolError: Another recorder uses the directory, or the disk is full.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < _MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise cannot_write(root, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolError(f"another recorder uses {root}: give each recorder its own AUDIOTEXT_DATA_DIR") from None
    return descriptor


class Spool:
    """The parts on this machine's disk. Belongs to one thread; `directory_of` and `parts` are thread-safe."""

    def __init__(self, root: Path) -> None:
        """Creates the directory.

        Raises:
            SpoolError: The directory cannot be created.
        """
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
        """Returns the directory of a part."""
        return directory_of(self.root, identity)

    def parts(self) -> Iterator[PartId]:
        """Yields the parts on this disk.

        Skips directories without a readable journal: none of their records was committed.
        """
        for path in sorted(self.root.glob(f"*/{JOURNAL}")):
            identity = read_identity(path)
            if identity is not None and path.parent == self.directory_of(identity):
                yield identity

    def age_s(self, identity: PartId) -> float:
        """Returns the seconds since the part's journal was last written; 0 without a journal. Thread-safe."""
        try:
            return time.time() - (self.directory_of(identity) / JOURNAL).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def last_offset(self, identity: PartId) -> int:
        """Returns the log offset of the last record in the part's journal; -1 if it is empty. May read the file."""
        return self._journal(identity).last_offset

    def known_offset(self, identity: PartId) -> int | None:
        """Returns the same offset if it is in memory, else None. Reads no file."""
        journal = self._journals.get(identity)
        return None if journal is None else journal.last_offset

    def set_known_offset(self, identity: PartId, last_offset: int) -> None:
        """Sets the last offset of a journal that a rebuild has completed on disk."""
        self._journals[identity] = _Journal(self.directory_of(identity), last_offset, exists=True)

    def forget(self, identity: PartId) -> None:
        """Drops the part from memory, so that a rebuild may change its file. Unflushed records are delivered again."""
        self._journals.pop(identity, None)

    def append(self, identity: PartId, record: MediaRecord, offset: int) -> bool:
        """Adds a record. Returns False if the journal has it already, because it was delivered again."""
        journal = self._journal(identity)
        if offset <= journal.last_offset:
            return False
        if journal.last_offset < 0 and not journal.pending:
            journal.pending.append(encode_identity(identity))
        journal.pending.append(encode_record(record, offset))
        journal.last_offset = offset
        return True

    def write(self, identity: PartId) -> Path:
        """Writes the part's records to its file, so that other threads can read them. Only `flush` syncs them to disk.

        Returns:
            The directory of the part.

        Raises:
            SpoolError: The disk does not accept the records.
        """
        journal = self._journal(identity)
        try:
            if journal.pending:
                self._write(journal)
        except OSError as error:
            self._journals.pop(identity)
            raise cannot_write(journal.directory, error) from error
        return journal.directory

    def release(self, identity: PartId) -> None:
        """Marks the part for deletion by the next `flush`.

        If the machine stops before the offsets are committed, the part is rebuilt or found missing. Both are correct.
        """
        self._released.append(identity)

    def delete(self, identity: PartId) -> None:
        """Deletes the part at once."""
        self._journals.pop(identity, None)
        shutil.rmtree(self.directory_of(identity), ignore_errors=True)

    def delete_open(self) -> None:
        """Deletes the open parts after the log has lost records: their offsets no longer match the log.

        They are built again from the log. Closed parts stay: they wait for their recording and do not need the log.
        """
        for identity in list(self.parts()):
            last = deque(read(self.directory_of(identity) / JOURNAL), maxlen=1)
            if not last or last[0].record.type is not RecordType.CLOSE:
                self.delete(identity)

    def flush(self) -> None:
        """Writes and syncs all appended records to disk.

        Raises:
            SpoolError: The disk does not accept the records. No offset may be committed then.
        """
        try:
            for journal in self._journals.values():
                if journal.pending:
                    self._write(journal)
            unsynced = [journal for journal in self._journals.values() if journal.unsynced]
            list(self._syncers.map(_fsync, [journal.directory / JOURNAL for journal in unsynced]))
            if self._new_directories:
                _fsync(self.root)
        except OSError as error:
            # The state in memory may not match the files now, so it has to be read again.
            self._journals.clear()
            raise cannot_write(self.root, error) from error
        for journal in unsynced:
            journal.unsynced = False
        self._new_directories = False
        self._delete_released()

    def _write(self, journal: _Journal) -> None:
        if journal.exists and not (journal.directory / JOURNAL).exists():
            # The next records alone would look like a complete journal.
            raise FileNotFoundError(errno.ENOENT, "the journal was deleted while its call is open")
        journal.exists = True
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
            journal = self._journals[identity] = _Journal(directory, tail.last_offset, exists=tail.last_offset >= 0)
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
    """True if a full disk caused the error. RocksDB reports it only in the text of its errors."""
    while error is not None:
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def cannot_write(path: Path, error: OSError) -> SpoolError:
    """Returns the error about a disk that fails."""
    return SpoolError(
        f"cannot write {path}: {error.strerror or error}. Free space there, or set AUDIOTEXT_DATA_DIR to another disk. "
        "No audio is lost: the recorder continues where it stopped"
    )
