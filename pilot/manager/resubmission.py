"""Another attempt for tasks that are over: new tasks with the same work, which depend on each other as those did."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from graphlib import TopologicalSorter

import msgspec

from pilot.errors import DescriptionError, SessionError, invalid
from pilot.manager.handles import Task, entry_of, is_kept_by, tasks_of
from pilot.manager.sharing import files_of
from pilot.manager.state import SessionState
from pilot.manager.submitting import Submitter
from pilot.results import Value
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState

#: Seconds that the journal has to write down a task that was submitted just now.
WRITE_SECONDS = 10.0
_OVER = (TaskState.FAILED, TaskState.CANCELLED)


class _Work:
    """What is known of a task that gets another attempt."""

    def __init__(self, arguments: Value, needs: dict[int, bool | int]) -> None:
        self.arguments = arguments
        #: As in `TaskRecord.needs`.
        self.needs = needs
        #: For each of these, the first attempt: what stands for it is found by that.
        self.firsts: dict[int, int] = {}


class Resubmission:
    """What was submitted again in one session. Any thread may call it; one call runs at a time.

    A task and its later attempts are one thing here, named by the first of them: it is read again from the journal
    as it was described then, and what depends on it gets the newest attempt.
    """

    def __init__(self, state: SessionState, submitter: Submitter) -> None:
        self._state = state
        self._submitter = submitter
        self._lock = threading.Lock()
        #: A later attempt → the first one; and the first → the newest one.
        self._first: dict[int, int] = {}
        self._newest: dict[int, int] = {}

    def resubmit(self, tasks: Iterable[Task]) -> list[Task]:
        """As `PilotManager.resubmit`."""
        self._state.check_open()
        with self._lock:
            return self._resubmit(tasks)

    def _resubmit(self, tasks: Iterable[Task]) -> list[Task]:
        given = tasks_of("resubmit", tasks)
        for task in given:
            self._check(task)
        wanted = [self._first.get(task.id, task.id) for task in given]
        works = self._gather(wanted)
        for terms in {entry_of(self._state.tasks[id]).terms for id in works}:
            self._submitter.capacities.check(terms)
        self._hold_all(works)
        before = {id: [one for one in work.firsts.values() if one in works] for id, work in works.items()}
        new: dict[int, Task] = {}
        for id in TopologicalSorter(before).static_order():  # those that others depend on first
            new[id] = self._submit(self._state.tasks[id], works[id], new)
        for id, task in new.items():
            self._first[task.id], self._newest[id] = id, task.id
        return [new[id] for id in wanted]

    def forget(self, tasks: Collection[int]) -> None:
        """These tasks are gone."""
        with self._lock:
            for known in (self._first, self._newest):
                for one, other in list(known.items()):
                    if one in tasks or other in tasks:
                        del known[one]

    def _check(self, task: Task) -> None:
        if not is_kept_by(task, self._state):
            raise DescriptionError(f"resubmit: task {task.id} is another manager's, or was forgotten", given=task)
        if not task.done() or task.state not in _OVER:
            shown = f"task {task.id} ({task.name}), which is {task.state.value},"
            raise invalid("resubmit", task, "tasks that failed or were cancelled", shown=shown)

    def _gather(self, wanted: list[int]) -> dict[int, _Work]:
        """The work of these tasks, and of those that they depend on and that have no result either."""
        works: dict[int, _Work] = {}
        open = list(wanted)
        while open:
            id = open.pop()
            if id in works:
                continue
            works[id] = work = self._read(id)
            taken: set[int] = set()
            for needed in work.needs:
                first = self._first.get(needed, needed)
                work.firsts[needed] = first = needed if first in taken else first
                taken.add(first)
            open += [one for one in work.firsts.values() if self._stands_for(one).state in _OVER]
        return works

    def _stands_for(self, first: int) -> Task:
        try:
            return self._state.tasks[self._newest.get(first, first)]
        except KeyError:
            raise DescriptionError(f"resubmit: task {first}, which a task depends on, was forgotten") from None

    def _read(self, id: int) -> _Work:
        """From the journal, which alone has it: a task that is over keeps neither in memory."""
        journal = self._state.journal
        found = journal.work(id)
        if found is None and journal.flush(WRITE_SECONDS):
            found = journal.work(id)
        if found is None:
            raise SessionError(
                f"task {id} is not in the journal {journal.name}, so it cannot be submitted again", path=journal.name
            )
        return _Work(*found)

    def _submit(self, old: Task, work: _Work, new: dict[int, Task]) -> Task:
        needs: dict[int, bool | int] = {}
        stand = {id: new.get(first) or self._stands_for(first) for id, first in work.firsts.items()}
        for id, reference in work.needs.items():
            own = id if reference is True else reference  # by which the arguments refer to its result
            needs[stand[id].id] = reference if stand[id].id == id else own
        known = entry_of(old)
        entry = TaskRecord(
            self._submitter.next_id(),
            known.function,
            work.arguments,
            known.terms,
            known.name,
            time.time(),
            needs or None,
            weight=known.weight,
        )
        before = self._stands_for(old.id)
        with self._submitter.keys:
            entry.has_key = before.key is not None
            if before.key is not None:  # first, as `Submitter.add`
                row = msgspec.structs.replace(self._state.keys[before.key], task=entry.id)
                self._state.keys[before.key] = row
                self._state.journal.put(row)
            task = self._state.add_task(entry)
            task.key, before.key = before.key, None
        if old.parts:
            self._submitter.join(task, [stand[part.id] for part in old.parts])
        return task

    def _hold_all(self, works: dict[int, _Work]) -> None:
        """The new tasks use the files of the arguments as well: all of them, or none."""
        spool, held = self._state.spool, list[str]()
        for id, work in works.items():
            for file in files_of(work.arguments):
                if not spool.path(file).is_file():
                    self._state.files.release(held)
                    name, path = self._state.tasks[id].name, str(spool.path(file))
                    raise SessionError(
                        f"the arguments of task {id} ({name}) cannot be read again from {path}: it is not there",
                        path=path,
                    )
                self._state.files.hold([file])
                held.append(file)
