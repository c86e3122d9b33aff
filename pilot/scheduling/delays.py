"""Tasks that raised, and wait for the time of their next attempt."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from pilot.results import Outcome, error_classes
from pilot.scheduling.records import TaskRecord


def has_retry(record: TaskRecord, outcome: Outcome) -> bool:
    """True when a task that raised may be tried again: it has retries left, for what it raised."""
    terms, rule = record.terms, record.terms.retry
    if record.retries >= terms.retries:
        return False
    return rule is None or not rule.errors or rule.is_for(error_classes(outcome))


def why_no_retry(record: TaskRecord, outcome: Outcome) -> str:
    """Why a task that raised is not tried again, though it has retries left; "": it is, or it has none."""
    rule = record.terms.retry
    if rule is None or record.retries >= record.terms.retries or has_retry(record, outcome):
        return ""
    return f"not tried again: retry_on is {', '.join(rule.errors)}"


class Delays:
    """The tasks that wait for a time."""

    def __init__(self) -> None:
        #: When each is due.
        self._due: dict[TaskRecord, float] = {}
        #: Times and ids of tasks, those that were removed since included.
        self._heap: list[tuple[float, int, TaskRecord]] = []

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(self._due)

    def __contains__(self, record: object) -> bool:
        return record in self._due

    def add(self, record: TaskRecord, now: float) -> bool:
        """Keep a task until its next retry may begin; False when it need not wait.

        Args:
            record: its ``retries`` include this one.
            now: the time by the clock of the events.
        """
        rule = record.terms.retry
        if rule is None or not rule.delay:
            return False
        self._due[record] = due = now + rule.seconds(record.retries)
        heappush(self._heap, (due, record.id, record))
        return True

    def remove(self, record: TaskRecord) -> bool:
        """Forget a task; False when it was not here."""
        return self._due.pop(record, None) is not None

    def left(self, record: TaskRecord, now: float) -> float:
        """Seconds that a task has to wait still."""
        return max(0.0, self._due[record] - now)

    def take(self, now: float) -> list[TaskRecord]:
        """The tasks whose time has come, in that order; they are here no more."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            due, _, record = heappop(self._heap)
            if self._due.get(record) == due:
                del self._due[record]
                taken.append(record)
        return taken

    def clear(self) -> None:
        """Forget all."""
        self._due.clear()
        self._heap.clear()
