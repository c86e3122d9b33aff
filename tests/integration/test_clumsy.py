"""What people do by mistake: each mistake ends in an error that says so, and the pilot goes on."""

from __future__ import annotations

import importlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotDescription, PilotManager, TaskDescription, registry
from pilot.errors import (
    DescriptionError,
    NoPilotError,
    NotPicklable,
    PilotFailed,
    PluginError,
    SessionError,
    TaskError,
    TaskExited,
    TaskTimeout,
    WorkerDied,
)
from pilot.wire.processes import marked

Eventually = Callable[..., Any]

#: Seconds for what takes a moment; a test that gets here has found something that hangs.
SOON = 60.0


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    with PilotManager(tmp_path_factory.mktemp("session"), wait_for_pilot=0) as manager:
        manager.submit_pilot({"name": "home", "cores_per_node": 2})
        yield manager


@pytest.fixture(autouse=True)
def pilot_goes_on(manager: PilotManager) -> Iterator[None]:
    """After each mistake the same pilot still takes tasks."""
    yield
    assert manager.get_results(manager.map(pow, [2] * 8, range(8))) == [2**n for n in range(8)]
    assert not [thread for thread in threading.enumerate() if "journal" in thread.name and not thread.is_alive()]


# ---- descriptions and submission --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param({"cores_per_nod": 2}, "did you mean 'cores_per_node'", id="unknown key"),
        pytest.param({"cores_per_node": -1}, "cores_per_node: -1", id="negative cores"),
        pytest.param({"cores_per_node": 0}, "cores_per_node: 0", id="no cores"),
        pytest.param({"memory": 2**70}, "memory", id="more bytes than there are numbers"),
        pytest.param({"memory": "lots"}, "8 GiB", id="memory in words"),
        pytest.param({"name": "caf\udce9"}, "name", id="a name that is no text"),
        pytest.param({"environment": {"A": "\udce9"}}, "environment", id="a variable that is no text"),
        pytest.param({"walltime": -1}, "walltime", id="walltime below 0"),
    ],
)
def test_a_wrong_pilot_fails_where_it_is_asked_for(manager: PilotManager, wanted: dict[str, Any], words: str) -> None:
    before = len(manager.pilots)
    with pytest.raises(DescriptionError, match=words):
        manager.submit_pilot(wanted)
    assert len(manager.pilots) == before


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param({"num_cpu": 2}, "did you mean 'num_cpus'", id="unknown key"),
        pytest.param({"num_cpus": -2}, "num_cpus: -2", id="negative cores"),
        pytest.param({"num_cpus": float("nan")}, "num_cpus: nan", id="cores that are no number"),
        pytest.param({"timeout": float("nan")}, "timeout: nan", id="a timeout that is no number"),
        pytest.param({"priority": 2**70}, "priority", id="a priority that no message holds"),
        pytest.param({"memory": 2**70}, "memory", id="more bytes than there are numbers"),
        pytest.param({"retries": 2**70}, "retries", id="retries that no message holds"),
        pytest.param({"name": "caf\udce9"}, "name", id="a name that is no text"),
        pytest.param({"labels": ("caf\udce9",)}, "labels", id="a label that is no text"),
        pytest.param({"labels": "gpu"}, "labels", id="a text for a list"),
        pytest.param({"executable": ["true"]}, "exactly one", id="two kinds of work"),
        pytest.param({"depends_on": [1]}, "depends_on", id="depends on a number"),
    ],
)
def test_a_wrong_task_fails_where_it_is_submitted(manager: PilotManager, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(DescriptionError, match=words):
        manager.submit_task({"function": pow, "args": (2, 3), **wanted})


def test_something_that_is_no_work_is_refused(manager: PilotManager) -> None:
    with pytest.raises(DescriptionError, match="callable"):
        manager.submit_task(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["wait_tasks", "get_results", "resubmit"])
@pytest.mark.parametrize("kind", ["one task alone", "its id", "ids", "a function"])
def test_what_is_no_list_of_tasks_is_refused(manager: PilotManager, method: str, kind: str) -> None:
    task = manager.submit_task(abs, -1)
    given = {"one task alone": task, "its id": task.id, "ids": [task.id], "a function": abs}[kind]
    with pytest.raises(
        DescriptionError, match=rf"^{method}: .* is not valid; expected a list of tasks .*\[task\] for one"
    ):
        getattr(manager, method)(given)


def test_only_a_task_of_the_manager_is_explained(manager: PilotManager, tmp_path: Path) -> None:
    with PilotManager(tmp_path / "other") as other:
        other.submit_pilot(PilotDescription(cores_per_node=1))
        strangers = other.submit_task(abs, -1)
        for given in (strangers, "1", None):
            with pytest.raises(DescriptionError, match=r"explain: .* expected a task of this manager, or its id"):
                manager.explain(given)  # type: ignore[arg-type]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path in which a test makes distributions up."""
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._group.cache_clear()
    yield tmp_path
    registry._group.cache_clear()


def distribution(folder: Path, requires: str, entry: str) -> None:
    info = folder / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n{requires}\n")
    (info / "entry_points.txt").write_text(f"[pilot.engines]\n{entry}\n")
    importlib.invalidate_caches()
    registry._group.cache_clear()


def test_an_engine_that_is_not_installed_fails_with_the_command_that_installs_it(
    manager: PilotManager, plugins: Path
) -> None:
    requires = "Provides-Extra: warp\nRequires-Dist: warp-drive-of-nobody>=9 ; extra == 'warp'"
    distribution(plugins, requires, "warp = made_up:Warp [warp]")
    with pytest.raises(PluginError, match=r"needs warp-drive-of-nobody>=9.*not installed: pip install '.*\[warp\]'"):
        manager.submit_pilot({"engine": "warp"})


def test_an_engine_that_cannot_be_imported_fails_the_pilot_with_the_cause(manager: PilotManager, plugins: Path) -> None:
    distribution(plugins, "", "warp = made_up:Warp")
    (plugins / "made_up.py").write_text("raise RuntimeError('the crystals are empty')\n")
    pilot = manager.submit_pilot({"engine": "warp", "name": "warp", "restarts": 0})
    with pytest.raises(PilotFailed, match="see "):
        pilot.wait(SOON)
    assert "the crystals are empty" in pilot.log_path.read_text()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"engine": "proces"}, "did you mean 'process'"),
        ({"engine": "spark"}, "known: .*dask.*process.*ray"),
        ({"resource": "cloud://"}, "no launcher 'cloud'.*local"),
    ],
)
def test_an_unknown_plugin_is_named_with_those_that_there_are(
    manager: PilotManager, wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises(PluginError, match=words):
        manager.submit_pilot(wanted)


def test_two_pilots_cannot_have_one_name(manager: PilotManager) -> None:
    with pytest.raises(DescriptionError, match="name: 'home'"):
        manager.submit_pilot({"name": "home"})
    with pytest.raises(DescriptionError, match=r"name: 'pilot-1'"):
        manager.submit_pilot({"name": manager.pilots[0].id})


def test_nothing_is_taken_before_the_first_pilot_or_after_the_end() -> None:
    with PilotManager() as manager, pytest.raises(NoPilotError, match="submit_pilot first"):
        manager.submit_task(pow, 2, 3)
    for call in (manager.submit_task, manager.submit_pilot):
        with pytest.raises(SessionError, match="closed"):
            call({"function": print} if call == manager.submit_task else {})
    manager.close()  # the second time


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"pilot": "hoem"}, "home is not among the requested pilots .hoem."),
        ({"num_cpus": 3}, "home has 2 cores, but 3 are needed"),
        ({"num_gpus": 1}, "home has 0 GPUs, but 1 are needed"),
        ({"memory": "64 TiB"}, "home has .* bytes of memory"),
        ({"labels": ["big"]}, "home lacks the label 'big'"),
    ],
)
def test_what_no_pilot_can_serve_fails_at_submit_and_names_each_pilot(
    manager: PilotManager, wishes: dict[str, Any], words: str
) -> None:
    with pytest.raises(NoPilotError, match=words):
        manager.submit_task(TaskDescription(function=pow, args=(2, 3), **wishes))


def test_tasks_fail_when_the_only_pilot_that_fits_is_cancelled(manager: PilotManager) -> None:
    large = manager.submit_pilot({"name": "large", "cores_per_node": 3})
    sleepers = [TaskDescription(function=time.sleep, args=(60,), num_cpus=3) for _ in range(3)]
    tasks = manager.submit_tasks(sleepers)
    after = manager.submit_task(TaskDescription(function=pow, args=(2, 3), num_cpus=3, depends_on=tasks[0]))
    large.cancel()
    for task in tasks:
        with pytest.raises(NoPilotError, match=r"home has 2 cores, but 3 are needed; .*large is cancelled"):
            task.result(timeout=SOON)
    with pytest.raises(TaskError, match="depends on task"):
        after.result(timeout=SOON)
    with pytest.raises(NoPilotError, match="large is cancelled"):
        manager.submit_task(sleepers[0])


# ---- what cannot travel -----------------------------------------------------------------------------------------


def test_an_exception_that_cannot_be_pickled_arrives_as_text(manager: PilotManager) -> None:
    def work() -> None:
        class Odd(Exception):
            def __init__(self) -> None:
                super().__init__("it is odd")
                self.lock = threading.Lock()

        raise Odd

    with pytest.raises(TaskError, match=r"raised .*Odd: it is odd") as caught:
        manager.submit_task(work).result(timeout=SOON)
    assert "in work" in str(caught.value.__cause__)


@pytest.mark.parametrize("text", ["\udce9", "\ud800 \U0001f600", "\0", "x" * 5_000_000])
def test_an_exception_may_say_anything(manager: PilotManager, text: str) -> None:
    def work(text: list[str]) -> None:
        raise ValueError(text[0])

    with pytest.raises(ValueError) as caught:
        manager.submit_task(work, [text]).result(timeout=SOON)
    assert caught.value.args == (text,)


@pytest.mark.parametrize("how", ["mute", "bomb"])
def test_an_exception_that_breaks_when_it_is_looked_at_is_the_tasks_own(manager: PilotManager, how: str) -> None:
    def work(how: str) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        class Bomb(Exception):
            def __reduce__(self) -> Any:
                return exit, (9,)

        raise Mute if how == "mute" else Bomb

    error = manager.submit_task(work, how).exception(timeout=SOON)
    assert type(error).__name__ == "Mute" or "Bomb" in str(error)


def test_an_exception_of_the_users_own_class_is_caught_by_that_class(manager: PilotManager) -> None:
    class Own(Exception):  # as in a script: the worker cannot import it
        pass

    def work() -> None:
        raise Own("mine", 7)

    with pytest.raises(Own) as caught:
        manager.submit_task(work).result(timeout=SOON)
    assert caught.value.args == ("mine", 7)


@pytest.mark.parametrize("make", [threading.Lock, lambda: (n for n in range(3))], ids=["a lock", "a generator"])
def test_a_result_that_cannot_be_pickled_fails_its_task_alone(manager: PilotManager, make: Callable[[], Any]) -> None:
    others = manager.map(pow, [2] * 50, range(50))
    task = manager.submit_task(make)
    with pytest.raises(NotPicklable, match=r"the result cannot be pickled \((lock|generator)\)"):
        task.result(timeout=SOON)
    assert manager.get_results(others) == [2**n for n in range(50)]


@pytest.mark.parametrize("value", [threading.Lock(), (n for n in range(3))], ids=["a lock", "a generator"])
def test_an_argument_that_cannot_be_pickled_fails_at_submit(manager: PilotManager, value: Any) -> None:
    with pytest.raises(NotPicklable, match="an argument of print cannot be pickled"):
        manager.submit_task(print, value)


def test_a_result_that_does_not_unpickle_at_the_caller_says_so(manager: PilotManager) -> None:
    def work() -> Any:
        class Coward:
            def __setstate__(self, state: Any) -> None:
                raise OSError("not here")

            def __getstate__(self) -> Any:
                return {"a": 1}

        return Coward()

    task = manager.submit_task(work)
    for _ in range(2):
        with pytest.raises(NotPicklable, match=r"the result of task .* cannot be unpickled here.*not here") as caught:
            task.result(timeout=SOON)
        assert isinstance(caught.value.__cause__, OSError)


def test_a_function_cannot_take_its_manager_or_a_task_along(manager: PilotManager) -> None:
    task = manager.submit_task(pow, 2, 3)
    with pytest.raises(NotPicklable, match=r"PilotManager cannot|a PilotManager"):
        manager.submit_task(lambda: manager.submit_task(pow, 2, 3))
    with pytest.raises(NotPicklable, match="a Task can be pickled only as an argument of a task"):
        manager.submit_task(lambda: task)
    with pytest.raises(NotPicklable, match="an argument of print"):
        manager.submit_task(print, manager)


def test_the_task_of_another_manager_is_no_argument_and_no_dependency(manager: PilotManager) -> None:
    manager.submit_task(pow, 2, 3)
    with PilotManager() as other:
        other.submit_pilot({"cores_per_node": 1})
        foreign = other.submit_task(pow, 2, 3)
        assert foreign.id in manager.tasks  # a number that means something here too
        with pytest.raises(DescriptionError, match="another manager"):
            manager.submit_task(pow, foreign, 2)
        with pytest.raises(DescriptionError, match="another manager"):
            manager.submit_task(TaskDescription(function=pow, args=(2, 3), depends_on=foreign))
        assert foreign.result(timeout=SOON) == 8


def test_a_function_with_a_large_closure_is_sent_back(manager: PilotManager) -> None:
    data = bytes(80 << 20)
    with pytest.raises(NotPicklable, match="as an argument"):
        manager.submit_task(lambda: len(data))


# ---- large values -----------------------------------------------------------------------------------------------

GIB = 1 << 30


def test_a_gib_of_result_arrives_without_passing_through_the_managers_memory(manager: PilotManager) -> None:
    numpy = pytest.importorskip("numpy")
    me = psutil.Process()

    def work() -> Any:
        import numpy

        return numpy.full(GIB // 8, 7.0)

    before, began = me.memory_info(), time.monotonic()
    task = manager.submit_task(work)
    manager.wait_tasks([task], timeout=90)
    after = me.memory_info()
    assert after.rss - before.rss < 64 << 20
    array = task.result(timeout=0)
    mapped = me.memory_info()
    assert (mapped.rss - mapped.shared) - (before.rss - before.shared) < 64 << 20  # the file is mapped, not copied
    assert array.nbytes == GIB and array[0] == array[-1] == 7.0 and numpy.all(array[:: 1 << 12] == 7.0)
    assert time.monotonic() - began < 60  # measured: 2 s
    del array
    for file in (manager.session_dir / "spool").iterdir():
        file.unlink()  # the disk is shared


def test_a_gib_of_argument_arrives_and_its_file_is_removed_when_the_task_is_done(
    manager: PilotManager, eventually: Eventually
) -> None:
    numpy = pytest.importorskip("numpy")
    me = psutil.Process()
    array = numpy.full(GIB // 8, 7.0)

    def work(array: Any) -> tuple[int, float, bool]:
        return array.nbytes, float(array[-1]), array.flags.writeable

    before, began = me.memory_info().rss, time.monotonic()
    task = manager.submit_task(work, array)
    assert list((manager.session_dir / "spool").iterdir())
    assert task.result(timeout=90) == (GIB, 7.0, False)
    assert me.memory_info().rss - before < 64 << 20
    assert time.monotonic() - began < 60  # measured: 2 s
    eventually(lambda: not list((manager.session_dir / "spool").iterdir()))


def test_the_file_of_a_large_argument_goes_when_the_submit_fails(manager: PilotManager) -> None:
    with PilotManager() as other:
        other.submit_pilot({"cores_per_node": 1})
        foreign = other.submit_task(pow, 2, 3)
        with pytest.raises(DescriptionError):
            manager.submit_task(print, bytes(4 << 20), foreign)
    assert not list((manager.session_dir / "spool").iterdir())


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
    assert time.monotonic() - began < 60  # the timeout, and what the agent leaves the worker to obey, twice at most
    assert manager.get_results(tasks[:3] + tasks[4:]) == [n for n in range(30) if n != 3]


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
    nowhere = TaskDescription(executable=shell, working_directory=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        manager.submit_task(nowhere).result(timeout=SOON)
    pilot.cancel()


def test_a_pilot_whose_directory_does_not_exist_fails_and_says_so(manager: PilotManager, tmp_path: Path) -> None:
    wanted = {"name": "lost", "cores_per_node": 1, "restarts": 0, "working_directory": str(tmp_path / "nowhere")}
    pilot = manager.submit_pilot(wanted)
    with pytest.raises(PilotFailed, match="nowhere"):
        pilot.wait(SOON)
