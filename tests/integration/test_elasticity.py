"""Pilots whose walltime ends, successors that take over, and pilots that come and go with the tasks: real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from pilot import NoPilotError, PilotDescription, PilotManager, PilotState, Task, TaskDescription

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
        tasks: list[Task] = []

        def last_works() -> bool:
            """Keeps the pilots busy, until the last of them has had a task."""
            while sum(not task.done() for task in tasks) < 8:
                work = TaskDescription(
                    function=note, args=(str(notes), len(tasks), 0.1), pilot="relay", expected_duration=2
                )
                tasks.append(manager.submit_task(work))
            return any(task.done() and task.info.pilot == "relay.3" for task in tasks)

        eventually(last_works, 180)
        assert manager.get_results(tasks) == list(range(len(tasks)))
        assert [pilot.name for pilot in manager.pilots] == ["relay", "relay.2", "relay.3"]
        used = Counter(task.info.pilot for task in tasks)
        assert set(used) == {"relay", "relay.2", "relay.3"}
        assert not [attempt for task in tasks for attempt in task.info.attempts]
        eventually(lambda: manager.pilots[-1].state is PilotState.DONE, timeout=60)
        assert [pilot.state for pilot in manager.pilots] == [PilotState.DONE] * 3
        assert "walltime is over" in manager.pilots[0].reason or "drained" in manager.pilots[0].reason
    assert counts(notes, "finished") == Counter(range(len(tasks)))


def test_what_walltime_cuts_off_runs_elsewhere_at_no_cost(tmp_path: Path, eventually: Eventually) -> None:
    notes = tmp_path / "notes"
    with PilotManager() as manager:
        short = PilotDescription(name="short", cores_per_node=1, walltime=timedelta(seconds=4), drain=1)
        pilot = manager.submit_pilot(short)
        pilot.wait()
        task = manager.submit_task(note, str(notes), 1, 6.0)
        eventually(lambda: notes.exists())
        manager.submit_pilot(PilotDescription(name="long", cores_per_node=1))
        assert task.result(timeout=60) == 1
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
        scaler = manager.autoscale(wanted, maximum=2, idle=1.0, backlog=0.5, delay=0.2)
        assert manager.pilots == []
        tasks = [manager.submit_task(time.sleep, 0.2) for _ in range(60)]
        most = 0

        def done() -> bool:
            nonlocal most
            most = max(most, alive())
            return all(task.done() for task in tasks)

        eventually(done, timeout=60)
        assert most == 2
        assert {task.info.pilot for task in tasks} == {"grown.2", "grown.3"}
        eventually(lambda: alive() == 0, timeout=60)
        assert len(manager.pilots) == 2
        eventually(lambda: {pilot.state for pilot in manager.pilots} == {PilotState.DONE})
        assert manager.submit_task(abs, -1).result(timeout=60) == 1
        scaler.stop(drain=True)
        eventually(lambda: {pilot.state for pilot in manager.pilots} == {PilotState.DONE})
        try:
            manager.submit_task(abs, -1)
        except NoPilotError:
            pass
        else:
            raise AssertionError("nobody will ever run this task")


#: A manager that is killed: as soon as its pilot is at work, or as soon as the successor is asked for.
CHILD = """
import os, signal, sqlite3, sys, time
from datetime import timedelta
from pilot import PilotDescription, PilotManager

if __name__ == "__main__":
    manager = PilotManager(sys.argv[1])
    if sys.argv[2] == "alone":
        manager.submit_pilot(PilotDescription(name="old", cores_per_node=1, restarts=0))
    else:
        manager.submit_pilot(
            PilotDescription(name="old", cores_per_node=1, walltime=timedelta(seconds=10), drain=1, renewals=1)
        )
    tasks = [manager.submit_task(time.sleep, 0.05) for _ in range(60)]
    tasks[5].result()
    while sys.argv[2] == "family" and len(manager.pilots) < 2:
        time.sleep(0.01)
    with sqlite3.connect(sys.argv[1] + "/journal.sqlite") as journal:
        while True:  # until it knows of them
            (pilots,) = journal.execute("SELECT COUNT(DISTINCT id) FROM pilots WHERE mark != ''").fetchone()
            (ended,) = journal.execute("SELECT COUNT(*) FROM results").fetchone()
            if pilots == len(manager.pilots) and ended > 5:
                break
            time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_manager(session: Path, how: str) -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD, str(session), how], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL


def test_after_an_attach_without_pilots_the_tasks_wait_for_one(
    tmp_path: Path, eventually: Eventually, leftovers: Callable[[], list[psutil.Process]]
) -> None:
    killed_manager(tmp_path / "session", "alone")
    for process in leftovers():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    eventually(lambda: not leftovers(), timeout=60)
    with PilotManager.attach(tmp_path / "session") as manager:
        (old,) = manager.pilots
        eventually(lambda: old.state is PilotState.FAILED)
        assert len(manager.tasks) == 60
        assert not all(task.done() for task in manager.tasks.values())
        manager.submit_pilot(PilotDescription(name="new", cores_per_node=2))
        assert manager.get_results(manager.tasks.values()) == [None] * 60
        assert {task.info.pilot for task in manager.tasks.values()} == {"old", "new"}


def test_a_family_survives_its_manager(tmp_path: Path, eventually: Eventually) -> None:
    killed_manager(tmp_path / "session", "family")
    with PilotManager.attach(tmp_path / "session") as manager:
        old, new = manager.pilots
        assert (old.name, new.name) == ("old", "old.2")
        assert new.wait(timeout=60) is PilotState.ACTIVE
        old.cancel()
        task = manager.submit_task(TaskDescription(function=abs, args=(-1,), pilot="old"))
        assert task.result(timeout=60) == 1
        assert task.info.pilot == "old.2"
        assert manager.get_results(manager.tasks.values())[:60] == [None] * 60
        assert len(manager.pilots) == 2
