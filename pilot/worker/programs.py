"""Programs that tasks run: their output is read as it comes, and its end is kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO

from pilot.errors import ExecutableFailed
from pilot.worker.capture import OUTPUT_KEPT
from pilot.worker.surroundings import check_directory

#: Seconds between two checks whether a program has ended, on systems without pidfd.
LOOK_SECONDS = 0.05
#: Seconds in which processes that a program left behind may still write, such as bash's ``> >(tee file)``.
GRACE_SECONDS = 1.0
#: Bytes that are read at once: the default capacity of a pipe (pipe(7)).
CHUNK = 1 << 16

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
    check_directory(working_directory)
    process = subprocess.Popen(
        list(command),
        env={**os.environ, **environment},
        cwd=working_directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _groups.add(process.pid)
    try:
        out, err = _read(process)
    finally:
        _end(process.pid)  # until it is waited for, no other process has its number
        _groups.discard(process.pid)
        process.wait()
    if process.returncode:
        tail = "\n".join(err.strip().splitlines()[-5:])
        raise ExecutableFailed(
            f"{command[0]} returned {process.returncode}" + (f": {tail}" if tail else ""),
            command=tuple(command),
            returncode=process.returncode,
            stdout=out,
            stderr=err,
        )
    return subprocess.CompletedProcess(list(command), 0, out, err)


def end_all() -> None:
    """End the programs that run here, with all of their process groups."""
    for group in list(_groups):
        _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class _Tail:
    """The end of what comes from a pipe."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._data = bytearray()
        os.set_blocking(pipe.fileno(), False)

    def fileno(self) -> int:
        return self._pipe.fileno()

    def read(self) -> int | None:
        """Take what is there, `CHUNK` bytes at most; how many, 0 at the end, None when there is nothing now."""
        try:
            data = os.read(self.fileno(), CHUNK)
        except BlockingIOError:
            return None
        self._data += data
        if len(self._data) > 2 * OUTPUT_KEPT:
            del self._data[:-OUTPUT_KEPT]
        return len(data)

    def drain(self) -> None:
        """Take what a program that has ended left in the pipe; others may write on, and are not waited for."""
        left = fcntl.fcntl(self.fileno(), fcntl.F_GETPIPE_SZ)
        while left > 0 and (count := self.read()):
            left -= count

    def close(self) -> None:
        self._pipe.close()

    def text(self) -> str:
        return self._data[-OUTPUT_KEPT:].decode("utf-8", "replace")


def _read(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """What the program writes to its two streams until it ends."""
    tails = [_Tail(process.stdout), _Tail(process.stderr)]
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for tail in tails:
            stack.callback(tail.close)
            selector.register(tail, selectors.EVENT_READ)
        pause: float | None = LOOK_SECONDS
        with contextlib.suppress(OSError):  # a kernel without it
            ended = os.pidfd_open(process.pid)
            stack.callback(os.close, ended)
            selector.register(ended, selectors.EVENT_READ)
            pause = None
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            _take(selector, pause)
        if pause is None:
            selector.unregister(ended)
        deadline = time.monotonic() + GRACE_SECONDS
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            _take(selector, left)
        _end(process.pid)
        for tail in tails:
            tail.drain()
    return tails[0].text(), tails[1].text()


def _take(selector: selectors.BaseSelector, pause: float | None) -> None:
    """Wait until something happens, and read what there is."""
    for key, _ in selector.select(pause):
        if isinstance(key.fileobj, _Tail) and key.fileobj.read() == 0:
            selector.unregister(key.fileobj)
