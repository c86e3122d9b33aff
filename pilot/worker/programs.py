"""Programs that tasks run: their output is read as it comes, and its end is kept."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilot.errors import ExecutableFailed
from pilot.worker.capture import OUTPUT_KEPT
from pilot.worker.surroundings import directory

#: Seconds between two checks whether a program has ended, on systems without pidfd.
LOOK_SECONDS = 0.05
#: Seconds in which processes that a program left behind may still write, such as bash's ``> >(tee file)``.
GRACE_SECONDS = 1.0
#: Bytes that are read at once: the default capacity of a pipe (pipe(7)).
CHUNK = 1 << 16

#: Signals that Python ignores, and programs expect to end by.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)

#: Process groups of the programs that run.
_groups: set[int] = set()


def run_executable(
    command: Sequence[str], environment: Mapping[str, str], working_directory: str | None
) -> subprocess.CompletedProcess[str]:
    """What a TaskDescription with ``executable`` runs. Blocks until the program has ended.

    Its standard input is empty. Processes of its process group that it leaves behind, such as the server of
    ``sh -c "server & echo started"``, have `GRACE_SECONDS` to finish what they write, and are ended then, as at the end
    of a job step.

    Returns:
        Return code 0 and what was written, the last `OUTPUT_KEPT` bytes of each stream. No more is kept in memory.

    Raises:
        ExecutableFailed: it returned another code.
        FileNotFoundError, PermissionError: it cannot be started.
    """
    folder = directory(working_directory)
    with _Tail() as out, _Tail() as err:
        pid = _start(command, environment, folder, out, err)
        _groups.add(pid)
        try:
            _read(pid, (out, err))
        finally:
            _end(pid)  # until it is waited for, no other process has its number
            _groups.discard(pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        tail = "\n".join(err.text().strip().splitlines()[-5:])
        raise ExecutableFailed(
            f"{command[0]} returned {code}" + (f": {tail}" if tail else ""),
            command=tuple(command),
            returncode=code,
            stdout=out.text(),
            stderr=err.text(),
        )
    return subprocess.CompletedProcess(list(command), 0, out.text(), err.text())


def end_all() -> None:
    """End the programs that run here, with all of their process groups."""
    for group in list(_groups):
        _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class _Tail:
    """A pipe, and the end of what comes from it."""

    def __enter__(self) -> _Tail:
        self.reader, self.writer = os.pipe()
        self._data = bytearray()
        return self

    def __exit__(self, *error: object) -> None:
        self.close_writer()
        os.close(self.reader)

    def close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
        self.writer = -1

    def read(self) -> int:
        """Take what is there, `CHUNK` bytes at most; how many, 0 at the end. Blocks when there is nothing."""
        data = os.read(self.reader, CHUNK)
        self._data += data
        if len(self._data) > 2 * OUTPUT_KEPT:
            del self._data[:-OUTPUT_KEPT]
        return len(data)

    def drain(self) -> None:
        """Take what a program that has ended left in the pipe; others may write on, and are not waited for."""
        left = fcntl.fcntl(self.reader, fcntl.F_GETPIPE_SZ)
        poller = select.poll()
        poller.register(self.reader, select.POLLIN)
        while left > 0 and poller.poll(0) and (count := self.read()):
            left -= count

    def text(self) -> str:
        return self._data[-OUTPUT_KEPT:].decode("utf-8", "replace")


def _start(command: Sequence[str], environment: Mapping[str, str], folder: str | None, out: _Tail, err: _Tail) -> int:
    """Start a program in a process group of its own; its process id. posix_spawn(3) takes half of the time of Popen. A
    session of its own would cost more than all else: Linux makes a scheduling group for each (sched(7), autogroup).

    Raises:
        OSError: the program cannot be started, or the folder cannot be entered.
    """
    variables = dict(os.environb)
    variables |= {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_DUP2, out.writer, 1),
        (os.POSIX_SPAWN_DUP2, err.writer, 2),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_CLOSE, one) for one in _inheritable()),
    ]
    home = None if folder is None else os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if folder is not None:
            os.chdir(folder)
        refused: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        for path in _paths(command[0], variables):
            try:
                return os.posix_spawn(
                    path, list(command), variables, file_actions=actions, setpgroup=0, setsigdef=_IGNORED_BY_PYTHON
                )
            except OSError as error:  # the next folder may have another one
                refused = error
        raise refused
    finally:
        out.close_writer()
        err.close_writer()
        if home is not None:
            os.fchdir(home)
            os.close(home)


def _paths(program: str, variables: Mapping[bytes, bytes]) -> list[str]:
    """Where the program may be: as execvp(3) finds it, in the folders of its own PATH."""
    if "/" in program:
        return [program]
    folders = os.fsdecode(variables.get(b"PATH", os.fsencode(os.defpath))).split(os.pathsep)
    return [str(path) for folder in folders if (path := Path(folder, program)).exists()]


def _inheritable() -> list[int]:
    """Open files of this worker that a program would inherit: those of C libraries."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - takes half as long
        with contextlib.suppress(OSError):  # the one with which the folder was read
            if (descriptor := int(name)) > 2 and os.get_inheritable(descriptor):
                found.append(descriptor)
    return found


def _read(pid: int, tails: Sequence[_Tail]) -> None:
    """What the program writes to its two streams until it ends."""
    poller = select.poll()
    waiting = {tail.reader: tail for tail in tails}
    for reader in waiting:
        poller.register(reader, select.POLLIN)
    pause: float | None = 1000 * LOOK_SECONDS
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a kernel without it
            ended = os.pidfd_open(pid)
            stack.callback(os.close, ended)
            poller.register(ended, select.POLLIN)
            pause = None
        while waiting and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            _take(poller, waiting, pause)
        if pause is None:
            poller.unregister(ended)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it may have closed its streams, and go on
    deadline = time.monotonic() + GRACE_SECONDS
    while waiting and (left := deadline - time.monotonic()) > 0:
        _take(poller, waiting, 1000 * left)
    if waiting:
        _end(pid)
        for tail in waiting.values():
            tail.drain()


def _take(poller: select.poll, waiting: dict[int, _Tail], pause: float | None) -> None:
    """Wait until something happens, for so many ms, and read what there is."""
    for descriptor, _ in poller.poll(pause):
        if descriptor in waiting and waiting[descriptor].read() == 0:
            del waiting[descriptor]
            poller.unregister(descriptor)
