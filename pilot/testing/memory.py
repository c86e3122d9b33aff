"""A launcher, an engine and a journal without processes and files, for tests of what uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from pilot.descriptions import PilotDescription
from pilot.interfaces import Allocation, Engine, Job, JobState, Launcher, OnExit, WorkerSpec
from pilot.manager.journal import (
    KINDS,
    OF_TASKS,
    SCHEMA,
    AnyRow,
    AttemptRow,
    EndedRows,
    Journal,
    KeyRow,
    Needs,
    ResultRow,
    Row,
    SessionRow,
    TaskRow,
    unpack,
    unpack_needs,
)
from pilot.results import OK, Value
from pilot.states import TaskState


class MemoryLauncher(Launcher):
    """Takes every job and starts none: `status` reports what a test has set."""

    poll_interval = 0.01

    def __init__(self) -> None:
        #: What `status` reports of every job; an exception is raised.
        self.report: tuple[JobState, str] | BaseException = (JobState.QUEUED, "pending")
        #: Calls of `status`.
        self.asked = 0
        #: Names of pilots, a list for each call of `submit_many`.
        self.submitted: list[list[str]] = []
        #: Pilots whose jobs are refused.
        self.refused: set[str] = set()
        #: Native ids of the jobs that were cancelled.
        self.cancelled: list[str] = []
        #: What `cancel` raises.
        self.trouble: BaseException | None = None

    def check(self, description: PilotDescription) -> None:
        return

    def submit(self, job: Job) -> str:
        if job.pilot in self.refused:
            raise OSError("refused")
        return f"job of {job.pilot}"

    def submit_many(self, jobs: Sequence[Job]) -> list[str | Exception]:
        self.submitted.append([job.pilot for job in jobs])
        return super().submit_many(jobs)

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        self.asked += 1
        if isinstance(self.report, BaseException):
            raise self.report
        return dict.fromkeys(jobs, self.report)

    def cancel(self, native_id: str, mark: str) -> None:
        self.cancelled.append(native_id)
        if self.trouble:
            raise self.trouble


class MemoryEngine(Engine):
    """Starts no process: a worker is in `workers` until it is killed or a test calls `end`."""

    def __init__(self, allocation: Allocation) -> None:
        super().__init__(allocation)
        self.workers: dict[str, WorkerSpec] = {}
        self._on_exit: dict[str, OnExit] = {}
        #: What `start` or `join` was given.
        self.on_broken: Callable[[str], None] | None = None

    def start(self, on_broken: Callable[[str], None]) -> None:
        self.on_broken = on_broken

    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        self.on_broken = on_broken

    def spawn(self, spec: WorkerSpec, on_exit: OnExit) -> None:
        self.workers[spec.name] = spec
        self._on_exit[spec.name] = on_exit

    def end(self, name: str, reason: str) -> None:
        """The worker is gone; nothing happens when it was before."""
        if self.workers.pop(name, None) is not None:
            self._on_exit.pop(name)(reason)

    def kill(self, name: str) -> None:
        self.end(name, "was killed by signal 9")

    def stop(self) -> None:
        for name in list(self.workers):
            self.kill(name)


class MemoryJournal(Journal):
    """A `Journal` without a file and a thread: each row is committed when it is handed over."""

    name = "in memory"

    def __init__(self) -> None:
        self._rows: dict[type[Row], dict[object, Row]] = {kind: {} for kind in KINDS}
        self._numbers = count()
        self._marks: list[Any] = []
        self._on_commit: Callable[[list[Any]], None] | None = None
        self.put(SessionRow("schema", str(SCHEMA)))

    def start(self, on_commit: Callable[[list[Any]], None]) -> None:
        self._on_commit = on_commit
        while self._marks:
            self.mark(self._marks.pop(0))

    def put(self, row: Row) -> None:
        kind = type(row)
        rows = self._rows[kind]
        rows[getattr(row, kind.__struct_fields__[0]) if kind.keyed else next(self._numbers)] = row

    def extend(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.put(row)

    def mark(self, mark: Any, *, soon: bool = False) -> None:
        if callable(mark):
            mark()
        elif self._on_commit is None:
            self._marks.append(mark)
        else:
            self._on_commit([mark])

    def forget(self, tasks: Sequence[int]) -> None:
        gone = set(tasks)
        for kind, column in OF_TASKS.items():
            self._rows[kind] = {key: row for key, row in self._rows[kind].items() if getattr(row, column) not in gone}

    def flush(self, timeout: float) -> bool:
        return True

    def close(self) -> None:
        return

    def forked(self) -> None:
        return

    def rows(self, kind: type[AnyRow]) -> list[AnyRow]:
        return cast("list[AnyRow]", list(self._rows[kind].values()))

    def unfinished(self) -> list[TaskRow]:
        ended = self._rows[ResultRow]
        return sorted((row for row in self.rows(TaskRow) if row.id not in ended), key=lambda row: row.id)

    def ended(self) -> list[int]:
        return sorted(row.task for row in self.rows(ResultRow) if row.task in self._rows[TaskRow])

    def not_done(self) -> list[tuple[int, TaskState]]:
        states = ((row.task, TaskState(row.state)) for row in self.rows(ResultRow))
        return [(id, state) for id, state in states if state is not TaskState.DONE]

    def kept_arguments(self) -> list[Value]:
        ended = {row.task for row in self.rows(ResultRow) if row.status != OK}
        return [unpack(row.payload) for row in self.rows(TaskRow) if row.id in ended and isinstance(row.payload, str)]

    def row(self, kind: type[AnyRow], key: int | str) -> AnyRow | None:
        return cast("AnyRow | None", self._rows[kind].get(key))

    def ended_between(self, first: int, last: int) -> list[EndedRows]:
        keys = {row.task: row.key for row in self.rows(KeyRow)}
        found = []
        for id in self.ended():
            if first <= id <= last:
                task, result = cast("TaskRow", self._rows[TaskRow][id]), cast("ResultRow", self._rows[ResultRow][id])
                task, result = replace(task, payload=None), replace(result, value=None, stdout=None, stderr=None)
                attempts = [row for row in self.rows(AttemptRow) if row.task == id]
                found.append(EndedRows(task, result, attempts, keys.get(id)))
        return found

    def value(self, task: int) -> Value:
        row = cast("ResultRow | None", self._rows[ResultRow].get(task))
        return unpack(row.value) if row is not None else None

    def output(self, task: int) -> tuple[str, str]:
        row = cast("ResultRow | None", self._rows[ResultRow].get(task))
        return (row.stdout or "", row.stderr or "") if row is not None else ("", "")

    def work(self, task: int) -> tuple[Value, Needs] | None:
        row = cast("TaskRow | None", self._rows[TaskRow].get(task))
        return (unpack(row.payload), unpack_needs(row.needs)) if row is not None else None
