"""Runs the tasks of a batch, each or several of a function at once, and makes their outcomes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from pilot.errors import PluginError, brief
from pilot.interfaces import Noted
from pilot.results import CANCELLED, RAISED, Outcome
from pilot.wire import payload
from pilot.wire.callables import together
from pilot.wire.messages import Work
from pilot.wire.pickles import forget_classes
from pilot.wire.spool import Spool
from pilot.worker import task_process, values
from pilot.worker.batch import HeldBatch
from pilot.worker.calls import TaskCalls
from pilot.worker.capture import Capture
from pilot.worker.functions import Functions
from pilot.worker.programs import run_executable
from pilot.worker.reports import Reports

#: To start a process takes longer than this.
PROCESS_SECONDS = 1e-4
#: What is added to a ModuleNotFoundError.
NOT_FOUND = (
    "a worker uses the sys.path that the manager's process had when the pilot was submitted: extend sys.path or "
    "PYTHONPATH before that, or send the module by value (cloudpickle.register_pickle_by_value)"
)


class Runner:
    """The main thread's part of a worker."""

    def __init__(
        self, functions: Functions, calls: TaskCalls, spool: Spool, capture: Capture, reports: Reports
    ) -> None:
        """Make it, in the directory that tasks begin in."""
        self._pid = os.getpid()
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._functions = functions
        self._calls = calls
        self._spool = spool
        self._capture = capture
        self._reports = reports

    def advance(self, batch: HeldBatch, index: int) -> int | None:
        """Run the task at this index, and those behind it where its function runs several together."""
        works = [batch.works[index]]
        if works[0].task in batch.skip:
            return batch.step(Outcome(works[0].task, CANCELLED, batch.task_wall, 0.0))
        forget_classes()
        function = self._functions.get(*batch.functions[works[0].function])
        at_once = together(function) if type(function) is not FunctionType else None
        if at_once is None:
            return batch.step(self._run_work(batch, works[0], function))
        with batch.lock:
            for work in batch.works[index + 1 : batch.end]:
                if work.function != works[0].function or work.task in batch.skip:
                    break
                works.append(work)
            batch.together = len(works)
        return batch.step(*self._run_together(batch, at_once, works))

    def _run_together(self, batch: HeldBatch, function: Any, works: list[Work]) -> list[Outcome]:
        """Run tasks of one function at once; each gets an equal part of the time."""
        wall, began = batch.task_wall, batch.task_began
        arguments: list[tuple[Any, Any]] = []
        results: dict[int, tuple[int, Any]] = {}
        notes: dict[int, str] = {}
        for work in works:
            try:
                forget_classes()
                arguments.append(
                    values.arguments_of(batch, work, self._spool) if work.payload is not None else ((), {})
                )
            except BaseException as error:
                results[work.task] = RAISED, payload.dump_exception(error)
        rest = [work for work in works if work.task not in results]
        try:
            returned = _one_for_each(function, [args for args, _ in arguments])
            self._stay_one()
        except BaseException as error:
            self._stay_one(error)
            returned = [error] * len(rest)
        for work, result in zip(rest, returned, strict=True):
            if isinstance(result, Noted):
                result, notes[work.task] = result
            results[work.task] = values.dumped(result, self._spool)
        seconds = (time.perf_counter() - began) / len(works)
        self._reports.task_ended(works[0].task)
        stdout, stderr = self._capture.take()
        self._capture.restore()
        os.fchdir(self._home)
        return [
            Outcome(
                work.task,
                *results[work.task][:1],
                wall + seconds * place,
                seconds,
                results[work.task][1],
                stdout,
                stderr,
                notes.get(work.task, ""),
            )
            for place, work in enumerate(works)
        ]

    def _run_work(self, batch: HeldBatch, work: Work, function: Any) -> Outcome:
        wall, began = batch.task_wall, batch.task_began
        status, value = self._run_task(batch, work, function)
        seconds = time.perf_counter() - began
        self._reports.task_ended(work.task)
        stdout, stderr = self._capture.take()
        if seconds > PROCESS_SECONDS and task_process.may_have_left() and function is not run_executable:
            self._capture.renew()  # a program writes to pipes
        self._capture.restore()
        os.fchdir(self._home)
        return Outcome(work.task, status, wall, seconds, value, stdout, stderr)

    def _run_task(self, batch: HeldBatch, work: Work, function: Any) -> tuple[int, Any]:
        try:
            args, kwargs = ((), {}) if work.payload is None else values.arguments_of(batch, work, self._spool)
            with self._calls.of(batch.id, work.task):
                result = task_process.call(function, args, kwargs)
                if os.getpid() != self._pid:
                    task_process.end_child(None)
            return values.kept(result, self._spool)
        except BaseException as error:
            self._stay_one(error)
            if issubclass(type(error), ModuleNotFoundError):  # isinstance asks the exception itself
                with contextlib.suppress(Exception):  # a class of the user's may take none
                    error.add_note(NOT_FOUND)
            return RAISED, payload.dump_exception(error)

    def _stay_one(self, error: BaseException | None = None) -> None:
        """A child that the task has forked ends with the task's function."""
        if os.getpid() != self._pid:
            task_process.end_child(error)


def _one_for_each(run_together: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
    """What the method of a `JointFunction` returns: a result for each call.

    Raises:
        PluginError: it is something else.
    """
    returned = run_together(calls)
    if not isinstance(returned, Sequence) or len(returned) != len(calls):
        name = type(run_together.__self__).__name__
        raise PluginError(f"{name}.run_together returned {brief(returned)}; expected a list of {len(calls)} results")
    return list(returned)
