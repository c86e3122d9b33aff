"""Files of the spool that arguments and objects have, and how many use each: the last one removes it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pilot.results import Spooled, Value
from pilot.wire.spool import ARGUMENT, ARGUMENTS, Spool

#: Bytes of a file that are compared at once.
CHUNK_BYTES = 1 << 20
#: Bytes of a frame by which files that may be equal are found.
SAMPLES = 256

_Sample = tuple[int, bytes]


class SharedFiles:
    """The files of arguments and objects in one session, and their users: tasks that may still run or may be submitted
    again, and objects. It is the `Store` of both; any thread may call it.

    It keeps no frame in memory. A frame that is stored again is found by its size and some of its bytes, and then
    compared with the file byte by byte, so that an array that was changed since never gets the old value.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.RLock()
        self._users: Counter[str] = Counter()
        #: The newest file with such a sample, and the sample of each of these files.
        self._by_sample: dict[_Sample, str] = {}
        self._samples: dict[str, _Sample] = {}

    @property
    def limit(self) -> int:
        """As the spool's."""
        return self._spool.limit

    @property
    def folder(self) -> Path:
        """As the spool's."""
        return self._spool.folder

    def forked(self) -> None:
        """In a forked child: a thread that is not here may have held the lock."""
        self._lock = threading.RLock()

    # ---- one user more ----------------------------------------------------------------------------------------

    def store(self, frame: memoryview) -> str:
        """The name of a file that is this frame, with one user more: a new file, or one that is there already.

        Args:
            frame: of bytes.

        Raises:
            OSError: there is no room, or the spool cannot be written.
        """
        sample = _sample(frame)
        with self._lock:
            known = self._by_sample.get(sample)
            if known is not None:
                self._users[known] += 1  # so that it stays meanwhile
        if known is not None:
            if _is_equal(self._spool.path(known), frame):
                return known
            self.release([known])
        name = self._spool.store(frame, ARGUMENT)
        with self._lock:
            self._users[name] = 1
            self._by_sample[sample], self._samples[name] = name, sample
        return name

    def write(self, frames: Sequence[memoryview]) -> str:
        """The name of a new file with these frames, with one user.

        Raises:
            OSError: as `store`.
        """
        name = self._spool.write(frames, ARGUMENTS)
        self.hold([name])
        return name

    def hold(self, files: Iterable[str]) -> None:
        """One user more for each of these files, which have one or are known not to be removed meanwhile."""
        with self._lock:
            self._users.update(files)

    def hold_present(self, files: Sequence[str]) -> bool:
        """The same for files that may have lost their last user; False: one of them has, and nothing is changed."""
        with self._lock:
            if all(self._users[name] > 0 for name in files):
                self._users.update(files)
                return True
        return False

    # ---- one user less ----------------------------------------------------------------------------------------

    def release(self, files: Iterable[str]) -> None:
        """One user less for each of these files. Those without users are removed."""
        unused: list[str] = []
        with self._lock:
            for name in files:
                self._users[name] -= 1
                if self._users[name] <= 0:
                    unused.append(name)
                    self._forget(name)
        self._spool.release(unused)

    def _forget(self, name: str) -> None:
        del self._users[name]
        sample = self._samples.pop(name, None)
        if sample is not None and self._by_sample.get(sample) == name:
            del self._by_sample[sample]

    # ---- an attached session ----------------------------------------------------------------------------------

    def take_over(self, values: Iterable[Value]) -> None:
        """Count the users that the journal has, and remove the files of arguments and objects that have none: the
        manager before may have been killed before it did."""
        for value in values:
            self.hold(files_of(value))
        with os.scandir(self._spool.folder) as entries:
            own = [entry.name for entry in entries if entry.name.endswith((ARGUMENT, ARGUMENTS))]
        self._spool.release(name for name in own if name not in self._users)


def files_of(value: Value) -> list[str]:
    """The files of a value."""
    return value.files if isinstance(value, Spooled) else []


def _sample(frame: memoryview) -> _Sample:
    step = max(1, frame.nbytes // SAMPLES)
    return frame.nbytes, bytes(frame[::step])


def _is_equal(path: Path, frame: memoryview) -> bool:
    """True when the file has the frame's bytes. False, too, when it cannot be read."""
    chunk, at = bytearray(CHUNK_BYTES), 0
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(chunk):
                part = chunk if count == CHUNK_BYTES else chunk[:count]
                if part != frame[at : at + count]:  # a bytearray compares with memcmp
                    return False
                at += count
    except OSError:
        return False
    return at == frame.nbytes
