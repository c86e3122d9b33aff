"""The contract suite of engines."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import Pilot, PilotDescription, PilotManager, Task, TaskDescription, TaskState
from pilot.errors import DependencyFailed, ExecutableFailed, TaskExited, TaskTimeout, WorkerDied
from pilot.testing.polling import eventually
from pilot.testing.work import (
    die,
    fail,
    leave,
    look,
    look_and_leave,
    meet,
    nap,
    note,
    pid,
    span,
    speak,
    threads,
    total,
    wait,
)
from pilot.wire.processes import marked


class EngineContract:
    """What every engine promises, as tests: a pilot of two cores runs tasks with it, which fail and are killed, too.

    A plugin's author subclasses it::

        class TestMyEngine(EngineContract):
            engine = "mine"

    The cluster starts once for the class.
    """

    #: The engine's name in the group ``pilot.engines``.
    engine: str

    @pytest.fixture(scope="class")
    @classmethod
    def pilot(cls, manager: PilotManager) -> Pilot:
        """The pilot, which is active."""
        return manager.pilots[0]

    @pytest.fixture(scope="class")
    @classmethod
    def manager(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
        """A manager with one pilot that uses the engine."""
        with PilotManager(tmp_path_factory.mktemp(cls.engine) / "session") as manager:
            pilot = manager.submit_pilot(PilotDescription(engine=cls.engine, cores_per_node=2, memory="2 GiB"))
            assert pilot.wait(timeout=60).value == "active", pilot.reason
            yield manager

    # ---- results and batches

    def test_result_and_record(self, manager: PilotManager, pilot: Pilot) -> None:
        task = run(manager, pow, 2, 10)
        assert task.result(timeout=60) == 1024
        info = task.info
        assert (info.state, info.pilot, info.attempts) == ("done", pilot.name, ())
        assert info.worker is not None and info.started is not None and info.finished is not None
        assert info.submitted is not None
        assert info.submitted <= info.started <= info.finished <= time.time()

    def test_batches_on_warm_workers(self, manager: PilotManager) -> None:
        tasks = [run(manager, pid) for _ in range(600)]
        assert len({task.result(timeout=60) for task in tasks}) <= 2
        assert len({task.info.worker for task in tasks}) <= 2

    def test_exception_with_remote_traceback(self, manager: PilotManager, pilot: Pilot) -> None:
        task = run(manager, fail, "nothing there")
        with pytest.raises(LookupError, match="nothing there") as caught:
            task.result(timeout=60)
        assert "in fail" in str(caught.value.__cause__)
        assert any(f"on pilot {pilot.name}" in note for note in caught.value.__notes__)

    def test_exit_of_a_task_does_not_end_its_worker(self, manager: PilotManager) -> None:
        task = run(manager, leave)
        with pytest.raises(TaskExited, match="SystemExit: 3"):
            task.result(timeout=60)
        assert task.info.attempts == ()

    def test_output_of_task_and_children(self, manager: PilotManager) -> None:
        tasks = [run(manager, speak), run(manager, pid), run(manager, speak)]
        for task in tasks:
            task.result(timeout=60)
        for task in (tasks[0], tasks[2]):
            assert task.info.stdout == "to stdout\nfrom a child\n"
            assert task.info.stderr == "to stderr\na complaint\n"
        assert (tasks[1].info.stdout, tasks[1].info.stderr) == ("", "")

    def test_tasks_as_arguments(self, manager: PilotManager) -> None:
        numbers = [run(manager, pow, 2, n) for n in range(4)]  # 1 + 2 + 4 + 8
        task = run(manager, total, numbers, {"x": run(manager, int, "100")})
        assert task.result(timeout=60) == 115
        assert run(manager, total, [task, task], {"x": 1}).result(timeout=60) == 231

    def test_a_failed_argument(self, manager: PilotManager) -> None:
        task = run(manager, total, [run(manager, fail, "first")], {"x": 1})
        with pytest.raises(DependencyFailed) as caught:
            task.result(timeout=60)
        assert isinstance(caught.value.__cause__, LookupError)

    # ---- needs

    def test_a_task_of_two_cores_has_both(self, manager: PilotManager) -> None:
        before = [run(manager, span, 0.2) for _ in range(2)]
        both = run(manager, span, 0.2, num_cpus=2)
        after = [run(manager, span, 0.2) for _ in range(2)]
        whole = both.result(timeout=60)
        spans = [task.result(timeout=60) for task in (*before, *after)]
        assert all(overlap([whole, one]) == 1 for one in spans)
        assert overlap(spans) <= 2

    def test_libraries_have_as_many_threads_as_the_task_has_cores(self, manager: PilotManager) -> None:
        pytest.importorskip("threadpoolctl")
        assert run(manager, threads).result(timeout=60) == {1}
        assert run(manager, threads, num_cpus=2).result(timeout=60) == {2}

    def test_a_task_that_renames_its_process_keeps_its_mark(self, manager: PilotManager) -> None:
        assert manager.submit_task(os.getenv, "SPT_NOENV").result() == "1"  # setproctitle reads it

    def test_fractions_share_cores(self, manager: PilotManager, tmp_path: Path) -> None:
        meeting = [run(manager, meet, str(tmp_path / "here"), 3, num_cpus=0.5) for _ in range(3)]
        assert all(task.result(timeout=90) for task in meeting)
        spans = [task.result(timeout=60) for task in [run(manager, span, 0.3, num_cpus=0.5) for _ in range(8)]]
        assert overlap(spans) <= 4

    def test_other_shapes_one_after_the_other(self, manager: PilotManager) -> None:
        """Workers of a shape that is not wanted any more give their cores back."""
        for shape in (2, 1.5, 0.5, 2):
            assert run(manager, pow, 2, 3, num_cpus=shape).result(timeout=60) == 8

    def test_tasks_that_need_about_as_much_memory_share_a_worker(self, manager: PilotManager) -> None:
        amounts = ["600 MiB", "700 MiB", "800 MiB", "1 GiB"]
        assert len({run(manager, pid, memory=amount).result(timeout=60) for amount in amounts}) == 1

    def test_memory_is_set_aside(self, manager: PilotManager) -> None:
        spans = [task.result(timeout=60) for task in [run(manager, span, 0.2, memory="1.5 GiB") for _ in range(3)]]
        assert overlap(spans) == 1

    def test_environment_and_directory_of_a_function(self, manager: PilotManager, tmp_path: Path) -> None:
        """They are the task's alone, in a worker that runs other tasks before and after it."""
        before = run(manager, look, num_cpus=2).result(timeout=60)
        word = run(manager, str, "from another task")
        own: dict[str, Any] = {"environment": {"WORD": "given"}, "working_directory": tmp_path, "num_cpus": 2}
        task = run(manager, look_and_leave, word, **own)
        assert task.result(timeout=60) == ("from another task", ("given", str(tmp_path), before[2]))
        assert task.info.name == "look_and_leave"
        failed = run(manager, fail, "with variables", **own)
        with pytest.raises(LookupError, match="with variables"):
            failed.result(timeout=60)
        assert run(manager, look, num_cpus=2).result(timeout=60) == before
        missing = run(manager, look, working_directory=tmp_path / "none")
        with pytest.raises(FileNotFoundError, match=r"TaskDescription\.working_directory on .*/none'"):
            missing.result(timeout=60)

    # ---- executables

    def test_executable(self, manager: PilotManager) -> None:
        wanted = TaskDescription(executable=("sh", "-c", "echo $WORD; echo no >&2"), environment={"WORD": "yes"})
        done = manager.submit_task(wanted).result(timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "yes\n", "no\n")

    def test_executable_that_fails(self, manager: PilotManager) -> None:
        task = manager.submit_task({"executable": ["sh", "-c", "echo broken >&2; exit 7"]})
        with pytest.raises(ExecutableFailed, match="sh returned 7: broken") as caught:
            task.result(timeout=60)
        assert (caught.value.returncode, caught.value.stderr) == (7, "broken\n")

    def test_executable_that_is_not_there(self, manager: PilotManager) -> None:
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            manager.submit_task({"executable": ["no-such-program"]}).result(timeout=60)

    def test_timeout_of_an_executable_ends_its_children(self, manager: PilotManager) -> None:
        task = manager.submit_task({"executable": ["sh", "-c", "sleep 4711.5; true"], "timeout": 0.3})
        with pytest.raises(TaskTimeout):
            task.result(timeout=60)
        eventually(
            lambda: not [one for one in psutil.process_iter(["cmdline"]) if "4711.5" in (one.info["cmdline"] or ())]
        )

    # ---- timeout, cancel, death

    def test_timeout_harms_no_other_task(self, manager: PilotManager, tmp_path: Path) -> None:
        path = tmp_path / "notes"
        quick = [run(manager, note, str(path), f"a{n}", timeout=60) for n in range(50)]
        slow = run(manager, nap, 60, timeout=0.4)
        quick += [run(manager, note, str(path), f"b{n}", timeout=60) for n in range(50)]
        with pytest.raises(TaskTimeout, match=r"timeout of 0.4 s"):
            slow.result(timeout=60)
        assert len([task.result(timeout=60) for task in quick]) == 100
        assert set(runs(path).values()) == {1}
        assert slow.info.attempts == ()

    def test_cancel_of_a_running_task(self, manager: PilotManager, tmp_path: Path) -> None:
        path = tmp_path / "notes"
        slow = run(manager, nap, 60)
        others = [run(manager, note, str(path), f"n{n}", 0.001) for n in range(200)]
        eventually(lambda: slow.state is TaskState.RUNNING, 60)
        assert slow.cancel()
        assert slow.cancelled()
        assert [task.result(timeout=60) for task in others] == [f"n{n}" for n in range(200)]
        assert set(runs(path).values()) == {1}
        # and its worker is replaced: two tasks run at the same time again
        meeting = tmp_path / "meeting"
        assert [task.result(timeout=60) for task in [run(manager, meet, str(meeting), 2) for _ in range(2)]] == [
            True,
            True,
        ]

    def test_cancel_of_a_queued_task(self, manager: PilotManager, tmp_path: Path) -> None:
        path = tmp_path / "notes"
        free = tmp_path / "free"
        before = [run(manager, wait, str(free)) for _ in range(4)]
        queued = run(manager, note, str(path), "ran")
        assert queued.cancel()
        assert not any(task.cancelled() for task in before)
        free.touch()
        manager.wait_tasks(before, timeout=60)
        assert not path.exists()
        assert not before[0].cancel()

    def test_cancel_right_after_submit(self, manager: PilotManager) -> None:
        for _ in range(5):
            assert run(manager, nap, 60).cancel()

    def test_a_task_that_kills_its_worker(self, manager: PilotManager, tmp_path: Path, pilot: Pilot) -> None:
        path = tmp_path / "notes"
        others = [run(manager, note, str(path), f"a{n}", 0.001) for n in range(100)]
        killer = run(manager, die)
        others += [run(manager, note, str(path), f"b{n}", 0.001) for n in range(100)]
        with pytest.raises(WorkerDied):
            killer.result(timeout=60)
        attempts = killer.info.attempts
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        assert len(attempts) >= 2
        assert all(attempt.pilot == pilot.name and attempt.worker for attempt in attempts)
        for task in others:
            task.result(timeout=60)
            assert 1 <= runs(path)[task.result()] <= 1 + len(task.info.attempts)

    def test_a_pilot_of_this_host_listens_for_this_host(self, manager: PilotManager, pilot: Pilot) -> None:
        """On loopback only, if by TCP at all; and none of its ports answers questions by HTTP."""
        settings = json.loads((manager.session_dir / "pilots" / pilot.id / "agent.json").read_text())
        processes = marked(settings["mark"])
        assert processes
        for process in processes:
            for one in process.net_connections(kind="tcp"):
                if one.status == psutil.CONN_LISTEN:
                    assert one.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1"), (process, one)
                    assert b" 200 " not in asked(one.laddr.ip, one.laddr.port), (process, one)

    def test_all_is_well_after_that(self, manager: PilotManager) -> None:
        tasks = manager.map(abs, range(-500, 0))
        assert sum(manager.get_results(tasks)) == sum(range(501))
        assert os.getpid() not in {task.result() for task in [run(manager, pid)]}


def run(manager: PilotManager, function: Callable[..., Any], *args: Any, **fields: Any) -> Task:
    """Submit a call; ``fields`` are those of `TaskDescription`."""
    if not fields:
        return manager.submit_task(function, *args)
    return manager.submit_task(TaskDescription(function=function, args=args, **fields))


def asked(host: str, port: int) -> bytes:
    """What comes back for a question by HTTP."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(100)
    return b""


def overlap(spans: list[tuple[float, float]]) -> int:
    """The most that were under way at one time."""
    steps = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def runs(path: Path) -> dict[str, int]:
    words = path.read_text().split() if path.exists() else []
    return {word: words.count(word) for word in words}
