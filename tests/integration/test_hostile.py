"""A manager and its agents in a hostile environment: foreign connections, full disks, Ctrl-C, clocks that jump, folders
that go."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from pilot_plugins.launchers.local import LocalLauncher

from pilot import PilotExecutor, PilotManager, TaskDescription
from pilot.errors import PilotError, PilotFailed, SessionError, TaskTimeout
from pilot.wire import messages
from pilot.wire.session import SessionFolder

Eventually = Callable[..., Any]

#: Seconds for what takes a moment; a test that gets here has found something that hangs.
SOON = 120.0


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    """It and its pilot's agent listen by TCP, as for other hosts."""
    with pytest.MonkeyPatch.context() as patch, PilotManager(tmp_path_factory.mktemp("session")) as manager:
        patch.setattr(LocalLauncher, "remote", True)
        manager.submit_pilot({"name": "home", "cores_per_node": 2}).wait(SOON)
        yield manager


@pytest.fixture(autouse=True)
def pilot_goes_on(manager: PilotManager) -> Iterator[None]:
    """After each test the manager and its pilot are as they were."""
    yield
    assert manager.get_results(manager.map(pow, [2] * 8, range(8))) == [2**n for n in range(8)]
    assert [pilot.state.value for pilot in manager.pilots] == ["active"]


# ---- foreign connections ----------------------------------------------------------------------------------------

#: In everything that foreign connections send: a process that reads it can be recognized.
MARKER = b"from a stranger"


def port_of_agent(manager: PilotManager) -> int:
    """Where the agent of its pilot listens for its workers."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            words = process.cmdline()
            if "pilot.agent" in words and str(manager.session_dir) in words:
                listening = (one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN)
                return next(one.laddr.port for one in listening)
    raise AssertionError("no agent")


@pytest.fixture(params=["manager", "agent"])
def port(request: pytest.FixtureRequest, manager: PilotManager) -> int:
    """Where a manager listens for agents, or an agent for workers."""
    if request.param == "agent":
        return port_of_agent(manager)
    return int(SessionFolder(manager.session_dir).read_connection().addresses[-1].rpartition(":")[2])


def plain_tcp(port: int, keys: tuple[bytes, bytes]) -> None:
    for data in (MARKER * 100, b"GET / HTTP/1.1\r\n\r\n" + MARKER, b"\xff" + bytes(9) + b"\x01" + MARKER, b"\0" * 4096):
        with socket.create_connection(("127.0.0.1", port)) as line, contextlib.suppress(ConnectionError, TimeoutError):
            line.settimeout(0.3)
            line.sendall(data)
            while line.recv(4096):
                pass


def zeromq(port: int, curve: Callable[[Any], None]) -> None:
    """A peer that speaks the protocol, with these keys or none."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        curve(peer)
        peer.setsockopt(zmq.IDENTITY, b"pilot-1/" + MARKER)
        monitor = peer.get_monitor_socket()
        peer.connect(f"tcp://127.0.0.1:{port}")
        for data in (MARKER, messages.encode(messages.Hello(MARKER.decode(), 1, "x", ("3.11", "0")))):
            peer.send_multipart([data, MARKER])
        over = False
        while not over:
            assert monitor.poll(10_000), "nobody answered"
            event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder)
            assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED
            over = event not in (zmq.EVENT_CONNECTED, zmq.EVENT_CONNECT_DELAYED)
        peer.disable_monitor()
        monitor.close()


def no_key(port: int, keys: tuple[bytes, bytes]) -> None:
    zeromq(port, lambda peer: None)


def other_key(port: int, keys: tuple[bytes, bytes]) -> None:
    """It knows the session's public key, and has a key pair of its own."""

    def curve(peer: Any) -> None:
        peer.curve_serverkey = keys[0]
        peer.curve_publickey, peer.curve_secretkey = zmq.curve_keypair()

    zeromq(port, curve)


def stranger_key(port: int, keys: tuple[bytes, bytes]) -> None:
    """It takes us for another session."""

    def curve(peer: Any) -> None:
        peer.curve_publickey, peer.curve_secretkey = zmq.curve_keypair()
        peer.curve_serverkey = zmq.curve_keypair()[0]

    zeromq(port, curve)


@pytest.mark.parametrize("attempt", [plain_tcp, no_key, other_key, stranger_key])
def test_a_stranger_is_dropped_and_logged_and_nothing_of_it_is_decoded(
    manager: PilotManager,
    port: int,
    attempt: Callable[[int, tuple[bytes, bytes]], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    eventually: Eventually,
) -> None:
    decoded = []
    decode = messages.decode
    monkeypatch.setattr(messages, "decode", lambda data: (decoded.append(bytes(data)), decode(data))[1])
    agent_log = manager.pilots[0].log_path
    before = agent_log.stat().st_size
    caplog.set_level(logging.WARNING)

    attempt(port, SessionFolder(manager.session_dir).read_connection().keys)

    def logged() -> str:
        return caplog.text + agent_log.read_text()[before:]

    eventually(lambda: "did not show the session's key" in logged() or "a stranger" in logged())
    assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8
    assert decoded and not [data for data in decoded if MARKER in data]
    assert "no message was dropped" not in logged() and "cannot be taken in" not in logged()


def test_the_keys_are_for_their_owner_only(manager: PilotManager) -> None:
    folder = SessionFolder(manager.session_dir)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.connection_path.stat().st_mode) == 0o600
    secret = folder.read_connection().secret_key
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            assert secret not in " ".join([*process.cmdline(), *process.environ().values()])


def test_garbage_from_a_peer_with_the_key_is_dropped(
    manager: PilotManager, port: int, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    agent_log = manager.pilots[0].log_path
    before = agent_log.stat().st_size
    keys = SessionFolder(manager.session_dir).read_connection().keys
    garbage: list[list[bytes]] = [
        [b""],
        [b"\xc1\xff\xfe garbage"],
        [bytes(range(256))],
        [messages.encode(["Outcomes"])],
        [messages.encode(["Outcomes", 1, 2])],
        [messages.encode({"a": 1})],
        [messages.encode(messages.OutcomesReport(1, "w", 1))],
        [messages.encode(messages.OutcomesReport(1, "w", 1)), b"\xc1"],
        [messages.encode(messages.UnfinishedTasks(1, "w", [99], "x", True))],
        [messages.encode(messages.Ack(1, 1))] * 50,
        [messages.encode(messages.Hello("\U0001f600", -1, "", ("", "")))],
    ]
    with zmq.Context() as context:
        for name in (b"nobody", b"pilot-1.77", b"pilot-1/somebody", b"\xff\xfe"):
            with context.socket(zmq.DEALER) as peer:
                peer.linger = 0
                peer.curve_serverkey = keys[0]
                peer.curve_publickey, peer.curve_secretkey = keys
                peer.setsockopt(zmq.IDENTITY, name)
                peer.connect(f"tcp://127.0.0.1:{port}")
                for frames in garbage:
                    peer.send_multipart(frames)

                def dropped(name: bytes = name) -> bool:
                    return f"dropped, from {name!r}" in caplog.text + agent_log.read_text()[before:]

                eventually(dropped)
    assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8


# ---- Ctrl-C and the end of a script -----------------------------------------------------------------------------

HEAD = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the shell ignores it for its background jobs
from pilot import PilotExecutor, PilotManager
"""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs a script in a process group of its own, with a temporary directory of its own."""
    temporary = Path(tempfile.mkdtemp(prefix="h"))  # short: it will hold sockets
    word = uuid.uuid4().hex
    started: list[subprocess.Popen[str]] = []

    def run(body: str) -> subprocess.Popen[str]:
        path = tmp_path / "script.py"
        path.write_text(HEAD + body)
        process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, "TMPDIR": str(temporary), "HOSTILE_TEST": word},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
    left = [one for one in psutil.process_iter() if carries(one, word)]
    files = [str(path) for path in temporary.iterdir()]
    for one in left:
        one.kill()
    shutil.rmtree(temporary)
    assert not left, f"left behind: {left}"
    assert not files, f"left behind: {files}"


def carries(process: psutil.Process, word: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("HOSTILE_TEST") == word and process.status() != psutil.STATUS_ZOMBIE
    return False


def until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(process.stderr.read())


def interrupted(process: subprocess.Popen[str]) -> str:
    """It ends soon, by KeyboardInterrupt; what it wrote."""
    began = time.monotonic()
    _, err = process.communicate(timeout=SOON)
    assert process.returncode == -signal.SIGINT, err
    assert "KeyboardInterrupt" in err and time.monotonic() - began < 60
    return err


def test_ctrl_c_while_a_thousand_tasks_run(script: Callable[[str], subprocess.Popen[str]]) -> None:
    process = script(
        """
with PilotManager() as manager:
    manager.submit_pilot({"cores_per_node": 2})
    manager.submit_task(pow, 2, 3).result()
    tasks = manager.map(time.sleep, [0.1] * 1000)
    tasks[2].result()
    print("ready", flush=True)
    manager.wait_tasks()
"""
    )
    until(process, "ready")
    os.killpg(process.pid, signal.SIGINT)
    interrupted(process)


def test_ctrl_c_while_a_pilot_starts(script: Callable[[str], subprocess.Popen[str]]) -> None:
    process = script(
        """
with PilotManager() as manager:
    pilot = manager.submit_pilot({"cores_per_node": 2})
    print("ready", flush=True)
    pilot.wait()
    time.sleep(60)
"""
    )
    until(process, "ready")
    os.killpg(process.pid, signal.SIGINT)
    interrupted(process)


def test_more_ctrl_c_while_the_manager_closes(script: Callable[[str], subprocess.Popen[str]]) -> None:
    process = script(
        """
from pilot.manager.jobs import PlaceholderJobs
close = PlaceholderJobs.close

def slow(self, timeout):
    if timeout:
        print("closing", flush=True)
        time.sleep(60)
    print("ending", flush=True)
    close(self, timeout)

PlaceholderJobs.close = slow
with PilotManager() as manager:
    manager.submit_pilot({"cores_per_node": 2})
    tasks = manager.map(time.sleep, [60] * 10)
    manager.submit_pilot({"cores_per_node": 1}).wait()
    print("ready", flush=True)
    manager.wait_tasks()
"""
    )
    until(process, "ready")
    os.killpg(process.pid, signal.SIGINT)
    until(process, "closing")
    for word in ("ending", None):  # and a third one
        os.killpg(process.pid, signal.SIGINT)
        if word:
            until(process, word)
    interrupted(process)


SIGNALLED = """
import multiprocessing, signal
signal.signal({own}, lambda *_: print("own handler", flush=True))
with PilotManager() as manager:
    manager.submit_pilot({{"cores_per_node": 2}})
    manager.submit_task(pow, 2, 3).result()
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()  # it ends as it would without a manager, also when it is told to while it starts
    os.kill(child.pid, {number})
    child.join()
    tasks = manager.map(time.sleep, [60] * 10)
    print("ready", child.exitcode, flush=True)
    while True:
        time.sleep(0.01)  # not in a call of the library's
"""


@pytest.mark.parametrize(("own", "number"), [("SIGHUP", signal.SIGTERM), ("SIGTERM", signal.SIGHUP)])
def test_a_signal_that_ends_a_script_ends_its_private_session(
    script: Callable[[str], subprocess.Popen[str]], own: str, number: int
) -> None:
    process = script(SIGNALLED.format(own=f"signal.{own}", number=number))
    until(process, f"ready {-number}")
    process.send_signal(getattr(signal, own))
    until(process, "own handler")
    process.send_signal(number)
    _, err = process.communicate(timeout=SOON)
    assert process.returncode == 128 + number, err
    assert err == "10 of 11 task(s) were cancelled when the manager was closed\n"


def test_a_script_ends_as_with_a_process_pool(script: Callable[[str], subprocess.Popen[str]], tmp_path: Path) -> None:
    """What its executors have under way is finished."""
    process = script(
        f"""
def write(name, seconds):
    time.sleep(seconds)
    open({str(tmp_path)!r} + name, "w").close()

manager = PilotManager()
manager.submit_pilot({{"cores_per_node": 2}})
executor = PilotExecutor(manager)
PilotExecutor(manager).submit(write, "/first", 0.5)
executor.submit(write, "/second", 0.5)
executor.shutdown(wait=False)
"""
    )
    _, err = process.communicate(timeout=SOON)
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second", "script.py"}
    assert (process.returncode, err) == (0, "")


def test_an_executor_that_is_shut_down_cancels_what_has_not_begun(
    manager: PilotManager, tmp_path: Path, eventually: Eventually
) -> None:
    def wait(number: int) -> int:
        while not (tmp_path / "gate").exists():
            time.sleep(0.005)
        return number

    executor = PilotExecutor(manager)
    first = [executor.submit(wait, number) for number in range(2)]
    eventually(lambda: all(task.running() for task in first), SOON)
    others = [executor.submit(wait, number) for number in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "gate").touch()
    executor.shutdown()
    assert [task.result() for task in first] == [0, 1]
    assert all(task.cancelled() for task in others)


@pytest.mark.parametrize("how", ["raises", "exits", "ends at once", "ends with tasks"])
def test_a_script_that_does_not_close_its_manager_leaves_nothing(
    script: Callable[[str], subprocess.Popen[str]], how: str
) -> None:
    last = {
        "raises": "PilotExecutor(manager).submit(time.sleep, 600)\nraise RuntimeError('as it happens')",
        "exits": "sys.exit(3)",
        "ends at once": "",
        "ends with tasks": "manager.map(time.sleep, [60] * 10)",
    }
    first = "" if how == "ends at once" else "print(manager.submit_task(pow, 2, 10).result())"
    process = script(f"manager = PilotManager()\nmanager.submit_pilot({{'cores_per_node': 2}})\n{first}\n{last[how]}\n")
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == {"raises": 1, "exits": 3}.get(how, 0)
    assert "Exception ignored" not in err and err.count("Error") == (how == "raises") * err.count("RuntimeError")
    assert out == ("" if how == "ends at once" else "1024\n")


# ---- disk, folder, clock ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a full disk is not tested here: there is no mount command")
    if done.returncode:
        pytest.skip(f"a full disk is not tested here: a tmpfs cannot be mounted ({done.stderr.strip()})")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    path = disk / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"x")
    return path


def test_a_full_disk_stops_no_task_and_the_journal_catches_up(
    small_disk: Path, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    def chat(n: int) -> int:
        print("x" * 1000)
        return n

    with PilotManager(small_disk / "session") as manager:
        manager.submit_pilot({"cores_per_node": 1}).wait(SOON)
        assert manager.submit_task(chat, 1).result(timeout=SOON) == 1
        filler = fill(small_disk)
        tasks = manager.map(pow, [2] * 2000, range(2000)) + manager.map(chat, range(100))
        assert manager.wait_tasks(tasks, SOON)[1] == []
        assert [task.result() for task in tasks[2000:]] == list(range(100))
        journal = str(small_disk / "session" / "journal.sqlite")
        eventually(lambda: f"the journal {journal} cannot be written" in caplog.text)
        with pytest.raises(SessionError, match=f"an argument of len .*cannot be written to {small_disk}.*No space"):
            manager.submit_task(len, bytes(4 << 20))
        large = [manager.submit_task(bytes, 4 << 20) for _ in range(2)]
        eventually(lambda: all(task.info.attempts for task in large), 60)
        words = f"waits until there is room for its result: the result .* cannot be written to {small_disk}.*No space"
        assert re.search(words, manager.explain(large[0]))
        cancelled = manager.submit_task(bytes, 4 << 20)
        eventually(lambda: cancelled.info.attempts, 60)
        assert cancelled.cancel()
        eventually(lambda: not list((small_disk / "session" / "spool").iterdir()), 60)
        lost = manager.submit_pilot({"cores_per_node": 1, "restarts": 1, "name": "lost"})
        with pytest.raises(PilotFailed, match=r"cannot be started: .*agent.json cannot be written: No space left"):
            lost.wait(SOON)
        filler.unlink()
        eventually(lambda: "can be written again" in caplog.text)
        assert [len(task.result(60)) for task in large] == [4 << 20] * 2
        assert {(len(task.info.attempts), task._entry.retries) for task in large} == {(1, 0)}
        assert caplog.text.count("task(s) wait for room") == 1
        assert manager.submit_task(len, bytes(4 << 20)).result(timeout=SOON) == 4 << 20
        count = len(manager.tasks)
    with contextlib.closing(sqlite3.connect(journal)) as db:
        assert db.execute("SELECT count(*) FROM results WHERE state = 'done'").fetchone()[0] == count - 1


def test_a_session_folder_that_is_removed_ends_clearly(
    tmp_path: Path, leftovers: Callable[[], list[psutil.Process]]
) -> None:
    manager = PilotManager(tmp_path / "session", wait_for_pilot=0)
    manager.submit_pilot({"cores_per_node": 1})  # a second worker might start when the folder is gone
    large = manager.submit_task(bytes, 4 << 20)
    manager.wait_tasks([large], SOON)
    shutil.rmtree(tmp_path / "session")
    with pytest.raises(SessionError, match=f"the result of task .* is gone with its file {tmp_path}"):
        large.result(timeout=SOON)
    with pytest.raises(SessionError, match=f"cannot be written to {tmp_path}.*No such file"):
        manager.submit_task(len, bytes(4 << 20))
    with pytest.raises(SessionError, match=f"cannot be written to {tmp_path}.*No such file"):
        manager.submit_task(bytes, 4 << 20).result(timeout=SOON)
    assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8  # what needs no folder goes on
    with pytest.raises(PilotError):  # a worker dies, and no other can start
        manager.submit_task(os.abort).result(timeout=SOON)
    began = time.monotonic()
    manager.close()
    assert time.monotonic() - began < 60
    assert not [process for process in leftovers() if str(tmp_path) in " ".join(process.cmdline())]


def test_a_folder_that_cannot_be_written_is_a_session_error(small_disk: Path, tmp_path: Path) -> None:
    PilotManager(small_disk / "session").close()
    (small_disk / "empty").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(SessionError, match=r"session cannot be written \(Read-only.*PilotManager.read opens it"):
        PilotManager.attach(small_disk / "session")
    for path in (small_disk / "empty", small_disk / "new"):
        with pytest.raises(SessionError, match=f"{small_disk}.*Read-only"):
            PilotManager(path)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SessionError, match=f"{path} cannot be used"):
            PilotManager(path)


def test_a_clock_that_goes_back_an_hour(manager: PilotManager, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = manager.map(time.sleep, [0.02] * 50)
    tasks[5].result(timeout=SOON)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600.0)
    short = manager.submit_task(TaskDescription(function=time.sleep, args=(0.3,), timeout=60))
    began = time.monotonic()
    late = manager.submit_task(TaskDescription(function=time.sleep, args=(600,), timeout=0.3))
    with pytest.raises(TaskTimeout):
        late.result(timeout=SOON)
    assert time.monotonic() - began > 0.3
    assert short.result(timeout=SOON) is None
    assert manager.wait_tasks(tasks, SOON)[1] == []
    long = manager.submit_task(time.sleep, 600)
    with pytest.raises(TimeoutError):
        long.result(timeout=0.1)
    assert long.cancel()
    for task in (*tasks, short, late):
        info = task.info
        assert info.seconds is not None and 0 <= info.seconds < 600
        assert info.started is not None and info.finished is not None and info.finished >= info.started


INTERRUPTED = """
import os, signal, sys, threading, time, traceback
from pilot import PilotManager

def interrupt():
    def where():
        frames = traceback.walk_stack(sys._current_frames()[threading.main_thread().ident])
        return [frame.f_code.co_name for frame, _ in frames]

    while not (where()[0] == "wait" and "wait_done" in where()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

with PilotManager(sys.argv[1]) as manager:
    manager.submit_pilot({"engine": "process", "cores_per_node": 1})
    task = manager.submit_task(time.sleep, 1000)
    threading.Thread(target=interrupt, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # another thread gets it
    try:
        eval(sys.argv[2])
    except KeyboardInterrupt:
        print("interrupted")
    manager.close()
"""


@pytest.mark.parametrize("call", ["task.result()", "task.exception()", "manager.wait_tasks()", "task.result(1000)"])
def test_ctrl_c_ends_a_wait_that_no_signal_wakes(call: str, tmp_path: Path) -> None:
    """As when it comes just before the main thread sleeps, on a busy machine."""
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "session"), call]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n", done.stderr
