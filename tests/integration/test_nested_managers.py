"""A task that has a manager and pilots of its own: they end with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotDescription, PilotManager
from pilot.wire.marks import MARK

Eventually = Callable[..., Any]


def wait(path: str) -> None:
    """Write down which process this is, and wait."""
    import os
    import time

    with Path(path).open("a") as file:
        file.write(f"{os.getpid()} {os.environ['PILOT_AGENT']}\n")
    time.sleep(600)


def inner(folder: str, path: str) -> None:
    with PilotManager(f"{folder}-{os.getpid()}") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        task = manager.submit_task(wait, path)
        wait(path)
        task.result()


def carrying(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            carried = process.environ().get(MARK, "")
            if (carried == mark or carried.startswith(f"{mark}.")) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("how", ["cancel", "death", "close"])
def test_pilots_of_a_task_end_with_it(how: str, tmp_path: Path, eventually: Eventually) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    with PilotManager(tmp_path / "outer") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        task = manager.submit_task(inner, str(tmp_path / "inner"), str(notes))
        eventually(lambda: len(notes.read_text().splitlines()) == 2, 60)
        lines = dict(line.split() for line in notes.read_text().splitlines())
        outer_mark, inner_mark = sorted(lines.values(), key=len)
        assert inner_mark.startswith(f"{outer_mark}.")
        inner_mark = inner_mark.rpartition(".")[0]  # of the inner agent
        assert len(carrying(inner_mark)) >= 3
        if how == "death":
            notes.write_text("")
            psutil.Process(next(int(pid) for pid, mark in lines.items() if mark == outer_mark)).kill()
            eventually(lambda: len(notes.read_text().splitlines()) >= 1, 60)  # it runs again, in another session
        if how != "close":
            eventually(task.cancel, 60)
            eventually(lambda: not carrying(inner_mark), 60)
            assert manager.submit_task(os.getpid).result(timeout=60) != os.getpid()
        else:
            manager.close()
    eventually(lambda: not carrying(outer_mark), 60)


def test_an_idle_manager_is_named_when_another_one_is_made(caplog: pytest.LogCaptureFixture) -> None:
    """As when a cell of a notebook runs again."""
    with PilotManager() as first:
        PilotManager().close()
        pilot = first.submit_pilot({"engine": "process", "cores_per_node": 1})
        working = first.submit_task(time.sleep, 600)
        PilotManager().close()
        assert not caplog.text
        working.cancel()
        PilotManager().close()
        assert (
            f"1 manager(s) of this process are open, idle, and keep their pilots ({first.session_dir})" in caplog.text
        )
        caplog.clear()
        child = os.fork()
        if child == 0:  # the manager is not one of this process
            PilotManager().close()
            os._exit(bool(caplog.text))
        assert os.waitpid(child, 0)[1] == 0
        pilot.cancel()
        PilotManager().close()
        assert not caplog.text
