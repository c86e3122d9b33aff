"""What a task writes to stdout and stderr, also from C code and child processes: the two files behind a worker's
file descriptors, read by position. A task that writes nothing costs four system calls."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

#: Of the output of a task, so many bytes at the start and as many at the end are kept.
KEPT_BYTES = 32 * 1024
#: Bytes of a program's output that its result keeps of each stream.
OUTPUT_KEPT = 1 << 20


class Capture:
    """Takes over this process's stdout and stderr for good."""

    def __init__(self, folder: Path, name: str) -> None:
        """Send both to files in ``folder``, from now on."""
        self.path = folder / f"{name}.log"
        self._out = _Stream(1, folder / f"{name}.out")
        self._err = _Stream(2, self.path)
        self.restore()

    def take(self) -> tuple[str | None, str | None]:
        """What was written since the last time, None where nothing was: stdout, stderr."""
        return self._out.take(), self._err.take()

    def peek(self) -> tuple[str, str]:
        """What was written since the last `peek` or `take`, at most the last `KEPT_BYTES`; `take` has it again."""
        return self._out.peek(), self._err.peek()

    def renew(self) -> None:
        """Go on with new files: processes that a task has left running write to the old ones, which nobody reads."""
        for stream in (self._out, self._err):
            with contextlib.suppress(OSError):  # no room: it goes on with the old one
                stream.renew()

    def restore(self) -> None:
        """Undo what a task did to its streams, such as closing, replacing or redirecting them."""
        sys.stdout, sys.stderr = self._out.whole(), self._err.whole()


class _Lossy(io.FileIO):
    """Drops what cannot be written: a task must not fail because there is no room for its output."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return memoryview(data).nbytes
            raise


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class _Stream:
    def __init__(self, descriptor: int, path: Path) -> None:
        self._path = path
        self._file = _opened(path)
        self._descriptor = descriptor
        self._at = self._seen = os.lseek(self._file, 0, os.SEEK_END)
        os.dup2(self._file, descriptor)
        self._text = self._open()

    def whole(self) -> io.TextIOWrapper:
        """The stream, repaired if necessary: for ``sys.stdout`` or ``sys.stderr``."""
        os.dup2(self._file, self._descriptor)  # costs less than to ask whether it is needed
        if self._text.closed:
            self._text = self._open()
        return self._text

    def renew(self) -> None:
        """Put a new file in the place of this one."""
        path = self._path.with_suffix(f"{self._path.suffix}.new")
        new = _opened(path)
        path.replace(self._path)
        os.dup2(new, self._file, inheritable=False)  # at once: another thread may be about to read it
        os.close(new)
        self._at = self._seen = 0

    def _open(self) -> io.TextIOWrapper:
        raw = _Lossy(self._descriptor, "wb", closefd=False)
        return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)

    def peek(self) -> str:
        end = os.lseek(self._file, 0, os.SEEK_END)
        start, self._seen = max(self._seen, end - KEPT_BYTES), end
        return self._read(start, end - start) if end > start else ""

    def take(self) -> str | None:
        end = os.lseek(self._file, 0, os.SEEK_END)
        start, self._at = self._at, end
        self._seen = end
        if end == start:
            return None
        size = end - start
        if size <= 2 * KEPT_BYTES:
            text = self._read(start, size)
        else:
            left_out = size - 2 * KEPT_BYTES
            text = (
                self._read(start, KEPT_BYTES)
                + f"\n[... {left_out} bytes left out ...]\n"
                + self._read(end - KEPT_BYTES, KEPT_BYTES)
            )
            os.ftruncate(self._file, start + KEPT_BYTES)  # a chatty task does not fill the disk for good
            self._at = self._seen = start + KEPT_BYTES
        return text

    def _read(self, start: int, size: int) -> str:
        return os.pread(self._file, size, start).decode("utf-8", "replace")
