"""Removes finished tasks from a session: from memory, from the journal, and the files of their large values."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from pilot.errors import DescriptionError, invalid
from pilot.manager.handles import Task, forget, is_kept_by, is_kept_in_memory, outcome_of, tasks_of
from pilot.manager.journal import SessionRow
from pilot.manager.resubmission import Resubmission
from pilot.manager.state import SessionState
from pilot.results import OK, Spooled, Value

#: Seconds that the journal has to write down tasks that have just failed.
WRITE_SECONDS = 10.0


class Forgetter:
    """Forgets tasks of one session. Any thread may call it."""

    def __init__(self, state: SessionState, resubmission: Resubmission) -> None:
        self._state = state
        self._resubmission = resubmission

    def forget(self, given: Iterable[Task]) -> None:
        """As `PilotManager.forget`."""
        self._state.check_open()
        tasks: dict[int, Task] = {}
        for task in tasks_of("forget", given):
            self._add(task, tasks)
        self._check_dependents(tasks)
        files = self._files(tasks)
        if self._state.is_own_thread():  # in a callback, while the manager's thread may record the end of the task
            # a task that has come to depend on one of these since keeps all of them
            self._state.mailbox.put(lambda: self._remove(tasks, files))
        else:
            self._state.mailbox.ask(lambda: self._remove(tasks, files))
        self._resubmission.forget(tasks.keys())

    def _add(self, task: Task, tasks: dict[int, Task]) -> None:
        """A task and its parts, unless they were forgotten before."""
        if not is_kept_by(task, self._state):
            if task.id in self._state.tasks:
                raise DescriptionError(f"forget: task {task.id} is another manager's", given=task)
            return
        if not task.done():
            raise invalid("forget", task, "tasks that have ended")
        tasks[task.id] = task
        for part in task.parts:
            self._add(part, tasks)

    def _check_dependents(self, tasks: dict[int, Task]) -> None:
        for id, task in tasks.items():
            if count := self._state.dependents.get(id):
                text = f"forget: {count} task(s) that are not over depend on task {id} ({task.name})"
                raise DescriptionError(text, given=task)

    def _files(self, tasks: dict[int, Task]) -> list[Spooled]:
        """Large results, and large arguments of tasks that could have been submitted again."""
        state, journal = self._state, self._state.journal
        values: list[Value] = []
        failed: list[int] = []
        for id, task in tasks.items():
            outcome = outcome_of(task)
            if outcome is None or outcome.status != OK:
                failed.append(id)
            if outcome is not None and not is_kept_in_memory(task):
                values.append(state.value(outcome))
        if failed and journal.flush(WRITE_SECONDS):
            values += [found[0] for id in failed if (found := journal.work(id)) is not None]
        return [value for value in values if isinstance(value, Spooled)]

    def _remove(self, tasks: dict[int, Task], files: list[Spooled]) -> None:
        """In the manager's thread, which knows of all dependents."""
        self._check_dependents(tasks)
        state, journal = self._state, self._state.journal
        for id, task in tasks.items():
            state.tasks.pop(id, None)
            if task.key is not None:
                state.keys.pop(task.key, None)
            forget(task)
        if tasks and (last := max(tasks)) > state.last_forgotten:
            state.last_forgotten = last
            journal.put(SessionRow("forgotten", str(last)))
        journal.forget(list(tasks))
        for value in files:
            journal.mark(partial(state.spool.discard, value))
