"""`PilotManager.read`: a session is looked at beside its manager, after its end, and when it is damaged."""

from __future__ import annotations

import concurrent.futures
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot import PilotManager, PilotState, SessionError, TaskDescription, TaskState

LARGE = 2 << 20


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def fail() -> None:
    print("some words")
    raise ValueError("its own words")


def test_a_session_is_read_beside_its_manager_and_after_its_end(tmp_path: Path) -> None:
    session = tmp_path / "session"
    with PilotManager(session) as manager:
        pilot = manager.submit_pilot({"engine": "process", "cores_per_node": 1, "name": "mine"})
        tasks = [
            manager.submit_task(TaskDescription(function=pow, args=(2, 10), key="a key")),
            manager.submit_task(bytes, LARGE),
            manager.submit_task(fail),
            manager.submit_task(time.sleep, 600),
        ]
        manager.wait_tasks(tasks[:3], 60)
        manager.flush(60)
        shutil.copytree(session, tmp_path / "killed", ignore=shutil.ignore_patterns("socket"))
        drawn = manager.spans()
        infos = [task.info for task in tasks]
        ran = [(info.pilot, info.started, info.finished, info.submitted) for info in infos[:3]]
        assert [(one.pilot, one.started, one.ended, one.submitted) for one in drawn.tasks[:3]] == ran
        assert [one.failed for one in drawn.tasks[:3]] == [False, False, True]
        assert [one.ended for one in drawn.tasks[3:]] + list(drawn.waiting) in ([math.inf], [infos[3].submitted])
        assert [one.pilot for one in drawn.pilots] == ["mine"]
        assert len(manager.spans(tasks[1:2]).tasks) == 1
        for _ in range(2):  # whoever reads takes nothing from who reads next
            with PilotManager.read(session) as reader:
                check(reader, PilotState.ACTIVE, TaskState.QUEUED)
                for name, before in pilot.times.items():
                    assert reader.pilots[0].times[name] == pytest.approx(before, abs=1.0)
                assert [task.info for task in reader.tasks.values()][:3] == [task.info for task in tasks[:3]]
                later = manager.submit_task(abs, -1)
                assert later.id not in reader.tasks
        tasks[3].cancel()
        assert later.result(60) == 1  # the manager goes on
    before = files(session)
    with PilotManager.read(session) as reader:
        check(reader, PilotState.DONE, TaskState.CANCELLED, tasks=6)
        assert not manager.tasks.keys() ^ reader.tasks.keys()
    assert files(session) == before
    shutil.copytree(session / "spool", tmp_path / "killed/spool", dirs_exist_ok=True)
    with PilotManager.read(tmp_path / "killed") as reader:
        check(reader, PilotState.ACTIVE, TaskState.QUEUED)


def check(reader: Any, pilot: PilotState, last: TaskState, tasks: int = 4) -> None:
    assert [(one.name, one.state) for one in reader.pilots] == [("mine", pilot)]
    found = list(reader.tasks.values())
    assert len(found) == tasks
    assert [task.state for task in found[:4]] == [TaskState.DONE, TaskState.DONE, TaskState.FAILED, last]
    assert (found[0].key, found[0].result(), found[1].result()) == ("a key", 1024, bytes(LARGE))
    assert isinstance(found[2].exception(), ValueError)
    assert found[2].info.stdout == "some words\n"
    refused: list[Callable[[], object]] = [
        lambda: reader.submit_task(abs, -1),
        lambda: reader.map(abs, [1]),
        lambda: reader.submit_pilot({}),
        lambda: reader.cancel(found),
        lambda: reader.forget(found[:1]),
        lambda: reader.resubmit(found[2:3]),
        found[0].committed,
        reader.pilots[0].cancel,
        reader.pilots[0].wait,
    ]
    if last is TaskState.QUEUED:
        done, left = found[:3], [found[3]]
        refused += [found[3].result, found[3].cancel, reader.wait_tasks, lambda: concurrent.futures.wait(left)]
        assert reader.wait_tasks(done) == (done, [])
    for call in refused:
        with pytest.raises(SessionError, match=r"was opened for reading, and is as it was then: read it again"):
            call()


def test_what_was_forgotten_since_cannot_be_read(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "session") as manager:
        manager.submit_pilot({"engine": "process", "cores_per_node": 1})
        small, large = manager.submit_task(abs, -1), manager.submit_task(bytes, LARGE)
        manager.wait_tasks(timeout=60)
        manager.flush(60)
        with PilotManager.read(tmp_path / "session") as reader:
            seen = list(reader.tasks.values())
            manager.forget([small, large])
            manager.flush(60)
            for task in seen:
                with pytest.raises(SessionError, match=f"task {task.id} was forgotten since the session"):
                    task.result()
            del seen, task
            with pytest.raises(KeyError, match=f"task {small.id} was forgotten meanwhile"):
                reader.tasks[small.id]
            assert not list(reader.tasks.values())
            assert not PilotManager.read(tmp_path / "session").tasks


def test_a_folder_that_others_can_write_to_is_not_read(tmp_path: Path) -> None:
    PilotManager(tmp_path / "session").close()
    (tmp_path / "session").chmod(0o777)
    with pytest.raises(SessionError, match="other users can write into the session"):
        PilotManager.read(tmp_path / "session")
    with pytest.raises(SessionError, match="holds no session"):
        PilotManager.read(tmp_path)


def fail_once(flag: Path) -> None:
    time.sleep(0.2)
    if not flag.exists():
        flag.touch()
        raise ValueError("the first time")


def die_when_told(folder: Path) -> None:
    number = len(list(folder.glob("begun-*")))
    (folder / f"begun-{number}").touch()
    while not (folder / f"go-{number}").exists():
        time.sleep(0.01)
    os._exit(1)


def test_attempts_that_did_not_count_are_in_the_spans(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "session") as manager:
        manager.submit_pilot({"engine": "process", "cores_per_node": 1, "name": "mine"})
        again = manager.submit_task(TaskDescription(function=fail_once, args=(tmp_path / "flag",), retries=1))
        dies = manager.submit_task(die_when_told, tmp_path)
        deadline = time.monotonic() + 60
        while not dies.done() and time.monotonic() < deadline:
            number = len(dies.info.attempts)
            if dies.state is TaskState.RUNNING:  # it is known when this attempt began
                (tmp_path / f"go-{number}").touch()
            time.sleep(0.01)
        manager.wait_tasks([again, dies], 60)
        (raised,) = again.info.attempts
        assert raised.started is not None and raised.started + 0.2 <= raised.ended <= again.info.started
        deaths = list(dies.info.attempts)
        assert all(one.started is not None and one.started <= one.ended for one in deaths)
        manager.flush(60)
        spans = manager.spans()
    *lost, last = [raised, *deaths]
    assert [(one.pilot, one.worker, one.started, one.ended) for one in spans.lost] == [
        ("mine", one.worker, one.started, one.ended) for one in lost
    ]
    # the attempt that was one too many is the task that failed
    assert [(one.worker, one.started, one.failed) for one in spans.tasks[1:]] == [(last.worker, last.started, True)]
    with PilotManager.read(tmp_path / "session") as reader:
        assert reader.spans()[1:4] + reader.spans()[5:] == spans[1:4] + spans[5:]
