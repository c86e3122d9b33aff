"""Subscriptions without a session: what is told, left out and logged. And futures for what is on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.errors import SessionError
from pilot.interfaces import (
    AttemptEnded,
    EventsDropped,
    Observer,
    PilotChanged,
    SessionEvent,
    TaskChanged,
    TaskEnded,
    TaskSubmitted,
)
from pilot.manager.commits import Commits
from pilot.manager.metrics import write_metrics
from pilot.manager.observers import KINDS, MOST_WAITING, Observers, Subscription
from pilot.resources import PLAIN
from pilot.results import OK, Attempt, Outcome
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import TaskState
from pilot.testing import MemoryJournal

Subscribe = Callable[..., Subscription]


@pytest.fixture
def observers() -> Iterator[Observers]:
    one = Observers()
    yield one
    one.close()


@pytest.fixture
def subscribe(observers: Observers) -> Subscribe:
    def subscribe(
        observer: Observer, *kinds: type[SessionEvent], tasks: set[int] | None = None, limit: int = MOST_WAITING
    ) -> Subscription:
        subscription = Subscription(observer, frozenset(kinds) or KINDS, tasks, limit)
        observers.add(subscription)
        return subscription

    return subscribe


def record(id: int) -> TaskRecord:
    return TaskRecord(id, FunctionRecord(1, "d", "work"), None, PLAIN, None, 100.0 + id)


def test_who_comes_while_the_manager_is_closed_is_told_nothing_and_leaves_no_thread(
    observers: Observers, subscribe: Subscribe
) -> None:
    observers.close()
    late = subscribe(lambda events: None)
    assert late.is_over
    assert not late._thread.is_alive()
    observers.submitted([record(1)])
    assert not late._batches


def test_the_life_of_a_task_in_order(observers: Observers, subscribe: Subscribe) -> None:
    seen: list[SessionEvent] = []
    subscribe(seen.extend)
    task = record(1)
    observers.submitted([task])
    task.pilot, task.worker = "pilot-1", "w"
    observers.sent([task], "pilot-1", 102.0)
    observers.started(1, "pilot-1", "w")
    lost = Attempt(number=1, pilot="one", worker="w", reason="it raised", ended=103.0)
    task.attempts = (lost,)
    observers.attempt_ended(task, lost)
    task.state = TaskState.DONE
    observers.ended([(task, Outcome(1, OK, 104.0, 0.5))])
    observers.close()
    assert [type(event) for event in seen] == [TaskSubmitted, TaskChanged, TaskChanged, AttemptEnded, TaskEnded]
    submitted, sent, started, attempt, ended = seen
    assert submitted == TaskSubmitted(101.0, 1, "work")
    assert sent == TaskChanged(102.0, 1, TaskState.BOUND, "pilot-1")
    assert isinstance(started, TaskChanged) and (started.state, started.worker) == (TaskState.RUNNING, "w")
    assert attempt == AttemptEnded(103.0, 1, 1, "pilot-1", "w", "it raised")
    expected = TaskEnded(ended.time, 1, "work", TaskState.DONE, "pilot-1", "w", 101.0, 104.0, 0.5, 1)
    assert ended == expected


def test_a_task_without_an_outcome_did_not_run(observers: Observers, subscribe: Subscribe) -> None:
    seen: list[Any] = []
    subscribe(seen.extend)
    task = record(1)
    task.state = TaskState.FAILED
    observers.failed([task])
    observers.close()
    assert (seen[0].state, seen[0].pilot, seen[0].started, seen[0].seconds) == (TaskState.FAILED, None, None, None)


def test_only_the_wanted_kinds_and_tasks(observers: Observers, subscribe: Subscribe) -> None:
    ends: list[Any] = []
    some: list[Any] = []
    subscribe(ends.extend, TaskEnded)
    subscribe(some.extend, TaskSubmitted, TaskEnded, tasks={2})
    tasks = [record(id) for id in (1, 2, 3)]
    observers.submitted(tasks)
    observers.ended([(task, Outcome(task.id, OK, 1.0, 1.0)) for task in tasks])
    observers.close()
    assert [event.task for event in ends] == [1, 2, 3]
    assert [(type(event), event.task) for event in some] == [(TaskSubmitted, 2), (TaskEnded, 2)]


def test_tasks_of_before_an_attach_are_not_new(observers: Observers, subscribe: Subscribe) -> None:
    seen: list[Any] = []
    subscribe(seen.extend)
    observers.first_task = 3
    observers.submitted([record(2), record(3)])
    observers.close()
    assert [event.task for event in seen] == [3]


def test_nothing_is_made_that_nobody_wants(observers: Observers, subscribe: Subscribe) -> None:
    subscribe(print, PilotChanged)
    observers.submitted([None])  # type: ignore[list-item] # not looked at
    observers.ended([None])  # type: ignore[list-item]
    observers.failed([None])  # type: ignore[list-item]


def test_a_full_queue_says_where_how_many_are_missing(observers: Observers, subscribe: Subscribe) -> None:
    inside, gate = threading.Event(), threading.Event()
    seen: list[Any] = []

    def slow(events: list[SessionEvent]) -> None:
        seen.extend(events)
        inside.set()
        gate.wait(60)

    subscription = subscribe(slow, limit=4)
    observers.submitted([record(1)])
    assert inside.wait(60)
    observers.submitted([record(id) for id in range(2, 7)])  # the last batch that there is room for
    observers.submitted([record(id) for id in range(7, 10)])
    assert subscription.dropped == 3
    gate.set()
    for _ in range(600):
        if len(seen) == 6:
            break
        threading.Event().wait(0.05)
    observers.submitted([record(10)])
    observers.close()
    assert [event.task for event in seen if not isinstance(event, EventsDropped)] == [1, 2, 3, 4, 5, 6, 10]
    assert isinstance(seen[6], EventsDropped) and seen[6].count == 3


def test_what_is_missing_at_the_end_is_told_there(observers: Observers, subscribe: Subscribe) -> None:
    seen: list[Any] = []
    subscribe(seen.extend, limit=2)
    observers.submitted([record(id) for id in range(1, 6)])
    observers.submitted([record(6)])
    observers.close()
    assert [event.task for event in seen[:-1]] == [1, 2, 3, 4, 5] and seen[-1].count == 1


def test_what_an_observer_raises_is_logged_once(
    observers: Observers, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    over = threading.Semaphore(0)

    def fail(events: list[SessionEvent]) -> None:
        seen.extend(events)
        over.release()
        raise SystemExit("no")

    subscribe(fail)
    for id in (1, 2):
        observers.submitted([record(id)])
        assert over.acquire(timeout=60)
    assert len(seen) == 2
    assert ["failed; what it raises" in entry.message for entry in caplog.records] == [True]


def test_after_the_end_nothing_is_told(observers: Observers, subscribe: Subscribe) -> None:
    seen: list[Any] = []
    subscription = subscribe(seen.extend)
    observers.submitted([record(1)])
    observers.remove(subscription)
    subscription.close()
    observers.submitted([record(2)])
    assert [event.task for event in seen] == [1]
    subscription.close()


# ---- what is on disk --------------------------------------------------------------------------------------------


class Paused(MemoryJournal):
    """Commits nothing."""

    def mark(self, mark: Any) -> None:
        self.marks = [*getattr(self, "marks", []), mark]


def test_a_commit_is_done_with_its_mark() -> None:
    journal = Paused()
    commits = Commits(journal)
    commit = commits.new()
    commits.mark(commit)
    assert not commit.done() and not commit.cancel()
    journal.marks[0]()
    assert commit.result(0) is None


def test_a_commit_that_is_open_at_the_end_fails() -> None:
    journal = Paused()
    commits = Commits(journal)
    commit = commits.new()
    commits.mark(commit)
    commits.close()
    late = commits.new()
    journal.marks[0]()  # too late
    for one in (commit, late):
        with pytest.raises(SessionError, match="closed before the journal in memory could be written"):
            one.result(0)


def test_metrics_have_a_row_for_each_task_however_many_wait_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crowded:
        """A session of which the observer learns later."""

        pilots = ()

        def subscribe(self, observer: Any, *, kinds: Any, limit: int = 100_000) -> Subscription:
            self.subscription = Subscription(observer, frozenset(kinds), None, limit)
            return self.subscription

        def unsubscribe(self, subscription: Subscription) -> None:
            pass

    def ended(task: int) -> list[Any]:
        return [TaskEnded(2.0, task, "größe", TaskState.DONE, None, None, 1.0, None, None, 0)]

    opened = Path.open  # where text is ASCII, as with LC_ALL=C
    monkeypatch.setattr(
        Path, "open", lambda *args, encoding="ascii", **given: opened(*args, encoding=encoding, **given)
    )
    session: Any = Crowded()
    with write_metrics(session, tmp_path / "metrics.csv"):
        for task in range(3):
            session.subscription.put(TaskEnded, 150_000, lambda task=task: ended(task))
    rows = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[:2] for row in rows] == [["task", "name"], *([str(task), "größe"] for task in range(3))]
