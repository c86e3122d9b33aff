"""Tasks that harm their worker, and calls at odd moments of a manager: nothing else breaks."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotDescription, PilotManager, TaskDescription
from pilot.errors import (
    NotPicklable,
    PilotFailed,
    SessionError,
    TaskError,
    TaskExited,
    TaskTimeout,
    WorkerDied,
)
from pilot.wire.processes import marked

Eventually = Callable[..., Any]

#: Seconds for what takes a moment; a test that gets here has found something that hangs.
SOON = 120.0


pytestmark = pytest.mark.usefixtures("home_goes_on")


@pytest.fixture(scope="module")
def manager(home: PilotManager) -> PilotManager:
    return home


# ---- tasks that behave badly ------------------------------------------------------------------------------------


def test_a_recursion_error_is_the_tasks_own(manager: PilotManager) -> None:
    def deeper(n: int) -> int:
        return deeper(n + 1)

    with pytest.raises(RecursionError):
        manager.submit_task(deeper, 0).result(timeout=SOON)


def test_a_result_too_deep_to_pickle_says_so(manager: PilotManager) -> None:
    def work() -> Any:
        nest: Any = []
        for _ in range(100_000):
            nest = [nest]
        return nest

    with pytest.raises(NotPicklable, match=r"the result cannot be pickled \(list\): .*recursion"):
        manager.submit_task(work).result(timeout=SOON)


def die(how: str) -> Callable[[], None]:
    def work() -> None:
        import ctypes
        import os
        import signal
        import sys

        if how == "exit":
            sys.exit(3)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "_exit":
            os._exit(3)
        if how == "_exit 0":
            os._exit(0)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        ctypes.string_at(0)

    return work


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("exit", TaskExited, "SystemExit: 3"),
        ("interrupt", TaskExited, "KeyboardInterrupt"),
        ("_exit", WorkerDied, "ended with code 3"),
        ("_exit 0", WorkerDied, "ended with code 0"),
        ("killed", WorkerDied, "killed by signal 9"),
        ("segfault", WorkerDied, "killed by signal 11"),
    ],
)
def test_a_task_that_ends_its_worker_fails_alone(
    manager: PilotManager, how: str, error: type[TaskError], words: str
) -> None:
    square = lambda n: n * n  # noqa: E731 - by value
    before = manager.map(square, range(100))
    bad = manager.submit_task(die(how))
    after = manager.map(square, range(100))
    with pytest.raises(error, match=words):
        bad.result(timeout=SOON)
    assert manager.get_results(before) == manager.get_results(after) == [n * n for n in range(100)]


def test_a_child_that_outlives_its_task_is_gone_after_close(tmp_path: Path) -> None:
    def work() -> int:
        import subprocess

        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        child.returncode = 0  # nobody waits for it
        return child.pid

    manager = PilotManager(tmp_path / "session")
    manager.submit_pilot({"cores_per_node": 1})
    pid = manager.submit_task(work).result(timeout=SOON)
    assert psutil.pid_exists(pid)
    mark = json.loads((tmp_path / "session/pilots/pilot-1/agent.json").read_text())["mark"]
    assert marked(mark)
    manager.close()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not marked(mark)


@pytest.mark.parametrize("how", ["close 1 and 2", "replace", "close the object", "None", "other file", "python close"])
def test_a_task_that_breaks_its_streams_breaks_them_for_itself_only(manager: PilotManager, how: str) -> None:
    def break_them(how: str) -> None:
        import io
        import os
        import sys

        if how == "close 1 and 2":
            os.close(1)
            os.close(2)
        elif how == "replace":
            sys.stdout = sys.stderr = io.StringIO()
        elif how == "close the object":
            sys.stdout.close()
            sys.stderr.close()
        elif how == "None":
            sys.stdout = sys.stderr = None  # type: ignore[assignment]
        elif how == "other file":
            null = os.open("/dev/null", os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
        else:
            os.fdopen(1, "w").close()

    def write(n: int) -> int:
        import os
        import sys

        print("python", n)
        print("trouble", n, file=sys.stderr)
        os.write(1, b"C\n")
        return n

    tasks = []
    for n in range(4):
        broken = manager.submit_task(break_them, how)
        tasks.append(manager.submit_task(write, n))
        assert broken.result(timeout=SOON) is None
    for n, task in enumerate(tasks):
        assert task.result(timeout=SOON) == n
        assert task.info.stdout == f"python {n}\nC\n"
        assert task.info.stderr == f"trouble {n}\n"


@pytest.mark.parametrize(
    "start", ["subprocess.Popen(command)", "subprocess.run(['sh', '-c', 'exec sh -c \"$0\" &', command[2]])"]
)
def test_what_a_process_that_a_task_left_writes_is_no_other_tasks(tmp_path: Path, start: str) -> None:
    def leave(start: str, command: list[str]) -> int:
        import subprocess

        exec(start, {"subprocess": subprocess, "command": command})
        print("left one")
        return os.getpid()

    def tell(go: Path, written: Path) -> int:
        go.touch()
        deadline = time.monotonic() + 60
        while not written.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        print("mine")
        return os.getpid()

    go, written = tmp_path / "go", tmp_path / "written"
    text = f"until [ -e {go} ]; do sleep 0.01; done; echo late; echo late >&2; touch {written}"
    with PilotManager() as manager:
        manager.submit_pilot({"cores_per_node": 1})
        left = manager.submit_task(leave, start, ["sh", "-c", text])
        task = manager.submit_task(tell, go, written)
        assert left.result(timeout=SOON) == task.result(timeout=SOON)  # one worker has run both
        assert (left.info.stdout, task.info.stdout, task.info.stderr) == ("left one\n", "mine\n", "")


def test_a_pool_that_a_task_left_writes_for_the_next_one(manager: PilotManager) -> None:
    def use(n: int) -> None:
        import multiprocessing

        import pilot

        state = pilot.worker_state()
        if "pool" not in state:
            state["pool"] = multiprocessing.get_context("fork").Pool(1)
        state["pool"].apply(os.system, (f"echo {n}",))

    tasks = manager.map(use, range(8))
    manager.get_results(tasks)
    assert [task.info.stdout for task in tasks] == [f"{n}\n" for n in range(8)]


def test_a_task_that_changes_directory_moves_no_other_task(manager: PilotManager) -> None:
    def move(to: str) -> None:
        import os

        os.chdir(to)

    def where() -> str:
        return str(Path.cwd())

    home = manager.submit_task(where).result(timeout=SOON)
    for _ in range(4):
        manager.submit_task(move, "/").result(timeout=SOON)
        assert manager.submit_task(where).result(timeout=SOON) == home == str(Path.cwd())


def test_a_task_that_removes_its_directory_does_no_harm(manager: PilotManager, tmp_path: Path) -> None:
    def work(path: str) -> None:
        import os
        from pathlib import Path

        Path(path).mkdir()
        os.chdir(path)
        Path(path).rmdir()

    manager.submit_task(work, str(tmp_path / "gone")).result(timeout=SOON)


def test_a_task_that_prints_100_mb_keeps_head_and_tail_and_gives_the_disk_back(
    manager: PilotManager, eventually: Eventually
) -> None:
    def chatter() -> str:
        import sys

        print("the head")
        for _ in range(100):
            sys.stdout.write("x" * 999_999 + "\n")
        print("the tail")
        return "done"

    def whisper(n: int) -> None:
        print("whisper", n)

    task = manager.submit_task(chatter)
    others = manager.map(whisper, range(20))
    assert task.result(timeout=60) == "done"
    out = task.info.stdout
    assert len(out) < 100_000 and out.startswith("the head\n") and out.endswith("the tail\n")
    assert "bytes left out" in out
    assert manager.wait_tasks(others, SOON)[1] == []
    assert [other.info.stdout for other in others] == [f"whisper {n}\n" for n in range(20)]

    def used() -> int:
        return sum(file.stat().st_blocks * 512 for file in manager.session_dir.rglob("*") if file.is_file())

    eventually(lambda: used() < 20 << 20)


def test_binary_garbage_on_stdout_arrives_as_text(manager: PilotManager) -> None:
    garbage = bytes(range(256)) * 4

    def work(garbage: bytes) -> None:
        import os

        os.write(1, garbage)
        os.write(2, garbage)

    task = manager.submit_task(work, garbage)
    assert task.result(timeout=SOON) is None
    assert "abc" in task.info.stdout and "�" in task.info.stdout and "�" in task.info.stderr
    done = manager.submit_task(TaskDescription(executable=["printf", r"\377\376ok"])).result(timeout=SOON)
    assert done.stdout.endswith("ok")


def test_a_task_that_holds_the_interpreter_is_stopped_at_its_timeout(manager: PilotManager) -> None:
    def work(n: int) -> int:
        return pow(7, 5 * 10**8) if n == 3 else n

    tasks = manager.submit_tasks([TaskDescription(function=work, args=(n,), timeout=0.5) for n in range(30)])
    began = time.monotonic()
    with pytest.raises(TaskTimeout, match=r"timeout of 0.5 s"):
        tasks[3].result(timeout=SOON)
    assert (
        time.monotonic() - began < 60
    )  # the timeout, and the time that the agent leaves the worker to end the task, at most twice
    assert manager.get_results(tasks[:3] + tasks[4:]) == [n for n in range(30) if n != 3]


@pytest.mark.slow
def test_a_task_that_holds_the_interpreter_for_long_keeps_its_worker(manager: PilotManager) -> None:
    """The worker hears nothing of its agent meanwhile, longer than it waits for one that is gone."""

    def hold() -> int:
        import ctypes
        import os
        import time

        time.sleep(0.3)
        ctypes.PyDLL(None).sleep(32)
        time.sleep(1)  # the worker looks for its agent
        return os.getpid()

    held = manager.submit_task(TaskDescription(function=hold))
    assert held.result(timeout=4 * SOON)
    assert held.info.attempts == (), "it was run again"


# ---- callbacks, closing, forking --------------------------------------------------------------------------------


def test_a_callback_may_close_the_manager(eventually: Eventually) -> None:
    manager = PilotManager()
    manager.submit_pilot({"cores_per_node": 1})
    done = threading.Event()

    def close(task: Any) -> None:
        try:
            manager.close()
        finally:
            done.set()

    manager.submit_task(pow, 2, 3).add_done_callback(close)
    assert done.wait(SOON)
    with pytest.raises(SessionError):
        manager.submit_task(pow, 2, 3)
    eventually(lambda: not [one for one in threading.enumerate() if one.name == "pilot-manager" and not one.daemon])


def test_no_task_is_left_pending_by_a_close_in_the_midst_of_submits() -> None:
    manager = PilotManager()
    manager.submit_pilot({"cores_per_node": 1})
    tasks = []
    closed = threading.Event()

    def submit() -> None:
        try:
            while True:
                tasks.append(manager.submit_task(pow, 2, 3))
        except SessionError:
            closed.set()

    thread = threading.Thread(target=submit)
    thread.start()
    while len(tasks) < 2000:
        threading.Event().wait(0.01)
    manager.close()
    assert closed.wait(SOON)
    thread.join()
    assert manager.wait_tasks(tasks, timeout=60)[1] == []


def test_a_task_may_be_cancelled_at_once(manager: PilotManager) -> None:
    for _ in range(50):
        task = manager.submit_task(time.sleep, 600)
        assert task.cancel() and task.cancelled()


def test_a_forked_child_does_not_close_the_manager_of_its_parent(manager: PilotManager) -> None:
    child = os.fork()
    if child == 0:
        try:
            manager.close()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8


# ---- environment and working directory --------------------------------------------------------------------------


def test_environment_and_directory_of_a_pilot_and_of_an_executable(manager: PilotManager, tmp_path: Path) -> None:
    def look() -> tuple[str | None, str]:
        return os.environ.get("FLAVOUR"), str(Path.cwd())

    there = tmp_path / "there"
    there.mkdir()
    wanted = PilotDescription(
        name="other", cores_per_node=1, environment={"FLAVOUR": "sour"}, working_directory=str(tmp_path)
    )
    pilot = manager.submit_pilot(wanted)
    task = manager.submit_task(TaskDescription(function=look, pilot="other"))
    assert task.result(timeout=SOON) == ("sour", str(tmp_path))
    shell = ["sh", "-c", "echo $FLAVOUR $EXTRA; pwd"]
    plain = manager.submit_task(TaskDescription(executable=shell, pilot="other"))
    assert plain.result(timeout=SOON).stdout == f"sour\n{tmp_path}\n"
    own = TaskDescription(
        executable=shell,
        pilot="other",
        environment={"EXTRA": "salt", "FLAVOUR": "sweet"},
        working_directory=str(there),
    )
    assert manager.submit_task(own).result(timeout=SOON).stdout == f"sweet salt\n{there}\n"
    for function in (
        TaskDescription(function=os.getcwd, working_directory=__file__),
        TaskDescription(executable=["pwd"], working_directory=__file__),
    ):
        with pytest.raises(NotADirectoryError, match=r"TaskDescription\.working_directory on "):
            manager.submit_task(function).result(60)
    for work in ({"function": os.getcwd}, {"executable": ["pwd"]}):
        found: Any = manager.submit_task({**work, "working_directory": "~"}).result(SOON)
        assert getattr(found, "stdout", found).strip() == str(Path.home().resolve())
    nowhere = TaskDescription(executable=shell, working_directory=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        manager.submit_task(nowhere).result(timeout=SOON)
    pilot.cancel()


def test_a_pilot_whose_directory_does_not_exist_fails_and_says_so(manager: PilotManager, tmp_path: Path) -> None:
    wanted = {"name": "lost", "cores_per_node": 1, "restarts": 0, "working_directory": str(tmp_path / "nowhere")}
    pilot = manager.submit_pilot(wanted)
    with pytest.raises(PilotFailed, match="nowhere"):
        pilot.wait(SOON)
