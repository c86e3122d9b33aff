"""What a service or a dashboard needs of a session: observe it, know what is on disk, forget tasks, tasks with keys."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot import DescriptionError, PilotDescription, PilotManager, PilotState, SessionError, TaskDescription, TaskState
from pilot.interfaces import (
    AttemptEnded,
    PilotChanged,
    QPUChanged,
    SessionEvent,
    TaskChanged,
    TaskEnded,
    TaskSubmitted,
)

SOON = 60.0
ONE = PilotDescription(engine="process", cores_per_node=1, name="one")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        manager.submit_pilot(ONE)
        yield manager


def of(seen: list[Any], task: int) -> list[Any]:
    return [event for event in seen if getattr(event, "task", None) == task]


def test_an_observer_sees_tasks_pilots_and_qpus(tmp_path: Path) -> None:
    seen: list[SessionEvent] = []
    began = time.time()
    with PilotManager(tmp_path / "s") as manager:
        manager.subscribe(seen.append)
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=1, name="p", qpus=["fake:manila"]))
        done = manager.submit_task(abs, -1)
        failed = manager.submit_task(TaskDescription(function=divmod, args=(1, 0), retries=1, name="bad"))
        behind = manager.submit_task(abs, failed)
        manager.wait_tasks()
        assert pilot.wait(SOON) is PilotState.ACTIVE
    assert [type(event) for event in of(seen, done.id)] == [TaskSubmitted, TaskChanged, TaskEnded]
    assert all(began <= event.time <= time.time() for event in seen)
    ended = of(seen, done.id)[-1]
    assert (ended.state, ended.pilot, ended.lost_attempts) == (TaskState.DONE, pilot.id, 0)
    info = done.info
    assert (ended.worker, ended.started, ended.seconds) == (info.worker, info.started, info.seconds)
    kinds = [TaskSubmitted, TaskChanged, AttemptEnded, TaskChanged, TaskEnded]
    assert [type(event) for event in of(seen, failed.id)] == kinds
    assert (of(seen, failed.id)[2].reason, of(seen, failed.id)[-1].lost_attempts) == ("it raised", 1)
    assert of(seen, failed.id)[-1].name == "bad"
    assert [type(event) for event in of(seen, behind.id)] == [TaskSubmitted, TaskEnded]
    states = [event.state for event in seen if isinstance(event, PilotChanged)]
    assert list(dict.fromkeys(states)) == [
        PilotState.QUEUED,
        PilotState.STARTING,
        PilotState.ACTIVE,
        PilotState.DONE,
    ]
    assert [event.info.name for event in seen if isinstance(event, QPUChanged)] == ["fake:manila"]


def test_a_callback_that_blocks_or_raises_delays_only_itself(manager: PilotManager) -> None:
    gate = threading.Event()
    seen: list[SessionEvent] = []

    def fail(event: SessionEvent) -> None:
        raise ValueError("no")

    bad = [manager.subscribe(fail), manager.subscribe(lambda event: gate.wait(SOON))]
    good = manager.subscribe(seen.append, kinds=[TaskEnded])
    tasks = manager.map(abs, range(500))
    assert manager.get_results(tasks) == list(range(500))
    manager.unsubscribe(good)
    assert [event.task for event in seen] == [task.id for task in tasks]
    gate.set()
    for one in bad:
        manager.unsubscribe(one)


def test_an_observer_may_use_the_manager_and_end_its_subscription(manager: PilotManager) -> None:
    found: list[Any] = []
    over = threading.Event()

    def react(event: SessionEvent) -> None:
        found.append(manager.submit_task(abs, -7).result(SOON))
        manager.unsubscribe(subscription)
        over.set()

    task = manager.submit_task(time.sleep, 0.2)
    subscription = manager.subscribe(react, kinds=[TaskEnded], tasks=[task])
    assert over.wait(SOON)
    assert found == [7]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"observer": 5}, "allowed: a callable"),
        ({"kinds": [int]}, "allowed: AttemptEnded, PilotChanged"),
        ({"tasks": [5]}, "subscribe"),
        ({"limit": 0}, "limit: 0 was given"),
    ],
)
def test_subscriptions_that_are_refused(manager: PilotManager, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        manager.subscribe(**{"observer": print, **wrong})


def test_after_an_attach_only_what_is_new_is_told(tmp_path: Path) -> None:
    seen: list[Any] = []
    first = PilotManager(tmp_path / "s")
    first.submit_pilot(ONE)
    assert first.submit_task(abs, -1).result(SOON) == 1
    first.close()
    with PilotManager.attach(tmp_path / "s") as manager:
        manager.subscribe(seen.append)
        manager.submit_pilot(ONE)
        new = manager.submit_task(abs, -2)
        assert new.result(SOON) == 2
    assert {event.task for event in seen if isinstance(event, TaskSubmitted | TaskEnded)} == {new.id}


# ---- what is on disk --------------------------------------------------------------------------------------------


def test_a_committed_task_is_in_the_journal(tmp_path: Path) -> None:
    manager = PilotManager(tmp_path / "s")
    manager.submit_pilot(ONE)
    called = Counter[str]()
    task = manager.submit_task(abs, -1)
    committed = task.committed()
    committed.add_done_callback(lambda _: called.update([threading.current_thread().name]))
    assert committed.result(SOON) is None
    assert manager._state.journal.work(task.id) is not None
    assert task.result(SOON) == 1
    manager.flush(SOON)
    assert manager._state.journal.value(task.id) is not None
    assert called == {"pilot-callbacks": 1}
    last = manager.submit_task(abs, -2).committed()
    manager.close()
    assert last.result(0) is None
    for refused in (task.committed, manager.flush):
        with pytest.raises(SessionError, match="closed"):
            refused()


def test_flush_that_takes_too_long(manager: PilotManager) -> None:
    with pytest.raises(TimeoutError):
        manager.flush(0)
