"""`SessionLock`: a session has one manager at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import secrets
import time
from pathlib import Path

from pilot.errors import SessionError
from pilot.wire.marks import identify
from pilot.wire.processes import is_alive

#: How long a lock is tried to be had from who only looks, at most.
_LOOK_SECONDS = 0.05
#: What flock(2) fails with where the file system, or how it is mounted, has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class SessionLock:
    """The lock of a session: flock(2) on the file ``lock``, which ends with the process. Where the file system has no
    locks, the file ``lock.owner`` with the host and the process that has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "lock"
        self._owner = folder / "lock.owner"
        self._descriptor: int | None = None
        #: What the owner's file says while it is this process's own.
        self._own: str | None = None

    def take(self) -> None:
        """Take it. Blocks for a moment only.

        Raises:
            SessionError: another manager has it.
            OSError: the file cannot be written.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise self._in_use() from None
            if error.errno not in _NO_LOCKS:
                raise
            self._take_by_name()
        else:
            self._descriptor = descriptor

    def is_held(self) -> bool:
        """True while a manager has it."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                host, identity = self._read()
                return host != platform.node() or is_alive(identity)
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Give it back. In a forked process nothing is given back: the lock is the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        own, self._own = self._own, None
        if own is not None and own == _own_name():
            self._owner.unlink(missing_ok=True)

    # ---- without flock ------------------------------------------------------------------------------------------

    def _take_by_name(self) -> None:
        own, made = _own_name(), self._aside()
        made.write_text(own)
        try:
            if self._owner.exists():
                self._put_aside()
            os.link(made, self._owner)  # all of it at once, or FileExistsError
        except FileExistsError:
            raise self._in_use() from None
        finally:
            made.unlink()
        self._own = own

    def _put_aside(self) -> None:
        """Remove the name of a manager that is gone."""
        host, identity = found = self._read()
        if host != platform.node():
            raise SessionError(
                f"the file system of {self._folder} has no locks (flock), and {self._owner} says that process "
                f"{identity.partition(':')[0]} on {host} uses the session: if it is gone, remove that file",
                path=str(self._folder),
            )
        if is_alive(identity):
            raise self._in_use()
        aside = self._aside()
        self._owner.rename(aside)
        other = tuple(aside.read_text().split(" ")) != found
        if other:  # who took it meanwhile has it back
            os.link(aside, self._owner)
        aside.unlink()
        if other:
            raise self._in_use()

    def _read(self) -> tuple[str, str]:
        host, _, identity = self._owner.read_text().partition(" ")
        return host, identity

    def _aside(self) -> Path:
        return self._owner.with_name(f"{self._owner.name}.{secrets.token_hex(4)}")

    def _in_use(self) -> SessionError:
        return SessionError(f"another manager uses the session {self._folder}", path=str(self._folder))


def _lock(descriptor: int) -> None:
    """flock(2). Who only looks, as `is_held` does, has the lock for some microseconds: that is waited for."""
    end = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.002)


def _own_name() -> str:
    return f"{platform.node()} {identify(os.getpid())}"
