"""Tasks that wait for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pilot.results import Outcome
from pilot.scheduling import events
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState

_ENDED = {TaskState.FAILED: "failed", TaskState.CANCELLED: "was cancelled"}


class Dependents:
    """Tasks that wait for others."""

    def __init__(self) -> None:
        #: Id of a task → those that wait for it.
        self.by_blocker: dict[int, list[TaskRecord]] = {}

    def add(self, record: TaskRecord) -> None:
        """A task waits for its blockers."""
        for id in record.blockers or ():
            self.by_blocker.setdefault(id, []).append(record)

    def release(self, record: TaskRecord, outcome: Outcome) -> list[TaskRecord]:
        """A task is done: those that wait for nothing more."""
        released = []
        for dependent in self.by_blocker.pop(record.id):
            if dependent.state is TaskState.WAITING:
                assert dependent.blockers is not None
                dependent.take_value(record.id, outcome.value)
                dependent.blockers.discard(record.id)
                if not dependent.blockers:
                    released.append(dependent)
        return released

    def fail(self, ended: Sequence[TaskRecord]) -> list[events.Link]:
        """All that waits for these tasks fails with them, the nearest first; a loop, for chains may be long."""
        failed: list[events.Link] = []
        open = deque((record, record.id, 1) for record in ended)
        while open:
            record, first, links = open.popleft()
            if (dependents := self.by_blocker.pop(record.id, None)) is None:
                continue
            reason = f"it depends on task {record.id} ({record.title}), which {_ENDED[record.state]}"
            for dependent in dependents:
                if dependent.state is TaskState.WAITING:
                    dependent.state = TaskState.FAILED
                    dependent.values = dependent.blockers = None
                    failed.append(events.Link(dependent, reason, record.id, first, links))
                    open.append((dependent, first, links + 1))
        return failed
