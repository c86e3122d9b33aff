"""`Mappings`: files of the spool that a worker has in its memory."""

from __future__ import annotations

import mmap
import os
import threading
import time

#: Files that stay mapped at most.
MOST = 8
#: Seconds between two looks for files that were removed.
LOOK_SECONDS = 5.0


class Mappings:
    """The files that were read last stay mapped. Tasks that use the same value find its pages: to set up the addresses
    of 200 MB takes Linux 9 ms, where the file system has no huge pages.

    A file that was removed keeps its room on the disk until it is dropped here. Any thread may call it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By path, the last used last.
        self._files: dict[str, mmap.mmap] = {}
        self._looked = 0.0

    def of(self, path: str, file: int, size: int) -> mmap.mmap:
        """A file of so many bytes, to be read only. Its content never changes.

        Args:
            path: of the file.
            file: its descriptor; the mapping has one of its own.
            size: in bytes.
        """
        with self._lock:
            found = self._files.pop(path, None) or mmap.mmap(file, size, access=mmap.ACCESS_READ)
            self._files[path] = found
            if len(self._files) > MOST:
                del self._files[next(iter(self._files))]
            return found

    def drop_removed(self) -> None:
        """Drop files that are gone, every `LOOK_SECONDS`. Memory that a task still uses stays with the task."""
        now = time.monotonic()
        if not self._files or now - self._looked < LOOK_SECONDS:
            return
        with self._lock:
            self._looked = now
            for path in [path for path in self._files if not os.path.exists(path)]:  # noqa: PTH110 - takes half as long
                del self._files[path]
