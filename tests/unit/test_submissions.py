"""New tasks on their way to the controller: those with a key wait for the journal, and those behind them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pilot.manager.submissions import Submissions
from pilot.resources import PLAIN
from pilot.scheduling import events
from pilot.scheduling.records import FunctionRecord, TaskRecord

WORK = FunctionRecord(1, "d", "work")


class Manager:
    """What `Submissions` knows of a manager: a mailbox, a journal that commits when it is told to, a recorder."""

    def __init__(self) -> None:
        self.new: list[TaskRecord] = []
        self.marks: list[Callable[[], None]] = []
        self.items: deque[Callable[[], None]] = deque()
        self.recorded: list[int] = []
        self.committed: set[int] = set()
        self.cancelled = 0
        #: Ids, in the order in which the controller got them.
        self.handed_on: list[int] = []
        mailbox = SimpleNamespace(take_tasks=self._take, put=self.items.append)
        journal = SimpleNamespace(mark=lambda mark, soon: self.marks.append(mark))
        state: Any = SimpleNamespace(mailbox=mailbox, journal=journal, cancel_late_tasks=self._cancel)
        recorder: Any = SimpleNamespace(record=self._record, resolve=list)
        self.submissions = Submissions(state, recorder, self._feed)

    def submit(self, id: int, *, key: bool) -> None:
        self.new.append(TaskRecord(id, WORK, None, PLAIN, None, 0.0, has_key=key))

    def commit(self) -> None:
        """All that was recorded is on disk; the manager's thread hears of it."""
        self.committed.update(self.recorded)
        marks, self.marks = self.marks, []
        for mark in marks:
            mark()
        while self.items:
            self.items.popleft()()

    def _take(self) -> list[TaskRecord]:
        new, self.new = self.new, []
        return new

    def _cancel(self) -> None:
        self.cancelled += len(self._take())

    def _record(self, entries: list[TaskRecord]) -> None:
        self.recorded += [entry.id for entry in entries]

    def _feed(self, event: events.Event) -> None:
        assert isinstance(event, events.TasksSubmitted)
        self.handed_on += [entry.id for entry in event.entries]


def test_a_task_without_a_key_does_not_wait() -> None:
    manager = Manager()
    manager.submit(1, key=False)
    manager.submissions.take()
    assert (manager.handed_on, manager.marks) == ([1], [])


def test_what_is_behind_a_task_with_a_key_waits_with_it() -> None:
    manager = Manager()
    for id, key in ((1, True), (2, False)):
        manager.submit(id, key=key)
        manager.submissions.take()
    assert (manager.recorded, manager.handed_on) == ([1, 2], [])
    manager.commit()
    assert manager.handed_on == [1, 2]


def test_an_event_that_may_be_about_a_waiting_task_comes_behind_it() -> None:
    manager = Manager()
    manager.submit(1, key=True)
    manager.submissions.take()
    manager.submissions.hand_on()
    assert manager.handed_on == [1]
    manager.commit()
    assert manager.handed_on == [1]


def test_after_the_end_tasks_are_cancelled() -> None:
    manager = Manager()
    manager.submit(1, key=True)
    manager.submissions.take()
    manager.submissions.close()
    manager.submit(2, key=True)
    manager.submissions.take()
    assert (manager.handed_on, manager.cancelled) == ([1], 1)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_order_is_kept_and_a_key_is_on_disk_first(seed: int) -> None:
    dice, manager, keyed, last = random.Random(seed), Manager(), set(), 0
    for _ in range(60):
        for _ in range(dice.randint(0, 4)):
            last += 1
            manager.submit(last, key=(has := dice.random() < 0.3))
            keyed |= {last} if has else set()
        manager.submissions.take()
        if dice.random() < 0.3:
            manager.commit()
        assert manager.handed_on == list(range(1, len(manager.handed_on) + 1))
        assert keyed & set(manager.handed_on) <= manager.committed
    manager.commit()
    assert manager.handed_on == list(range(1, last + 1))
