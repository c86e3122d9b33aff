"""MPI tasks: all ranks of one communicator, started by the worker that has the task, which waits for them.

`run_program` and `run_function` are what the worker runs. They start ``rank.py`` on every rank, as ``launch.py`` says,
and read what it leaves in a folder that every node sees.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pilot import registry
from pilot.errors import MpiFailed
from pilot.resources import Resources
from pilot.results import MpiResult
from pilot.wire import payload
from pilot.wire.spool import Spool
from pilot.worker import gpus, rank
from pilot.worker.capture import KEPT_BYTES, OUTPUT_KEPT
from pilot.worker.launch import HINT, TRY_SECONDS, Launch, RankLayout, find_launch
from pilot.worker.surroundings import directory

#: Seconds that a launcher has to end the other ranks by itself when one has failed.
ALONE_SECONDS = 0.5
#: Seconds that it has to end all ranks on request; less than a worker has to carry out a cancellation.
END_SECONDS = 2.0
#: Seconds between two checks whether a rank has failed.
LOOK_SECONDS = 0.25
#: Starts of a function's ranks where they cannot find each other, so that it was called on none.
STARTS = 3
#: Status of a rank of a function that wrote down nothing.
_NO_RESULT = -1
#: Of the task that runs in this worker.
layout: ContextVar[RankLayout] = ContextVar("layout")


def run_program(command: Sequence[str], environment: Mapping[str, str], working_directory: str | None) -> MpiResult:
    """What a TaskDescription with ``mpi`` runs. Blocks until all ranks have ended.

    A Python program that may fail on one rank is best run by ``python -m mpi4py``, which calls MPI_Abort then: at its
    end, a plain interpreter waits in MPI_Finalize for the others, who may wait for it. MPI_Abort with code 0 counts as
    success where the launcher says so, as with one rank.

    Raises:
        MpiFailed: a rank returned another code than 0 or was killed; the others were ended then. Or the ranks could
            not be started.
    """
    here = layout.get()
    with _Task(here, find_launch(here, try_out), list(command), environment, working_directory) as task:
        task.run()
        if task.failed is not None or len(task.codes) < task.ranks:
            raise task.failure()
        return MpiResult(ranks=task.ranks, stdout=task.outputs("out"), stderr=task.outputs("err"))


def run_function(
    function: bytes,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    environment: Mapping[str, str],
    working_directory: str | None,
) -> list[Any]:
    """What a TaskDescription with ``function`` and ``ranks`` runs: the function, pickled, is called on every rank,
    after ``from mpi4py import MPI``. What a rank prints becomes the task's output, each line behind ``N:``.

    Returns:
        What each rank returned, in their order.

    Raises:
        Exception: what the first rank that failed raised, with a note that names the rank; the others were ended.
        MpiFailed: a rank was killed, or the ranks do not form one communicator. Where they never met, as a message of
            MPI_Init was lost, they are started again first.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise MpiFailed(f"a function with ranks needs mpi4py, which {sys.executable} does not have: {HINT}")
    here = layout.get()
    launch = find_launch(here, try_out)
    start = 0
    while True:
        start += 1
        with _Task(here, launch, None, environment, working_directory) as task:
            spool = Spool(task.folder)
            work = payload.dump_work(function, args, kwargs, spool)
            (task.folder / "work").write_bytes(work)
            task.run()
            if task.fault and start < STARTS and not (task.folder / "begun").exists():
                continue
            task.show_outputs()
            results = [task.result(number) for number in range(task.ranks)]
            if task.failed is None and all(status == rank.RETURNED for status, _ in results):
                return [payload.load(value, spool=spool) for _, value in results]
            first = task.failed if task.failed is not None else 0
            raise task.failure_of(first, *results[first])


def end_all() -> None:
    """End the ranks of the task that runs here, on all nodes. Blocks for `END_SECONDS` at most."""
    for task in list(_running):
        with contextlib.suppress(Exception):
            task.end()
        shutil.rmtree(task.folder, ignore_errors=True)


class _Task:
    """One start of all ranks: its folder, its launcher, and how the ranks ended. Its folder is removed with the
    block."""

    def __init__(
        self,
        layout: RankLayout,
        launch: Launch,
        command: list[str] | None,
        environment: Mapping[str, str],
        working_directory: str | None,
    ) -> None:
        folder = directory(working_directory)
        self.ranks = layout.resources.ranks
        self.name = "the function" if command is None else command[0]
        self._is_function = command is None
        self.folder = Path(tempfile.mkdtemp(prefix="mpi-", dir=layout.folder))
        #: Exit codes of the ranks that ended by themselves.
        self.codes: dict[int, int] = {}
        #: The rank that failed first.
        self.failed: int | None = None
        #: Why the ranks would have waited for each other for ever; they were ended then.
        self.fault: str | None = None
        self._launch = launch
        self._layout = layout
        self._environment = launch.environment()
        self._process: subprocess.Popen[bytes] | None = None
        own = self._own_environment()
        variables = gpus.of_worker(own)
        task: rank.Task = {
            "ranks": self.ranks,
            "command": command,
            "working_directory": folder or str(Path.cwd()),
            "sys_path": sys.path,
            "defaults": own,
            "overrides": {name: own[name] for name in variables if name in own} | dict(environment),
            "of_rank": [
                {name: value for name, value in gpus.assigned(variables, names).items() if name not in environment}
                for names in layout.gpus_by_rank()
                if names
            ],
            "rank_variables": self._environment.rank_variables,
            "step_variables": self._environment.step_variables,
        }
        with os.fdopen(os.open(self.folder / "task.json", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(task, file)

    def __enter__(self) -> _Task:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- running --------------------------------------------------------------------------------------------

    def run(self, seconds: float | None = None) -> None:
        """Start the ranks and wait until all have ended; the rest is ended when one fails, or after these seconds."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with (self.folder / "launcher").open("wb") as log:
            self._process = self._start(log)
            _running.add(self)
            try:
                while not self._ended(LOOK_SECONDS):
                    late = deadline is not None and time.monotonic() > deadline
                    self.fault = self._environment.mpi_fault(_tail(self.folder / "launcher", OUTPUT_KEPT))
                    if late or self.fault or (self.folder / "failed").exists():
                        if late or self.fault or not self._ended(ALONE_SECONDS):
                            self.end()
                        break
                if self._process.returncode is not None and self._process.returncode < 0:
                    self._end_step()  # the launcher was killed: its step may still run
            finally:
                _running.discard(self)
        for number in range(self.ranks):
            with contextlib.suppress(FileNotFoundError):
                self.codes[number] = int((self.folder / f"rank.{number}.code").read_text())
        with contextlib.suppress(FileNotFoundError, ValueError):
            self.failed = int((self.folder / "failed").read_text())

    def _start(self, log: Any) -> subprocess.Popen[bytes]:
        python = [sys.executable, "-P", rank.__file__]
        words, more = self._launch.command(self._layout, self.folder)
        started = [*python, "--tied", str(os.getpid()), *words, *python, str(self.folder)]
        return subprocess.Popen(
            started,
            env=self._own_environment() | more,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _own_environment(self) -> dict[str, str]:
        return self._environment.clean(registry.job_environment().clean(os.environ))

    def _ended(self, seconds: float) -> bool:
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """End all ranks: SIGTERM lets the launcher end those on other nodes, too; SIGKILL for a launcher that hangs."""
        process = self._process
        if process is None:
            return
        self._end_step()
        process.terminate()
        if not self._ended(END_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _end_step(self) -> None:
        """Have the resource manager kill the ranks that its own command has started."""
        for number in range(self.ranks):
            with contextlib.suppress(OSError, ValueError):
                claim = json.loads((self.folder / f"rank.{number}.claim").read_text())
                self._environment.end_ranks(claim["variables"])
                return

    # ---- results --------------------------------------------------------------------------------------------

    def outputs(self, stream: str, kept: int = OUTPUT_KEPT) -> tuple[str, ...]:
        """The end of what each rank wrote to its ``out`` or ``err``."""
        return tuple(_tail(self.folder / f"rank.{number}.{stream}", kept) for number in range(self.ranks))

    def show_outputs(self) -> None:
        """Write what the ranks wrote to this process's streams, each line behind its rank and a colon."""
        for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
            for number, text in enumerate(self.outputs(name, KEPT_BYTES)):
                stream.writelines(f"{number}: {line}\n" for line in text.splitlines())

    def result(self, number: int) -> tuple[int, Any]:
        """What the function's rank wrote down: status and value; `_NO_RESULT` for the status when it did not."""
        try:
            return payload.unpack((self.folder / f"rank.{number}.result").read_bytes())
        except FileNotFoundError:
            return _NO_RESULT, None

    def failure_of(self, number: int, status: int, value: Any) -> BaseException:
        """The exception for a function whose rank failed first."""
        if status == rank.SEPARATE:
            return self._error(
                f"{self.ranks} ranks were requested, but separate communicators formed, rank {number}'s of size "
                f"{value}: `{self._launch}` does not work with the MPI of mpi4py in {sys.executable}; {HINT}"
            )
        if status != rank.RAISED:
            return self.failure()
        return payload.load_exception(value, f"rank {number}", f"raised by rank {number} of {self.ranks}")

    def failure(self) -> MpiFailed:
        """The exception for a rank that ended with another code than 0, or was never started."""
        if self.fault is not None:
            return self._error(f"the {self.ranks} ranks of {self.name} could not find each other: {self.fault}")
        if self.failed is not None:
            code = self.codes.get(self.failed, 1)
            how = f"was killed by signal {-code}" if code < 0 else f"returned {code}"
            output = _lines(_tail(self.folder / f"rank.{self.failed}.err", OUTPUT_KEPT))
            return self._error(f"rank {self.failed} of {self.ranks} ({self.name}) {how}{output}")
        returned = f"`{self._launch}` returned {self._process.returncode if self._process else None}"
        missing = [number for number in range(self.ranks) if not (self.folder / f"rank.{number}.claim").exists()]
        if missing:
            output = _lines(_tail(self.folder / "launcher", OUTPUT_KEPT))
            return self._error(f"of {self.ranks} ranks {missing} did not start; {returned}{output}")
        done = [number for number, code in self.codes.items() if code == 0]
        if self._is_function and (gone := [number for number in done if self.result(number)[0] == _NO_RESULT]):
            return self._error(
                f"rank {gone[0]} of {self.ranks} (the function) ended by itself with code 0 before it returned "
                f"anything, as by os._exit(0) or MPI_Abort(0); {returned}"
            )
        wrote = [(number, text) for number, text in enumerate(self.outputs("err")) if text.strip()]
        output = "".join(f"; rank {number} wrote{_lines(text, 20)}" for number, text in wrote[:1])
        before = f"; ranks {done} had ended with code 0" if done else ""
        why = f"were ended by their launcher, as by MPI_Abort{before}; {returned}{output}"
        return self._error(f"the ranks of {self.name} {why}")

    def _error(self, message: str) -> MpiFailed:
        data = {"stdout": self.outputs("out"), "stderr": self.outputs("err")}
        return MpiFailed(message, ranks=self.ranks, returncodes=self.codes, **data)


_running: set[_Task] = set()


def _tail(path: Path, kept: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - kept))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _lines(text: str, last: int = 5) -> str:
    tail = "\n".join(text.strip().splitlines()[-last:])
    return f": {tail}" if tail else ""


def try_out(launch: Launch, layout: RankLayout) -> str | None:
    """Start two ranks that print how many they are; None when that is two, else the problem. Blocks for seconds."""
    hosts = list(layout.filled())
    two = {hosts[0]: 1, hosts[1]: 1} if len(hosts) > 1 else {hosts[0]: 2}
    layout = RankLayout(Resources(num_cpus=0.5, ranks=2), two, layout.folder)
    command = [sys.executable, "-c", "from mpi4py import MPI; print('size', MPI.COMM_WORLD.size)"]
    try:
        with _Task(layout, launch, command, {}, None) as task:
            task.run(TRY_SECONDS)
            printed = " ".join(task.outputs("out")).split()
            if printed == ["size", "2"] * 2:
                return None
            if printed == ["size", "1"] * 2:
                return "2 separate communicators of size 1"
            return str(task.failure())
    except (OSError, MpiFailed) as error:
        return str(error)
