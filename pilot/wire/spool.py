"""The spool: files for values that are too large for messages, in one folder of the session.

There are two kinds of files. One is a single large frame and nothing else, so that several values can use it:
``sharing.py`` of the manager counts them. The other one has the many small frames of a value, each behind its length.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from pilot.results import Spooled
from pilot.wire.mappings import Mappings

#: Above this many bytes a value goes through a file, for pilots on other hosts: there a file may cost several round
#: trips to a file server.
SPOOL_BYTES = 1 << 20
#: The same for pilots on the manager's host.
LOCAL_SPOOL_BYTES = 48 << 10
#: Above this many bytes a file is mapped, not read: the arrays in it are read-only.
MAPPED_BYTES = 1 << 20
#: Bytes that are written at most to see whether there is room.
PROBE_BYTES = 1 << 20
#: Buffers that one call writes at most: IOV_MAX of Linux is 1,024.
BUFFERS_AT_ONCE = 512
#: Bytes that one call writes, about. For more, Linux takes huge pages of memory to keep the file in; a virtual machine
#: often has to get those from its host first, which takes ten times as long (200 MB: .47 s, .04 s in pieces).
WRITE_BYTES = 256 << 10
#: How the names of files end: single frames of results, and several; the same of arguments and objects.
RESULT, RESULTS, ARGUMENT, ARGUMENTS = ".result", ".pkl", ".argument", ".arguments"

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<Q")


class Store(Protocol):
    """Takes the frames of a value. Each call gives a file one user, or one user more."""

    @property
    def limit(self) -> int:
        """Above this many bytes a value goes through a file."""

    @property
    def folder(self) -> Path:
        """Where the files are."""

    def store(self, frame: memoryview) -> str:
        """The name of a file that is this frame, of bytes; OSError: there is no room."""

    def write(self, frames: Sequence[memoryview]) -> str:
        """The name of a file that has these frames; OSError: there is no room."""

    def release(self, files: Iterable[str]) -> None:
        """One user less for each of these files."""


class Spool:
    """Files for large values, in one folder; the `Store` of results."""

    def __init__(self, folder: Path, limit: int = SPOOL_BYTES, mappings: Mappings | None = None) -> None:
        """Use a folder that is there.

        Args:
            folder: where the files are.
            limit: above so many bytes a value goes through a file.
            mappings: keeps files mapped that were read; None: each reader maps them anew.
        """
        self.folder = folder
        self.limit = limit
        self._mappings = mappings

    # ---- writing ----------------------------------------------------------------------------------------------

    def store(self, frame: memoryview, suffix: str = RESULT) -> str:
        """The name of a new file that is this frame.

        Raises:
            OSError: there is no room, or the folder cannot be written.
        """
        return self._write(suffix, [frame])

    def write(self, frames: Sequence[memoryview], suffix: str = RESULTS) -> str:
        """The name of a new file with these frames.

        Raises:
            OSError: as `store`.
        """
        parts: list[Any] = []
        for frame in frames:
            parts += [_LENGTH.pack(frame.nbytes), frame.cast("B")]
        return self._write(suffix, parts)

    def _write(self, suffix: str, parts: list[Any]) -> str:
        """The name of a new file; it is known when the file is complete."""
        name = f"{uuid.uuid4().hex}{suffix}"
        path = f"{self.folder}/{name}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for views in _pieces(parts):
                _write_all(file, views)
        except OSError:
            self.release([name])
            raise
        finally:
            os.close(file)
        return name

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
        """The frames of a value. Those above `MAPPED_BYTES` are mapped and read-only; the others may be changed, but
        for `Spooled.readonly` and unless ``writable`` is False.

        Raises:
            OSError: a file is gone, or cannot be read.
        """
        frames: list[Any] = _split(self._content(value.path, readonly=False)) if value.path else list(value.frames)
        for place in sorted(value.large):
            readonly = place in value.readonly or not writable
            frames.insert(place, self._content(value.large[place], readonly=readonly))
        if not writable:
            return [memoryview(frame).toreadonly() for frame in frames]
        for place in set(range(1, len(frames))).difference(value.readonly):
            frame = memoryview(frames[place])
            if frame.readonly and frame.nbytes <= MAPPED_BYTES:  # of the message, or of a file with many
                frames[place] = bytearray(frame)
        return frames

    def _content(self, name: str, *, readonly: bool) -> Any:
        path = f"{self.folder}/{name}"
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            if size > MAPPED_BYTES:  # a mapping keeps a file descriptor: small files would take too many
                if self._mappings is not None:
                    return memoryview(self._mappings.of(path, file, size))
                return memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
            content: Any
            if readonly:
                content = os.read(file, size)
                count = len(content)
            else:
                content = bytearray(size)
                count = os.readv(file, [content]) if size else 0
        finally:
            os.close(file)
        if count != size:
            raise OSError(errno.EIO, "the file became shorter while it was read", path)
        return content

    # ---- removing ---------------------------------------------------------------------------------------------

    def release(self, files: Iterable[str]) -> None:
        """Remove files that are no longer needed. One that cannot be removed stays."""
        for name in files:
            try:
                self.path(name).unlink(missing_ok=True)
            except OSError as error:
                log.info("a file of the spool that is not needed any more stays: %s", error)


def _pieces(parts: list[Any]) -> Iterator[list[memoryview]]:
    """What one call is to write, in order."""
    views: list[memoryview] = []
    size = 0
    for part in parts:
        whole = memoryview(part).cast("B")
        for at in range(0, whole.nbytes, WRITE_BYTES):
            views.append(whole[at : at + WRITE_BYTES])
            size += views[-1].nbytes
            if size >= WRITE_BYTES or len(views) == BUFFERS_AT_ONCE:
                yield views
                views, size = [], 0
    if views:
        yield views


def _write_all(file: int, views: list[memoryview]) -> None:
    """A disk that is nearly full takes less than it is given."""
    while views:
        written = os.writev(file, views)
        while views and written >= views[0].nbytes:
            written -= views.pop(0).nbytes
        if written:
            views[0] = views[0][written:]


def _split(content: Any) -> list[memoryview]:
    """The frames of a file of frames. Those of a file that was read are copies: arrays in them are aligned."""
    whole, frames, at = memoryview(content), [], 0
    while at < whole.nbytes:
        (length,) = _LENGTH.unpack_from(whole, at)
        at += _LENGTH.size
        frame = whole[at : at + length]
        frames.append(frame if whole.readonly else memoryview(bytearray(frame)))
        at += length
    return frames
