"""Removes finished tasks from a session: from memory, from the journal, and the files of their large values."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from pilot.errors import DescriptionError, invalid
from pilot.manager.handles import Task, Together, forget, is_kept_by, is_kept_in_memory, outcome_of, tasks_of
from pilot.manager.journal import SessionRow
from pilot.manager.resubmission import Resubmission
from pilot.manager.sharing import files_of
from pilot.manager.state import SessionState
from pilot.results import OK

log = logging.getLogger(__name__)

#: Seconds that the journal has to write down tasks that have just failed.
WRITE_SECONDS = 10.0


class Forgetter:
    """Forgets tasks of one session. Any thread may call it."""

    def __init__(self, state: SessionState, resubmission: Resubmission) -> None:
        self._state = state
        self._resubmission = resubmission

    def forget(self, given: Iterable[Task] | Together) -> None:
        """As `PilotManager.forget`."""
        self._state.check_open()
        tasks: dict[int, Task] = {}
        for task in tasks_of("forget", given):
            self._add(task, tasks)
        self._check_dependents(tasks)
        results, arguments = self._results(tasks), self._arguments(tasks)
        if self._state.is_own_thread():  # in a callback, while the manager's thread may record the end of the task
            self._state.mailbox.put(lambda: self._remove_unless_needed(tasks, results, arguments))
        else:
            self._state.mailbox.ask(lambda: self._remove(tasks, results, arguments))
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

    def _results(self, tasks: dict[int, Task]) -> list[str]:
        """The files of large results."""
        files: list[str] = []
        for task in tasks.values():
            outcome = outcome_of(task)
            if outcome is not None and not is_kept_in_memory(task):
                files += files_of(self._state.value(outcome))
        return files

    def _arguments(self, tasks: dict[int, Task]) -> list[str]:
        """The files of the arguments of tasks that could have been submitted again."""
        journal = self._state.journal
        ended = ((id, outcome_of(task)) for id, task in tasks.items())
        failed = [id for id, outcome in ended if outcome is None or outcome.status != OK]
        if not failed or not journal.flush(WRITE_SECONDS):
            return []
        works = [journal.work(id) for id in failed]
        return [file for work in works if work is not None for file in files_of(work[0])]

    def _remove_unless_needed(self, tasks: dict[int, Task], results: list[str], arguments: list[str]) -> None:
        """A task that has come to depend on one of these since keeps all of them: nobody waits for this to say so."""
        try:
            self._remove(tasks, results, arguments)
        except DescriptionError as error:
            log.warning("%s", error)

    def _remove(self, tasks: dict[int, Task], results: list[str], arguments: list[str]) -> None:
        """In the manager's thread, which knows of all dependents."""
        self._check_dependents(tasks)
        state, journal = self._state, self._state.journal
        for id, task in tasks.items():
            state.tasks.remove(id)
            if task.key is not None and (row := state.keys.get(task.key)) is not None and row.task == id:
                del state.keys[task.key]
            forget(task)
        if tasks and (last := max(tasks)) > state.last_forgotten:
            state.last_forgotten = last
            journal.put(SessionRow("forgotten", str(last)))
        journal.forget(list(tasks))
        if results:
            journal.mark(partial(state.spool.release, results))
        if arguments:
            journal.mark(partial(state.files.release, arguments))
