"""The processes of a pilot: how they are started, found and ended. They are found by the mark that they inherit in
their environment."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from pilot.wire.folders import remove_scratch
from pilot.wire.marks import MARK, children_record, identify, started, worker_mark

#: How many threads a library may use, by the variables of OpenMP and of libraries that start threads of their own.
#: They are read when the library is loaded.
_OPENMP = "OMP_NUM_THREADS"
_THREADS = (
    _OPENMP,
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)

#: Each worker has two connections to its agent; the limit that a shell gives is often 1024, what the site allows more.
OPEN_FILES = 65536
#: One more than the highest id of a process or thread of this host (proc(5)).
_PID_MAX = Path("/proc/sys/kernel/pid_max")
#: Seconds between two looks whether a process is gone.
LOOK_SECONDS = 0.005
#: Looks at a process without an environment; and the parents of the kernel's threads, which have none.
EXEC_LOOKS, _KERNEL = 3, (0, 2)


def with_threads(count: int, given: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``given``, and those by which libraries use so many threads.

    Given variables are kept. OMP_NUM_THREADS applies to all of them: the libraries use it where their own variable is
    not set. Of a list (one number a level, OpenMP API, "OMP_NUM_THREADS") they take the first number.
    """
    outer = given.get(_OPENMP, "").split(",")[0].strip()
    return dict.fromkeys(_THREADS, outer if outer.isdecimal() and int(outer) else str(count)) | dict(given)


def start_apart(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log_path: Path
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, out of reach of the terminal's Ctrl-C.

    Args:
        command: program and arguments.
        environment: all of its variables.
        folder: where it works.
        log_path: its output is appended there.
    """
    with log_path.open("ab") as log_file:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )


def allow_files() -> None:
    """Let this process and those that it starts have as many files open as the site allows, `OPEN_FILES` at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def most_workers() -> int:
    """How many workers a pilot on this host can have at most: each has two threads, and two files of its agent's."""
    limits = [OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]]  # the agent takes what the site allows
    with contextlib.suppress(OSError):
        limits.append(int(_PID_MAX.read_text()))
    if os.geteuid():  # the administrator may start any number
        limits.append(resource.getrlimit(resource.RLIMIT_NPROC)[0])
    return min(one for one in limits if one != resource.RLIM_INFINITY) // 2


def marked(mark: str) -> list[psutil.Process]:
    """The processes of this user with the mark, or one below it (``MARK.1``), without this process."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and _carries(process, mark):
                found.append(process)
    return found


def _carries(process: psutil.Process, mark: str) -> bool:
    carried: str = _environment(process).get(MARK, "")
    return carried == mark or carried.startswith(f"{mark}.")


def _environment(process: psutil.Process) -> dict[str, str]:
    """The variables of a process. It has none for a moment of execve(2), when it is looked at again."""
    found: dict[str, str] = process.environ()
    for _ in range(EXEC_LOOKS):
        if found or process.status() == psutil.STATUS_ZOMBIE or process.ppid() in _KERNEL:
            break
        time.sleep(LOOK_SECONDS)
        found = process.environ()
    return found


def end_marked(mark: str, grace: float = 0.0) -> int:
    """End all processes with the mark: by SIGTERM first when there is a grace (seconds), then by SIGKILL. Those that
    ignore SIGTERM get no grace.

    Returns:
        How many there were. Blocks until they are gone.
    """
    total = 0
    for _ in range(50):  # a process may start another one while we look
        processes = marked(mark)
        if not processes:
            break
        total += len(processes)
        if grace:
            asked = [process for process in processes if not _ignores(process, signal.SIGTERM)]
            for process in asked:
                with contextlib.suppress(psutil.Error):
                    process.terminate()
            _wait_gone(asked, grace)
            grace = 0.0
        _kill(processes)
        _wait_gone(processes, 1.0)
    return total


def _ignores(process: psutil.Process, number: signal.Signals) -> bool:
    """True when it ignores this signal (proc(5), /proc/pid/status, SigIgn)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigIgn:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _wait_gone(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Wait until they are gone, for so long at most; one that has ended is, also when nobody has asked how."""
    deadline, left = time.monotonic() + seconds, list(processes)
    while (left := [process for process in left if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def end_below(pid: int) -> int:
    """Kill the descendants of a process; how many there were."""
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(pid).children(recursive=True)
    _kill(found)
    return len(found)


def end_left(mark: str, name: str, pid: int) -> None:
    """Kill the processes that remain of a worker that is gone: processes of the pilot with its own mark, in the
    session or process group that it led, or in its record. A forked child that did not call exec has the mark with
    which the worker started.

    Args:
        mark: of the pilot on this node.
        name: of the worker.
        pid: its process id.
    """
    record = children_record(name)
    for _ in range(5):  # a process may start another one while we look
        known = set(record.read_text().split()) if record.exists() else set()
        found = _left(mark, worker_mark(mark, name), pid, known)
        if not found:
            break
        _kill(found)
        _wait_gone(found, 0.5)
    record.unlink(missing_ok=True)


def _left(mark: str, own: str, pid: int, known: set[str]) -> list[psutil.Process]:
    found = []
    for process in marked(mark):
        with contextlib.suppress(psutil.Error, OSError):
            led = pid in (os.getsid(process.pid), os.getpgid(process.pid))
            if led or _carries(process, own) or identify(process.pid) in known:
                found.append(process)
    return found


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def end_with_me(mark: str) -> None:
    """Fork a process that ends all marked ones, and removes their scratch folder, as soon as this process is gone.

    For the case that no other process does it: ``kill -9`` of an agent whose manager is gone as well. Call it before
    the first thread starts. The other end of the pipe closes with this process, however it ends; children do not
    inherit it.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(reader)
        return
    try:
        os.close(writer)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while os.read(reader, 1):
            pass
        end_marked(mark)
        remove_scratch(mark)
    finally:
        os._exit(0)


def end_process(identity: str) -> None:
    """Kill the process of `identify`, which `marked` may miss while it is being started."""
    if is_alive(identity):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(identity.partition(":")[0]), signal.SIGKILL)


def is_alive(identity: str) -> bool:
    """True when the process of `identify` runs."""
    pid, _, created = identity.partition(":")
    try:
        return started(int(pid)) == created and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False
