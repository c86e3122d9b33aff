"""What a task starts, on every engine: it finds what it finds under a plain Python program, and ends with its worker.

The tasks run here as well, where the standard library is the judge.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotDescription, PilotManager, PilotState, Task, TaskDescription, TaskState
from pilot.errors import TaskTimeout

Eventually = Callable[..., Any]

PROGRAM = '''
import contextlib, functools, multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

class Point:
    def __init__(self, x):
        self.x = x

@functools.lru_cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def square(x):
    return x * x

def put(queue, point):
    queue.put(point.x)

def about():
    own = multiprocessing.current_process()
    return multiprocessing.get_start_method(), own.name, own.daemon, multiprocessing.parent_process()

def local_target():
    queue, seen = multiprocessing.Queue(), []
    def add(a, b):
        queue.put(a + b + len(seen))
    seen.append("set before the start")
    process = multiprocessing.Process(target=add, args=(1, 3))
    process.start()
    total = queue.get(timeout=60)
    process.join()
    return total, process.exitcode

def script_target():
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=put, args=(queue, Point(5)))
    process.start()
    return queue.get(timeout=60)

def pool(method):
    with multiprocessing.get_context(method).Pool(2) as workers:
        points = workers.map(Point, range(3))
        return workers.map(square, range(5)), [type(point) is Point for point in points], workers.map(fib, [5, 10])

def shared():
    with multiprocessing.Manager() as manager:
        values = manager.dict(a=1)
        process = multiprocessing.Process(target=lambda: values.update(b=2))
        process.start()
        process.join()
        return dict(values)

def executor():
    with ProcessPoolExecutor(2) as workers:
        return list(workers.map(square, range(5)))

def children_of_children():
    def outer():
        inner = multiprocessing.Process(target=sys.exit, args=(5,))
        inner.start()
        inner.join()
        sys.exit(inner.exitcode)
    process = multiprocessing.Process(target=outer)
    process.start()
    process.join()
    return process.exitcode

def terminate(times=5):
    codes = set()
    for _ in range(times):
        process = multiprocessing.Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join()
        codes.add(process.exitcode)
    return codes

def leave(how):
    pid = os.fork()
    if pid == 0:
        if how == "raise":
            raise LookupError("in the child")
        if how == "interrupt":
            raise KeyboardInterrupt
        if how != "return":
            sys.exit(how)
        return 7
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def dispositions():
    listed = subprocess.run(["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"], capture_output=True, text=True)
    own = os.path.join("/proc/self/task", str(threading.get_native_id()), "status")
    with open(own) as file:
        return listed.stdout.split(), [line.split() for line in file if line.startswith(("SigBlk", "SigIgn"))]

def interrupted_child():
    code = """if True:
        import time
        try:
            print("up", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            print("saved")"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        return process.communicate()[0]

def interrupt_oneself():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)
    except KeyboardInterrupt:
        return "KeyboardInterrupt"
'''

#: The task and its arguments.
CASES = [
    ("about",),
    ("local_target",),
    ("script_target",),
    ("pool", "fork"),
    ("pool", "spawn"),
    ("executor",),
    ("shared",),
    ("children_of_children",),
    ("terminate",),
    ("leave", 0),
    ("leave", 3),
    ("leave", None),
    ("leave", "a text"),
    ("leave", "raise"),
    ("dispositions",),
    ("interrupted_child",),
    ("interrupt_oneself",),
]

#: Starts children of every kind, writes down who they are, and waits for ever.
FAMILY = """
import multiprocessing, os, signal, subprocess, sys, time

def note(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")

def stay(path):
    note(path)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)

def parent(path):
    multiprocessing.Process(target=stay, args=(path,)).start()
    stay(path)

def daemon(path):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 256)
            stay(path)
        os._exit(0)
    os.wait()

def family(path):
    processes = [multiprocessing.Process(target=target, args=(path,)) for target in (stay, stay, parent)]
    for process in processes:
        process.start()
    daemon(path)
    subprocess.Popen(["sh", "-c", "echo $$ >> " + path + "; exec sleep 600"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "echo $$ >> " + path + "; sleep 600 & wait"])
    while len(open(path).read().split()) < 7:
        time.sleep(0.01)
    note(path)
    processes[0].join()
"""


def of_script(source: str, name: str) -> Callable[..., Any]:
    """A function of a user's script: it travels by value, with what it needs of the script."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(source, space)
    return space[name]  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=["process", "ray", "dask"])
def manager(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    """Its temporary folder has a path that is too long for sockets."""
    long = tmp_path_factory.mktemp("t" * 80)
    with pytest.MonkeyPatch.context() as patch, PilotManager(tmp_path_factory.mktemp(request.param)) as manager:
        patch.setenv("TMPDIR", str(long))
        patch.setattr(tempfile, "tempdir", None)
        pilot = manager.submit_pilot(PilotDescription(engine=request.param, cores_per_node=1))
        assert pilot.wait(timeout=60) is PilotState.ACTIVE
        yield manager
        short = run(manager, of_script("import os\ndef of():\n    return os.environ['PILOT_SOCKETS']", "of")).result(60)
        manager.close()
        assert not Path(short).exists()
        assert not list(long.iterdir())


def run(manager: PilotManager, function: Callable[..., Any], *args: Any, **fields: Any) -> Task:
    return manager.submit_task(TaskDescription(function=function, args=args, **fields))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a plain Python program prints, by case."""
    script = tmp_path_factory.mktemp("plain") / "script.py"
    lines = ["import signal", "if __name__ == '__main__':", "    signal.signal(2, signal.default_int_handler)"]
    lines += [f"    print(repr({case[0]}(*{case[1:]!r})), flush=True)" for case in CASES]
    script.write_text(PROGRAM + "\n" + "\n".join(lines) + "\n")
    environment = os.environ | {"TMPDIR": "/tmp"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    answers = done.stdout.splitlines()
    assert len(answers) == len(CASES), done.stdout + done.stderr
    return dict(zip(map(repr, CASES), answers, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_a_task_starts_what_a_plain_program_starts(
    manager: PilotManager, expected: dict[str, str], case: tuple[Any]
) -> None:
    if case[0] == "interrupt_oneself" and manager.pilots[0].description.engine == "dask":
        pytest.skip("tasks on Dask run beside the main thread, which gets the signals of the process")
    name, *args = case
    assert repr(run(manager, of_script(PROGRAM, name), *args, timeout=60).result(timeout=120)) == expected[repr(case)]


def test_a_long_temporary_folder(manager: PilotManager) -> None:
    """Temporary files stay there; sockets are elsewhere, and the agent says so."""
    folder = run(manager, tempfile.gettempdir).result(timeout=60)
    assert Path(folder).parent == Path(os.environ["TMPDIR"])
    assert f"the path {folder} is too long for sockets: they are in /" in manager.pilots[0].log_path.read_text()


def test_a_child_leaves_what_it_wrote_in_the_output(manager: PilotManager) -> None:
    task = run(manager, of_script(PROGRAM, "leave"), "raise", timeout=60)
    assert task.result(timeout=120) == 1
    assert "LookupError: in the child" in (task.info.stderr or "")
    assert run(manager, of_script(PROGRAM, "leave"), "interrupt", timeout=60).result(timeout=120) == -signal.SIGINT
    assert run(manager, of_script(PROGRAM, "leave"), "return", timeout=60).result(timeout=120) == 0


@pytest.mark.parametrize("how", ["cancel", "timeout", "death"])
def test_children_end_with_their_task_and_the_slot_is_free(
    manager: PilotManager, how: str, tmp_path: Path, eventually: Eventually
) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    task = run(manager, of_script(FAMILY, "family"), str(notes), timeout=1.5 if how == "timeout" else None)
    eventually(lambda: len(notes.read_text().split()) == 8 or task.done(), 60)
    family = those_there(notes)
    if how == "cancel":
        assert task.cancel()
    elif how == "death":
        family[-1].kill()
        eventually(lambda: len(notes.read_text().split()) == 16, 60)  # it runs again
        assert task.cancel()
        family = those_there(notes)
    else:
        with pytest.raises(TaskTimeout):
            task.result(timeout=60)
    assert run(manager, abs, -2).result(timeout=60) == 2
    eventually(lambda: not [one for one in family if is_there(one)], 60)
    assert task.state in (TaskState.CANCELLED, TaskState.FAILED)


def those_there(notes: Path) -> list[psutil.Process]:
    """The processes of the notes that have not ended yet."""
    found = []
    for pid in notes.read_text().split():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


def is_there(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_terminal_does_not_reach_workers(manager: PilotManager) -> None:
    """Ctrl-C is for the process group of the terminal's session."""
    session, group = run(
        manager, of_script("import os\ndef ids():\n    return os.getsid(0), os.getpgid(0)", "ids")
    ).result(timeout=60)
    assert session != os.getsid(0)
    assert group != os.getpgid(0)


def test_a_signal_between_tasks_harms_nothing(manager: PilotManager) -> None:
    if manager.pilots[0].description.engine == "dask":
        pytest.skip("a worker of Dask's ends at SIGINT")
    worker = run(manager, os.getpid).result(timeout=60)
    os.kill(worker, signal.SIGINT)
    assert run(manager, os.getpid).result(timeout=60) == worker


def test_a_module_that_workers_do_not_find_says_where_they_look(manager: PilotManager) -> None:
    task = run(manager, of_script("def find():\n    import no_such_module_anywhere", "find"))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere") as caught:
        task.result(timeout=60)
    assert any("extend sys.path or PYTHONPATH before that" in note for note in caught.value.__notes__)


def test_what_a_returned_task_leaves_ends_with_its_worker(
    manager: PilotManager, tmp_path: Path, eventually: Eventually
) -> None:
    """A worker of a shape that nobody wants any more ends, and does not wait for children or their locks."""
    source = """
import multiprocessing, os, time
def leave():
    global pool
    pool = multiprocessing.Pool(2)
    child = multiprocessing.Process(target=time.sleep, args=(600,))
    child.start()
    return [os.getpid(), child.pid, *pool.map(pid, range(4), 1)]
def pid(_):
    return os.getpid()
"""
    pids = run(manager, of_script(source, "leave"), num_cpus=0.5).result(timeout=60)
    family = [psutil.Process(pid) for pid in set(pids)]
    assert all(is_there(one) for one in family)
    assert run(manager, abs, -1, num_cpus=0.75).result(timeout=60) == 1
    eventually(lambda: not [one for one in family if is_there(one)], 60)
