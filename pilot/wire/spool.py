"""The spool: files for values that are too large for messages, in one folder of the session.

There are two kinds of files. One has the frames of one value, each behind its length. The other one is a single frame
and nothing else, so that several values can use it: ``sharing.py`` of the manager counts them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import struct
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pilot.results import Spooled, Value

#: Above this many bytes a value goes through a file, for pilots on other hosts: there a file may cost several round
#: trips to a file server.
SPOOL_BYTES = 1 << 20
#: The same for pilots on the manager's host.
LOCAL_SPOOL_BYTES = 48 << 10
#: Above this many bytes a file is mapped, not read: the arrays in it are read-only.
MAPPED_BYTES = 1 << 20
#: Bytes that are written at most to see whether there is room.
PROBE_BYTES = 1 << 20
#: Frames that one call writes at most (IOV_MAX of Linux is 1,024, and there are two parts of a frame).
FRAMES_AT_ONCE = 256
#: How the names of files end: of results, of frames that several values may use, and of what only one has of
#: arguments or an object.
RESULT, FRAME, ARGUMENTS = ".pkl", ".frame", ".arguments"

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<Q")


class Spool:
    """Files for large values, in one folder."""

    def __init__(self, folder: Path, limit: int = SPOOL_BYTES) -> None:
        self.folder = folder
        #: Above this many bytes a value goes through a file.
        self.limit = limit

    # ---- writing ----------------------------------------------------------------------------------------------

    def write(self, frames: Sequence[Any], suffix: str = RESULT) -> Spooled:
        """A new file with these frames. Its name is known when it is complete.

        Raises:
            OSError: there is no room, or the folder cannot be written.
        """
        parts: list[Any] = []
        for frame in frames:
            view = memoryview(frame).cast("B")
            parts += [_LENGTH.pack(view.nbytes), view]
        name = f"{uuid.uuid4().hex}{suffix}"
        return Spooled(name, self._write(name, parts))

    def write_frame(self, frame: memoryview) -> str:
        """A new file that is this frame (of bytes); its name.

        Raises:
            OSError: as `write`.
        """
        name = f"{uuid.uuid4().hex}{FRAME}"
        self._write(name, [frame])
        return name

    def _write(self, name: str, parts: list[Any]) -> int:
        path = f"{self.folder}/{name}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = 0
            for at in range(0, len(parts), 2 * FRAMES_AT_ONCE):
                size += _write_all(file, parts[at : at + 2 * FRAMES_AT_ONCE])
        except OSError:
            self.remove([name])
            raise
        finally:
            os.close(file)
        return size

    def has_room(self, size: int) -> bool:
        """True when so many bytes can probably be written; tried with a small file."""
        probe = self.folder / f"{uuid.uuid4().hex}.part"
        try:
            stat = os.statvfs(self.folder)
            if stat.f_bavail * stat.f_frsize < size:
                return False
            probe.write_bytes(bytes(min(size, PROBE_BYTES)))
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        return True

    # ---- reading ----------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """Where a file is now: the folder may have been moved."""
        return self.folder / name

    def read(self, value: Spooled, *, writable: bool = True) -> list[Any]:
        """The frames of a value. Those of large files are mapped and read-only, the others are copies that may be
        changed, unless ``writable`` is False.

        Raises:
            OSError: a file is gone, or cannot be read.
        """
        frames: list[Any] = _split(self._content(value.path)) if value.path else list(value.frames)
        for place in sorted(value.shared):
            frames.insert(place, self._content(value.shared[place]))
        return frames if writable else [memoryview(frame).toreadonly() for frame in frames]

    def _content(self, name: str) -> memoryview:
        file = os.open(f"{self.folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            if size > MAPPED_BYTES:
                return memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
            content = bytearray(size)
            if size and os.readv(file, [content]) != size:
                raise OSError(errno.EIO, "the file has become shorter", f"{self.folder}/{name}")
        finally:
            os.close(file)
        return memoryview(content)

    # ---- removing ---------------------------------------------------------------------------------------------

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that are no longer needed. One that cannot be removed stays."""
        for name in names:
            try:
                self.path(name).unlink(missing_ok=True)
            except OSError as error:
                log.info("a file of the spool that is not needed any more stays: %s", error)

    def discard(self, value: Value) -> None:
        """Remove the files of a value that no other value uses."""
        if isinstance(value, Spooled):
            self.remove(value.files)


def _write_all(file: int, parts: list[Any]) -> int:
    """One call takes at most 2 GiB, and a disk that is nearly full takes less."""
    total, views = 0, [memoryview(part) for part in parts]
    while views:
        written = os.writev(file, views)
        total += written
        while views and written >= views[0].nbytes:
            written -= views.pop(0).nbytes
        if written:
            views[0] = views[0][written:]
    return total


def _split(whole: memoryview) -> list[memoryview]:
    """The frames of a file of frames. Those of a file that was read are copies: arrays in them are aligned."""
    frames, at = [], 0
    while at < whole.nbytes:
        (length,) = _LENGTH.unpack_from(whole, at)
        at += _LENGTH.size
        frame = whole[at : at + length]
        frames.append(frame if whole.readonly else memoryview(bytearray(frame)))
        at += length
    return frames
