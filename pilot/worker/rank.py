"""What each rank of an MPI task starts as: ``python -P rank.py FOLDER``; the standard library only.

It finds its number, sends stdout and stderr to ``rank.N.out`` and ``rank.N.err`` in the folder, empties its standard
input, and forks: the child becomes the program, or calls the function, with the signals of a plain process. The parent
waits, writes down how the child ended, and ends it on request or when its launcher is gone. So no rank outlives
the task, however that ends.

``python -P rank.py --tied PID WORDS...`` becomes the command, which gets SIGTERM when the process PID, its parent, is
gone.

Files in the folder, which every node sees: ``task.json`` (a `Task`), ``work`` (a pickled function and its
arguments), ``begun`` (the function was called on a rank) and, of each rank, ``.claim`` (written by the process that is
rank N), ``.out``, ``.err``, ``.code`` and ``.result`` (of a function); ``failed`` holds the number of the first rank
that failed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypedDict

#: Seconds between two looks whether the launcher is still there.
LOOK_SECONDS = 1.0
#: Seconds that a program has to end after SIGTERM.
GRACE_SECONDS = 1.0
#: Statuses in ``rank.N.result``.
RETURNED, RAISED, SEPARATE = range(3)
#: prctl(2).
_PR_SET_PDEATHSIG = 1
#: The variables in which MPI libraries and their launchers put the rank: PMI, PMIx, Open MPI, Flux, PALS, JSM.
_RANKS = (
    "PMI_RANK",
    "PMIX_RANK",
    "OMPI_COMM_WORLD_RANK",
    "FLUX_TASK_RANK",
    "PALS_RANKID",
    "JSM_NAMESPACE_RANK",
)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
_WAITED = (*_ENDING, *_FORWARDED, signal.SIGCHLD)


class Task(TypedDict):
    """What the worker writes into ``task.json`` and each rank reads."""

    ranks: int
    #: The program; None: the function in ``work``.
    command: list[str] | None
    working_directory: str
    sys_path: list[str]
    #: Variables of the worker, for a rank that has no others of these names: not every launcher passes all on.
    defaults: dict[str, str]
    #: Variables that replace those which the launcher sets.
    overrides: dict[str, str]
    #: Further variables by rank. Empty: none.
    of_rank: list[dict[str, str]]
    #: Variables that tell a process its rank, before those of MPI libraries; and those to be noted in ``.claim``.
    rank_variables: Sequence[str]
    step_variables: Sequence[str]


def main(arguments: list[str]) -> int:
    """Be one rank, or the launcher of all; the exit code."""
    if arguments[0] == "--tied":
        _tie(int(arguments[1]), signal.SIGTERM)
        _execute(arguments[2:])
    return _run_rank(Path(arguments[0]))


def _tie(parent: int, signum: int) -> None:
    """Get the signal when the parent is gone; end if it is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _run_rank(folder: Path) -> int:
    task: Task = json.loads((folder / "task.json").read_text())
    for name, value in task["defaults"].items():
        os.environ.setdefault(name, value)
    os.environ.update(task["overrides"])
    rank = _claim(folder, given_rank(task["rank_variables"]), task)
    if rank is None:
        sys.stderr.write(f"more than the {task['ranks']} processes asked for were started\n")
        return 1
    os.environ.update(task["of_rank"][rank] if task["of_rank"] else {})
    _redirect(0, Path(os.devnull), os.O_RDONLY)  # not every launcher says that there is nothing
    for descriptor, name in ((1, "out"), (2, "err")):
        _redirect(descriptor, folder / f"rank.{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    launcher = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
    me = os.getpid()
    if (child := os.fork()) == 0:
        _restore_signals()
        _tie(me, signal.SIGKILL)
        os.setpgid(0, 0)
        return _call(folder, rank, task) if task["command"] is None else _become(task, task["command"])
    code = _wait(child, launcher)
    if code is None:  # it was ended: its code says nothing
        return 1
    _write(folder / f"rank.{rank}.code", str(code).encode())
    if code:
        with contextlib.suppress(FileExistsError), (folder / "failed").open("x") as file2:
            file2.write(str(rank))
    return code if code >= 0 else 128 - code


def _redirect(descriptor: int, path: Path, flags: int) -> None:
    file = os.open(path, flags, 0o600)
    os.dup2(file, descriptor)
    os.close(file)


def _restore_signals() -> None:
    """Nothing is blocked or ignored that this interpreter, its launcher or its worker has blocked or ignored."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def given_rank(variables: Sequence[str]) -> int | None:
    """The rank that the launcher gave to this process; None when it gave none.

    Args:
        variables: to read first: those of the resource manager whose command is the launcher. Under another launcher
            in its job they may be set as well, with the same value for all.
    """
    names = (*variables, *_RANKS)
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdecimal()), None)


def _claim(folder: Path, number: int | None, task: Task) -> int | None:
    """The rank of this process: the given number, unless another process has it already; None when all are taken.

    Processes that form no communicator all get number 0, or none; their output is kept apart anyway.
    """
    about = {"host": socket.gethostname(), "pid": os.getpid(), "given": number}
    about["variables"] = {name: os.environ.get(name) for name in task["step_variables"]}
    for rank in [*([] if number is None else [number]), *range(task["ranks"])]:
        with contextlib.suppress(FileExistsError), (folder / f"rank.{rank}.claim").open("x") as file:
            json.dump(about, file)
            return int(rank)
    return None


def _wait(child: int, launcher: int) -> int | None:
    """The child's exit code, negative for a signal; None when it was ended from outside."""
    deadline = None
    ended = False
    while True:
        got = signal.sigtimedwait(_WAITED, LOOK_SECONDS)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what it may have left
            ended = ended or any(signum in signal.sigpending() for signum in _ENDING)
            code = os.waitstatus_to_exitcode(status)
            return None if ended else code
        if got is not None and got.si_signo in _FORWARDED:
            os.kill(child, got.si_signo)
        elif got is not None and got.si_signo in _ENDING and not ended:
            ended = True
            deadline = time.monotonic() + GRACE_SECONDS
            _signal(child, signal.SIGTERM)
        if os.getppid() != launcher or (deadline is not None and time.monotonic() > deadline):
            ended = True
            _signal(child, signal.SIGKILL)


def _signal(child: int, signum: int) -> None:
    """To the child's process group, or to itself where it has not made one yet."""
    try:
        os.killpg(child, signum)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signum)


def _become(task: Task, command: list[str]) -> int:
    """Become the program; it inherits what its launcher gave: variables, open sockets."""
    try:
        os.chdir(task["working_directory"])
        _execute(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started in {task['working_directory']}: {error}\n")
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)  # as shells do


def _execute(words: list[str]) -> NoReturn:
    """Become this program. The signals that Python ignores are not ignored there, as in ``subprocess``."""
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_DFL)
    os.execvp(words[0], words)


def _call(folder: Path, rank: int, task: Task) -> int:
    """Call the function and write down what it returns or raises. The library is imported here, not before."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as every Python
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[:] = task["sys_path"]
    os.chdir(task["working_directory"])
    sys.modules["__main__"] = ModuleType("__main__")  # what a script defines travels by value
    from pilot.wire import payload
    from pilot.wire.spool import Spool
    from pilot.worker import coroutines

    spool = Spool(folder)
    value: Any
    status = RAISED
    try:
        from mpi4py import MPI

        if MPI.COMM_WORLD.size != task["ranks"]:
            status, value = SEPARATE, MPI.COMM_WORLD.size
        else:
            function, args, kwargs = payload.load_work((folder / "work").read_bytes(), spool)
            (folder / "begun").touch()
            value = payload.dump(coroutines.call(function, args, kwargs), spool, f"the result of rank {rank}")
            status = RETURNED
    except BaseException as error:
        value = payload.dump_exception(error)
    _write(folder / f"rank.{rank}.result", payload.pack(status, value))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if status == RETURNED:
        return 0  # and MPI_Finalize on the way out
    os._exit(1)  # MPI_Finalize would wait for the others, who may wait for this rank


def _write(path: Path, data: bytes) -> None:
    """The file is complete under its name, or not there."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(data)
    part.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
