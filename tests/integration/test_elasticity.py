"""Pilots whose walltime ends, successors that take over, and pilots that come and go with the tasks: real processes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pilot import NoPilotError, PilotDescription, PilotManager, PilotState, TaskDescription

Eventually = Callable[..., Any]


def note(path: str, number: int, seconds: float) -> int:
    """Says in the file that it was begun, and at its end that it was finished."""
    for word in ("begun", "finished"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{word} {number}\n".encode())
        os.close(descriptor)
        if word == "begun":
            time.sleep(seconds)
    return number


def counts(path: Path, word: str) -> Counter[int]:
    return Counter(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(word))


def test_a_stream_of_tasks_over_three_pilots(tmp_path: Path, eventually: Eventually) -> None:
    """Two successors; each pilot lives for a few seconds, and each task has one result."""
    notes = tmp_path / "notes"
    with PilotManager() as manager:
        wanted = PilotDescription(
            name="relay", cores_per_node=2, walltime=timedelta(seconds=6), drain=1, renewals=2, restarts=0
        )
        manager.submit_pilot(wanted)
        described = [
            TaskDescription(function=note, args=(str(notes), number, 0.1), pilot="relay", walltime=2)
            for number in range(200)
        ]
        tasks = manager.submit_tasks(described)
        assert manager.get_results(tasks) == list(range(200))
        assert [pilot.name for pilot in manager.pilots] == ["relay", "relay.2", "relay.3"]
        used = Counter(task.info.pilot for task in tasks)
        assert set(used) == {"relay", "relay.2", "relay.3"}
        assert not [attempt for task in tasks for attempt in task.info.attempts]
        eventually(lambda: manager.pilots[-1].state is PilotState.DONE, timeout=15)
        assert [pilot.state for pilot in manager.pilots] == [PilotState.DONE] * 3
        assert "walltime is over" in manager.pilots[0].reason or "drained" in manager.pilots[0].reason
    assert counts(notes, "finished") == Counter(range(200))


def test_what_walltime_cuts_off_runs_elsewhere_at_no_cost(tmp_path: Path, eventually: Eventually) -> None:
    notes = tmp_path / "notes"
    with PilotManager() as manager:
        short = PilotDescription(name="short", cores_per_node=1, walltime=timedelta(seconds=4), drain=1)
        pilot = manager.submit_pilot(short)
        pilot.wait()
        task = manager.submit_task(note, str(notes), 1, 6.0)
        eventually(lambda: notes.exists())
        manager.submit_pilot(PilotDescription(name="long", cores_per_node=1))
        assert task.result(timeout=30) == 1
        assert (task.info.pilot, pilot.state) == ("long", PilotState.DONE)
        (attempt,) = task.info.attempts
        assert (attempt.pilot, attempt.reason) == ("short", "the pilot's walltime was over")
    assert (counts(notes, "begun"), counts(notes, "finished")) == (Counter({1: 2}), Counter({1: 1}))


def test_from_no_pilot_to_two_and_back(eventually: Eventually) -> None:
    def alive() -> int:
        return sum(
            pilot.state in (PilotState.QUEUED, PilotState.STARTING, PilotState.ACTIVE) for pilot in manager.pilots
        )

    with PilotManager() as manager:
        wanted = PilotDescription(name="grown", cores_per_node=1)
        scaler = manager.autoscale(wanted, maximum=2, idle=1.0, backlog=0.5, patience=0.2)
        assert manager.pilots == []
        tasks = [manager.submit_task(time.sleep, 0.2) for _ in range(40)]
        most = 0

        def done() -> bool:
            nonlocal most
            most = max(most, alive())
            return all(task.done() for task in tasks)

        eventually(done, timeout=40)
        assert most == 2
        assert {task.info.pilot for task in tasks} == {"grown.2", "grown.3"}
        eventually(lambda: alive() == 0, timeout=15)
        assert len(manager.pilots) == 2
        eventually(lambda: {pilot.state for pilot in manager.pilots} == {PilotState.DONE})
        assert manager.submit_task(abs, -1).result(timeout=30) == 1
        scaler.stop(drain=True)
        eventually(lambda: {pilot.state for pilot in manager.pilots} == {PilotState.DONE})
        try:
            manager.submit_task(abs, -1)
        except NoPilotError:
            pass
        else:
            raise AssertionError("nobody will ever run this task")


def test_attach_after_all_pilots_are_over(tmp_path: Path) -> None:
    """A family and its tasks are in the journal: the next manager's pilots take what is left."""
    session = tmp_path / "session"
    first = PilotManager(session)
    pilot = first.submit_pilot(PilotDescription(name="old", cores_per_node=1))
    tasks = [first.submit_task(pow, 2, number) for number in range(3)]
    assert first.get_results(tasks) == [1, 2, 4]
    first.close()
    assert pilot.state is PilotState.DONE
    with PilotManager.attach(session) as second:
        assert [one.state for one in second.pilots] == [PilotState.DONE]
        assert second.get_results(second.tasks.values()) == [1, 2, 4]
