"""`LiveSource`: the session of a manager of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from pilot.dashboard.index import TaskIndex
from pilot.dashboard.sources import PilotView, QPUView, Source, TaskDetails, attempt_steps, in_order
from pilot.errors import SessionError
from pilot.interfaces import AttemptEnded, SessionEvent, TaskChanged, TaskEnded, TaskSubmitted
from pilot.manager.following import JournalFollower, PilotLine, TaskLine
from pilot.manager.handles import Task, entry_of
from pilot.manager.manager import PilotManager
from pilot.results import TaskInfo
from pilot.states import TaskState, is_final

#: Seconds to wait until the journal has what has happened before.
FLUSH_SECONDS = 30.0
#: Tasks that are read from the journal at once.
AT_ONCE = 10_000


class LiveSource(Source):
    """Subscribes to a manager's events; what was before them is read from its journal.

    The manager does not wait for it.
    """

    is_live = True

    def __init__(self, manager: PilotManager) -> None:
        """Begin. Does not block: the tasks that there are appear as they are read.

        Raises:
            SessionError: the manager is closed.
        """
        self._manager = manager
        self.name = manager.session_dir.name
        self.index = TaskIndex()
        self._read = threading.Event()
        self._problem = ""
        kinds = (TaskSubmitted, TaskChanged, AttemptEnded, TaskEnded)
        self._subscription = manager.subscribe(self._happened, kinds=kinds)
        threading.Thread(target=self._read_earlier, name="pilot-dashboard-journal", daemon=True).start()

    @property
    def status(self) -> str:
        if self.is_over:
            return "closed"
        if not self._read.is_set():
            return "reading the tasks"
        dropped = self._subscription.dropped
        return self._problem or (f"live; {dropped:,} events were lost" if dropped else "live")

    @property
    def is_over(self) -> bool:
        return self._subscription.is_over

    def close(self) -> None:
        if not self.is_over:
            self._manager.unsubscribe(self._subscription)

    # ---- tasks ----------------------------------------------------------------------------------------------------

    def _read_earlier(self) -> None:
        try:
            self._manager.flush(FLUSH_SECONDS)
            journal = JournalFollower(self._manager.session_dir)
            earlier = journal.submitted(0)
            self.index.add(earlier)
            last = earlier[-1][0] if earlier else 0
            for first in range(1, last + 1, AT_ONCE):
                self.index.end(journal.ended(first, first + AT_ONCE - 1))
            self.index.lose((one.task, one.number, one.started, one.ended) for one in journal.attempts())
            journal.close()
            states = ((id, self._manager.tasks.get(id)) for id in self.index.unfinished())
            now = time.time()
            self.index.change((id, task.state, _pilot(task), now) for id, task in states if task and not task.done())
        except (SessionError, TimeoutError) as error:
            self._problem = f"live; earlier tasks are missing: {error}"
        finally:
            self._read.set()

    def _happened(self, events: list[SessionEvent]) -> None:
        self._read.wait()  # what is read from the journal is older
        index = self.index
        new = [(event.task, event.name, event.time) for event in events if isinstance(event, TaskSubmitted)]
        index.add(new)
        index.change(_changes(events))
        lost = [event for event in events if isinstance(event, AttemptEnded)]
        index.lose((event.task, event.number, event.started, event.time) for event in lost)
        index.end([_line(event) for event in events if isinstance(event, TaskEnded)])

    def task(self, id: int) -> TaskDetails:
        task = self._manager.tasks[id]
        info = task.info
        return TaskDetails(
            facts=_facts(info),
            reason=self._manager.explain(task),
            stdout=info.stdout,
            stderr=info.stderr,
            steps=_steps(info),
            has_result=task.state is TaskState.DONE,
        )

    def result(self, id: int) -> Any:
        return self._manager.tasks[id].result(timeout=0)

    # ---- pilots ---------------------------------------------------------------------------------------------------

    def pilots(self) -> list[PilotView]:
        return [
            PilotView(
                PilotLine(one.id, one.description, one.state, one.reason, dict(one.times)), tuple(one.nodes), one.job
            )
            for one in self._manager.pilots
        ]

    def qpus(self) -> list[QPUView]:
        views = []
        for pilot in self._manager.pilots:
            if not is_final(pilot.state):
                known = {info.name: info for info in pilot.qpus}
                views += [QPUView(pilot.id, name, known.get(name)) for name in pilot.description.qpus]
        return views


# ---- events and records as lines -------------------------------------------------------------------------------------


def _changes(events: list[SessionEvent]) -> Iterator[tuple[int, TaskState, str, float]]:
    for event in events:
        if isinstance(event, TaskChanged):
            yield event.task, event.state, event.pilot, event.time
        elif isinstance(event, AttemptEnded):
            yield event.task, TaskState.QUEUED, "", event.time


def _line(event: TaskEnded) -> TaskLine:
    pilot, submitted = event.pilot or "", event.submitted
    return TaskLine(event.task, event.name, event.state, pilot, submitted, event.started, event.seconds, event.time)


def _pilot(task: Task) -> str:
    """Id of the pilot that has a task."""
    return entry_of(task).pilot or ""


def _facts(info: TaskInfo) -> list[tuple[str, str]]:
    """The record of a task, but for its times and its output."""
    facts = [("State", info.state), ("Pilot", info.pilot), ("Worker", info.worker), ("Host", info.host)]
    facts += [("QPU", info.qpu), ("GPUs", ", ".join(info.gpus))]
    facts += [(f"Attempt {one.number}", f"on {one.pilot} did not count: {one.reason}") for one in info.attempts]
    return [(what, value) for what, value in facts if value]


def _steps(info: TaskInfo) -> list[tuple[str, float]]:
    steps = [("submitted", info.submitted), ("sent to the pilot", info.bound)]
    steps += [("began", info.started), ("ended", info.finished)]
    return in_order([*steps, *attempt_steps(info.attempts)])
