"""The file of a Unix socket, in a folder where only this user writes.

The folder is opened once and the file named below its descriptor, so that the path may be longer than the 107 bytes of
a socket's address (unix(7)), and no other folder can take its place in between.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from pilot.errors import SessionError

#: Connections that wait to be taken: all workers of a pilot connect at about the same time (listen(2)).
_BACKLOG = 4096
#: What others may not do in the folder: anything where a server begins, and write where one is.
_ANYTHING, _WRITE = 0o077, 0o022
#: The peer's process, user and group (unix(7), SO_PEERCRED).
_CREDENTIALS = struct.Struct("3i")


class SocketFile:
    """A socket that listens, and its file."""

    def __init__(self, path: Path) -> None:
        """Listen. A file that an earlier server left there is replaced.

        Raises:
            OSError: there can be no socket.
            SessionError: others can enter its folder.
        """
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _within(path, _ANYTHING) as near:
                with contextlib.suppress(FileNotFoundError):
                    Path(near).unlink()
                self.socket.bind(near)
                self._identity = _identity(Path(near))
            self.socket.listen(_BACKLOG)
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    def again(self) -> SocketFile | None:
        """One that takes its place when its file was removed, as by who cleans temporary folders up; None: the file is
        there, or its folder is gone, too."""
        if _identity(self._path) is not None:
            return None
        try:
            return SocketFile(self._path)
        except (OSError, SessionError):
            return None

    def is_refused(self) -> bool:
        """True when others can write into its folder: `connected` refuses it then."""
        try:
            return stat.S_IMODE(self._path.parent.stat().st_mode) & _WRITE != 0
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file, unless another server has replaced it, and close the socket."""
        if _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        self.socket.close()


def connected(path: Path) -> socket.socket:
    """A connection to what listens there.

    Raises:
        OSError: nothing does.
        SessionError: others can write into its folder, or another user's process listens there.
    """
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _within(path, _WRITE) as near:
            one.connect(near)
        if is_foreign(one):
            raise SessionError(f"another user's process listens at {path}", path=str(path))
    except BaseException:
        one.close()
        raise
    return one


def is_foreign(connected: socket.socket) -> bool:
    """True when the process at the other end is another user's."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return bool(user != os.geteuid())


@contextlib.contextmanager
def _within(path: Path, denied: int) -> Iterator[str]:
    """A short path of a file in a folder of this user's, in which others may not do what is ``denied``."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        about = os.fstat(folder)
        if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & denied:
            raise SessionError(f"{path.parent} is not this user's alone (chmod 700)", path=str(path.parent))
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells the file from another one of its name, as long as the socket is open; None: there is none."""
    try:
        about = path.lstat()
    except OSError:
        return None
    return about.st_dev, about.st_ino
