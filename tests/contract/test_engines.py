"""What every engine promises: one suite over process, ray and dask. Each cluster starts once for the module."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import Pilot, PilotDescription, PilotManager, Task, TaskDescription, TaskState
from pilot.errors import DependencyFailed, ExecutableFailed, TaskExited, TaskTimeout, WorkerDied

ENGINES = ["process", "ray", "dask"]
Eventually = Callable[..., Any]


class Field:
    """A manager with one pilot of two cores, and a folder for notes."""

    def __init__(self, manager: PilotManager, pilot: Pilot) -> None:
        self.manager = manager
        self.pilot = pilot

    def run(self, function: Callable[..., Any], *args: Any, **wishes: Any) -> Task:
        if not wishes:
            return self.manager.submit_task(function, *args)
        return self.manager.submit_task(TaskDescription(function=function, args=args, **wishes))


@pytest.fixture(scope="module", params=ENGINES)
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with PilotManager(tmp_path_factory.mktemp(request.param) / "session") as manager:
        pilot = manager.submit_pilot(PilotDescription(engine=request.param, cores_per_node=2, memory="2 GiB"))
        assert pilot.wait(timeout=60).value == "active"
        yield Field(manager, pilot)
        manager.close()


def local(source: str, name: str) -> Callable[..., Any]:
    """A function without a module: it travels by value."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(source, space)
    return space[name]  # type: ignore[no-any-return]


SOURCE = """
import os, subprocess, sys, time

def pid():
    return os.getpid()

def nap(seconds):
    time.sleep(seconds)
    return os.getpid()

def note(path, word, seconds=0.0):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (word + chr(10)).encode())
    os.close(descriptor)
    time.sleep(seconds)
    return word

def span(seconds):
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def meet(path, number, seconds=60):
    # True when so many are under way at one time.
    note(path, str(os.getpid()))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with open(path) as file:
            if len(file.readlines()) >= number:
                return True
        time.sleep(0.01)
    return False

def fail(text):
    raise LookupError(text)

def speak():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo from a child; echo a complaint >&2"], check=True)

def die():
    os.kill(os.getpid(), 9)

def leave():
    sys.exit(3)

def total(numbers, more):
    return sum(numbers) + more["x"]

def threads():
    import numpy, threadpoolctl
    numpy.ones((300, 300)) @ numpy.ones((300, 300))
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
"""
pid, nap, wait, meet, note, span, fail, speak, die, leave, total, threads = (
    local(SOURCE, name)
    for name in (
        "pid", "nap", "wait", "meet", "note", "span", "fail", "speak", "die", "leave", "total", "threads",
    )
)  # fmt: skip


# ---- results and batches --------------------------------------------------------------------------------------


def test_result_and_record(field: Field) -> None:
    task = field.run(pow, 2, 10)
    assert task.result(timeout=60) == 1024
    info = task.info
    assert (info.state, info.pilot, info.attempts) == ("done", field.pilot.name, ())
    assert info.worker is not None
    assert info.submitted <= info.started <= info.finished <= time.time()


def test_batches_on_warm_workers(field: Field) -> None:
    tasks = [field.run(pid) for _ in range(600)]
    assert len({task.result(timeout=60) for task in tasks}) <= 2
    assert len({task.info.worker for task in tasks}) <= 2


def test_exception_with_remote_traceback(field: Field) -> None:
    task = field.run(fail, "nothing there")
    with pytest.raises(LookupError, match="nothing there") as caught:
        task.result(timeout=60)
    assert "in fail" in str(caught.value.__cause__)
    assert any(f"on pilot {field.pilot.name}" in note for note in caught.value.__notes__)


def test_exit_of_a_task_does_not_end_its_worker(field: Field) -> None:
    task = field.run(leave)
    with pytest.raises(TaskExited, match="SystemExit: 3"):
        task.result(timeout=60)
    assert task.info.attempts == ()


def test_output_of_task_and_children(field: Field) -> None:
    tasks = [field.run(speak), field.run(pid), field.run(speak)]
    for task in tasks:
        task.result(timeout=60)
    for task in (tasks[0], tasks[2]):
        assert task.info.stdout == "to stdout\nfrom a child\n"
        assert task.info.stderr == "to stderr\na complaint\n"
    assert (tasks[1].info.stdout, tasks[1].info.stderr) == ("", "")


def test_tasks_as_arguments(field: Field) -> None:
    numbers = [field.run(pow, 2, n) for n in range(4)]  # 1 + 2 + 4 + 8
    task = field.run(total, numbers, {"x": field.run(int, "100")})
    assert task.result(timeout=60) == 115
    assert field.run(total, [task, task], {"x": 1}).result(timeout=60) == 231


def test_a_failed_argument(field: Field) -> None:
    task = field.run(total, [field.run(fail, "first")], {"x": 1})
    with pytest.raises(DependencyFailed) as caught:
        task.result(timeout=60)
    assert isinstance(caught.value.__cause__, LookupError)


# ---- needs ----------------------------------------------------------------------------------------------------


def overlap(spans: list[tuple[float, float]]) -> int:
    """The most that were under way at one time."""
    steps = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def test_a_task_of_two_cores_has_both(field: Field) -> None:
    before = [field.run(span, 0.2) for _ in range(2)]
    both = field.run(span, 0.2, num_cpus=2)
    after = [field.run(span, 0.2) for _ in range(2)]
    whole = both.result(timeout=60)
    spans = [task.result(timeout=60) for task in (*before, *after)]
    assert all(overlap([whole, one]) == 1 for one in spans)
    assert overlap(spans) <= 2


def test_libraries_have_as_many_threads_as_the_task_has_cores(field: Field) -> None:
    pytest.importorskip("threadpoolctl")
    assert field.run(threads).result(timeout=60) == {1}
    assert field.run(threads, num_cpus=2).result(timeout=60) == {2}


def test_fractions_share_cores(field: Field) -> None:
    spans = [task.result(timeout=60) for task in [field.run(span, 0.3, num_cpus=0.5) for _ in range(8)]]
    assert overlap(spans) <= 4
    assert overlap(spans) >= 3


def test_other_shapes_one_after_the_other(field: Field) -> None:
    """Workers of a shape that is not wanted any more give their cores back."""
    for shape in (2, 1.5, 0.5, 2):
        assert field.run(pow, 2, 3, num_cpus=shape).result(timeout=60) == 8


def test_memory_is_set_aside(field: Field) -> None:
    spans = [task.result(timeout=60) for task in [field.run(span, 0.2, memory="1.5 GiB") for _ in range(3)]]
    assert overlap(spans) == 1


# ---- executables ----------------------------------------------------------------------------------------------


def test_executable(field: Field) -> None:
    wanted = TaskDescription(executable=["sh", "-c", "echo $WORD; echo no >&2"], environment={"WORD": "yes"})
    done = field.manager.submit_task(wanted).result(timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "yes\n", "no\n")


def test_executable_that_fails(field: Field) -> None:
    task = field.manager.submit_task({"executable": ["sh", "-c", "echo broken >&2; exit 7"]})
    with pytest.raises(ExecutableFailed, match="sh returned 7: broken") as caught:
        task.result(timeout=60)
    assert (caught.value.returncode, caught.value.stderr) == (7, "broken\n")


def test_executable_that_is_not_there(field: Field) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        field.manager.submit_task({"executable": ["no-such-program"]}).result(timeout=60)


def test_timeout_of_an_executable_ends_its_children(field: Field, eventually: Eventually) -> None:
    task = field.manager.submit_task({"executable": ["sh", "-c", "sleep 4711.5; true"], "timeout": 0.3})
    with pytest.raises(TaskTimeout):
        task.result(timeout=60)
    eventually(lambda: not [one for one in psutil.process_iter(["cmdline"]) if "4711.5" in (one.info["cmdline"] or ())])


# ---- timeout, cancel, death -----------------------------------------------------------------------------------


def runs(path: Path) -> dict[str, int]:
    words = path.read_text().split() if path.exists() else []
    return {word: words.count(word) for word in words}


def test_timeout_harms_no_other_task(field: Field, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    quick = [field.run(note, str(path), f"a{n}", timeout=60) for n in range(50)]
    slow = field.run(nap, 60, timeout=0.4)
    quick += [field.run(note, str(path), f"b{n}", timeout=60) for n in range(50)]
    with pytest.raises(TaskTimeout, match=r"timeout of 0.4 s"):
        slow.result(timeout=60)
    assert len([task.result(timeout=60) for task in quick]) == 100
    assert set(runs(path).values()) == {1}
    assert slow.info.attempts == ()


def test_cancel_of_a_running_task(field: Field, eventually: Eventually, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    slow = field.run(nap, 60)
    others = [field.run(note, str(path), f"n{n}", 0.001) for n in range(200)]
    eventually(lambda: slow.state is TaskState.RUNNING, 60)
    assert slow.cancel()
    assert slow.cancelled()
    assert [task.result(timeout=60) for task in others] == [f"n{n}" for n in range(200)]
    assert set(runs(path).values()) == {1}
    # and its worker is replaced: two tasks run at the same time again
    meeting = tmp_path / "meeting"
    assert [task.result(timeout=60) for task in [field.run(meet, str(meeting), 2) for _ in range(2)]] == [True, True]


def test_cancel_of_a_queued_task(field: Field, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    free = tmp_path / "free"
    before = [field.run(wait, str(free)) for _ in range(4)]
    queued = field.run(note, str(path), "ran")
    assert queued.cancel()
    assert not any(task.cancelled() for task in before)
    free.touch()
    field.manager.wait_tasks(before, timeout=60)
    assert not path.exists()
    assert not before[0].cancel()


def test_cancel_right_after_submit(field: Field) -> None:
    for _ in range(5):
        assert field.run(nap, 60).cancel()


def test_a_task_that_kills_its_worker(field: Field, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    others = [field.run(note, str(path), f"a{n}", 0.001) for n in range(100)]
    killer = field.run(die)
    others += [field.run(note, str(path), f"b{n}", 0.001) for n in range(100)]
    with pytest.raises(WorkerDied):
        killer.result(timeout=60)
    attempts = killer.info.attempts
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert len(attempts) >= 2
    assert all(attempt.pilot == field.pilot.name and attempt.worker for attempt in attempts)
    for task in others:
        task.result(timeout=60)
        assert 1 <= runs(path)[task.result()] <= 1 + len(task.info.attempts)


# ---- the native client ----------------------------------------------------------------------------------------

RAY_CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")
from pilot import registry
ray = registry.load("pilot.engines", "ray").connect({"address": sys.argv[1], "token": sys.argv[2]})
print("found", ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=80))
ray.shutdown()
"""


def ray_client(client: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RAY_CLIENT, client["address"], client["token"]]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_native_client(field: Field) -> None:
    engine = field.pilot.description.engine
    if engine == "process":
        with pytest.raises(NotImplementedError, match="has no native client"):
            field.pilot.get_client()
    elif engine == "dask":
        with field.pilot.get_client() as client:
            assert client.submit(pow, 2, 5).result(timeout=60) == 32
            assert client.gather(client.map(abs, [-1, -2])) == [1, 2]
    else:
        done = ray_client(field.pilot._client)
        assert "found 42" in done.stdout, done.stdout + done.stderr


def test_strangers_are_refused(field: Field, tmp_path: Path) -> None:
    engine, client = field.pilot.description.engine, field.pilot._client
    if engine == "process":
        assert client == {}
    elif engine == "dask":
        distributed = pytest.importorskip("distributed")
        stranger = distributed.Security.temporary()
        for security in (stranger, None):
            with pytest.raises((OSError, TimeoutError, RuntimeError, TypeError)):
                distributed.Client(client["address"], security=security, timeout=2, set_as_default=False)
        assert {Path(client[one]).stat().st_mode & 0o077 for one in ("ca_file", "cert", "key")} == {0}
    else:
        command = [sys.executable, "-c", RAY_CLIENT, client["address"], "0" * 64]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as stranger:
            assert stranger.stdout is not None
            for line in stranger.stdout:  # Ray tries again for 20 s
                assert "found" not in line
                if "InvalidAuthToken" in line:
                    break
            else:
                pytest.fail("it was not refused")
            stranger.kill()


def test_all_is_well_after_that(field: Field) -> None:
    tasks = field.manager.map(abs, range(-500, 0))
    assert sum(field.manager.get_results(tasks)) == sum(range(501))
    assert os.getpid() not in {task.result() for task in [field.run(pid)]}
