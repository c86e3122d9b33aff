"""`pilot sessions` with real sessions: running ones, those of managers that were killed, of an earlier version, and
folders that hold none; names, and how long they are kept."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from pilot import PilotDescription, PilotManager, TaskDescription
from pilot.cli.main import main
from pilot.errors import DescriptionError, PilotFailed, SessionError
from pilot.manager.summary import Summary, summary

pytestmark = pytest.mark.timeout(180)

DATA = Path(__file__).resolve().parents[1] / "data"
#: A manager that is killed when some tasks have ended and others have not.
KILLED = """
import math, os, sys, time
from pilot import PilotDescription, PilotManager, TaskDescription

manager = PilotManager(sys.argv[1], name=sys.argv[4] or None)
manager.submit_pilot(PilotDescription(cores_per_node=1, name="small", orphan_timeout=float(sys.argv[2]))).wait()
tasks = manager.map(math.sqrt, [4, 9])
tasks.append(manager.submit_task(math.sqrt, -1))
manager.wait_tasks(tasks)
manager.submit_task(time.sleep, float(sys.argv[3]))
manager.submit_task(math.factorial, 5)
time.sleep(0.5)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def nothing_is_left(leftovers: Callable[[], list[psutil.Process]], eventually: Callable[..., Any]) -> Iterator[None]:
    yield
    eventually(lambda: not leftovers(), 60)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Pilot = Callable[..., Done]


@pytest.fixture
def pilot(capsys: pytest.CaptureFixture[str]) -> Pilot:
    """``pilot sessions WORDS``, in this process."""

    def run(*words: str | Path) -> Done:
        code = main(["sessions", *map(str, words)])
        return Done(code, *capsys.readouterr())

    return run


def killed(folder: Path, *, orphan: float = 60.0, seconds: float = 1.0, name: str = "") -> Path:
    """The session of a manager that is gone; its agent waits ``orphan`` seconds, its tasks take ``seconds``."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(orphan), str(seconds), name])
    assert done.returncode == -signal.SIGKILL
    return folder


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session of a manager that was killed; its agent has ended, or does soon."""
    return killed(tmp_path_factory.mktemp("made") / "gone", orphan=0.5)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The session of a manager of version 0 that was killed, see ``tests/data/make_session.py``."""
    folder = tmp_path / "earlier"
    with zipfile.ZipFile(DATA / "session_schema_0.zip") as file:
        file.extractall(folder)
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:  # the one that it was made in may still be there
        db.execute("UPDATE session SET value = ? WHERE key = 'path'", (str(tmp_path / "before"),))
        db.commit()
    return folder


def sessions_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/journal.sqlite"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- ls and show ----------------------------------------------------------------------------------------------------


def test_running_and_killed_sessions_are_listed(
    tmp_path: Path, gone: Path, earlier: Path, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(gone.parent))
    with PilotManager(tmp_path / "elsewhere/running") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1)).wait()
        manager.submit_task(pow, 2, 3).result()
        manager.flush()
        (gone.parent / "empty").mkdir()
        words = ("ls", manager.session_dir, earlier, tmp_path / "elsewhere")
        shown = pilot(*words, "--json")
        table = pilot(*words)
    assert (shown.returncode, table.returncode, shown.stderr + table.stderr) == (0, 0, "")
    first, second, third = json.loads(shown.stdout)["sessions"]
    assert [first["path"], second["path"], third["path"]] == [str(gone), str(manager.session_dir), str(earlier)]
    assert [one["in_use"] for one in (first, second, third)] == [False, True, False]
    assert (first["schema"], third["schema"]) == (1, 0)
    assert first["tasks"] == {"unfinished": 2, "done": 2, "failed": 1}
    assert second["tasks"] == {"done": 1}
    assert third["tasks"] == {"unfinished": 5, "done": 4, "failed": 3, "cancelled": 1}
    for text in (str(gone), "2 unfinished, 2 done, 1 failed", "1 active", "runs", "gone"):
        assert text in table.stdout


def test_a_session_is_shown_without_changing_it(gone: Path, earlier: Path, pilot: Pilot, tmp_path: Path) -> None:
    for folder in (gone, earlier):
        before = files(folder)
        done = pilot("show", folder)
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(pilot("show", folder, "--json").stdout)
        if folder == gone:
            assert pilot("show", folder, "--plot", tmp_path / "it.pdf").returncode == 0
            assert (tmp_path / "it.pdf").read_bytes().startswith(b"%PDF")
            assert ".pdf, .png, .svg" in pilot("show", folder, "--plot", tmp_path / "it.gif").stderr
        assert found["path"] == str(folder)
        assert {name: data for name, data in files(folder).items() if not name.endswith("-shm")} == {
            name: data for name, data in before.items() if not name.endswith("-shm")
        }
    assert f"{earlier}: its manager is gone" in done.stdout
    assert f"`pilot sessions migrate {earlier}` prepares it" in done.stdout
    assert "tasks: 5 unfinished, 4 done, 3 failed, 1 cancelled" in done.stdout
    assert "spool: 1 files, 2.0 MiB" in done.stdout
    assert "pilot one: local:// process active" in done.stdout
    assert "task 3 (truediv) failed: ZeroDivisionError: division by zero" in done.stdout
    assert "task 5 (abs) failed: DependencyFailed: it depends on task 3 (truediv), which failed" in done.stdout
    assert "task 6 (sleep) failed: it ran longer than its timeout" in done.stdout


def test_errors_of_the_manager_are_shown_while_it_runs(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "session", wait_for_pilot=0) as manager:
        one = manager.submit_pilot(PilotDescription(cores_per_node=1))
        one.wait()
        failed = manager.submit_task(TaskDescription(executable=["false"], name="unlucky"))
        failed.exception()
        one.cancel()
        manager.flush()
        found: Summary = summary(manager.session_dir)
        assert (found.in_use, found.tasks) == (True, {"failed": 1})
        assert [(pilot.id, pilot.state) for pilot in found.pilots] == [("pilot-1", "cancelled")]
        assert [(one.task, one.name) for one in found.errors] == [(1, "unlucky")]
        assert found.errors[0].error.startswith("ExecutableFailed: ")


def test_files_that_are_removed_meanwhile_do_not_count(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "session") as manager:
        manager.put(bytes(1000))
        (manager.session_dir / "spool" / "removed.result").symlink_to("nowhere")
        found = summary(manager.session_dir)
        assert (found.spool_files, found.spool_bytes) == (1, 1000)


# ---- attach and migrate ---------------------------------------------------------------------------------------------


def test_a_session_is_taken_over_until_its_tasks_have_ended(tmp_path: Path, pilot: Pilot) -> None:
    folder = killed(tmp_path / "session", seconds=3.0)
    done = pilot("attach", folder, "--pilot", "process:1")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{folder}: 4 done, 1 failed\ntask 3 (sqrt) failed: ValueError: ")
    assert summary(folder).tasks == {"done": 4, "failed": 1}
    first, second = summary(folder).pilots
    assert (first.name, first.state, second.name, second.state) == ("small", "done", "pilot-2", "done")
    with closing(PilotManager.attach(folder)) as manager:
        assert [one.state.value for one in manager.pilots] == ["done", "done"]


def test_ctrl_c_ends_the_session_in_order(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    folder = killed(tmp_path / "session", seconds=600.0)
    command = [sys.executable, "-m", "pilot.cli", "sessions", "attach", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: summary(folder).in_use, 60)
    eventually(lambda: summary(folder).pilots[0].state == "active", 60)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown.startswith(f"{folder}: 2 done, 1 failed\n")
    assert errors.endswith("pilot: stopped\n")
    assert summary(folder).tasks == {"done": 2, "failed": 1, "cancelled": 2}


def test_a_session_of_an_earlier_version_is_migrated_and_attached(earlier: Path, pilot: Pilot) -> None:
    refused = pilot("attach", earlier)
    assert refused.returncode == 1
    assert f"was made by an earlier version of quantum-pilot: `pilot sessions migrate {earlier}` prepares" in (
        refused.stderr
    )
    journal = (earlier / "journal.sqlite").read_bytes()
    done = pilot("migrate", earlier)
    copy = earlier / "journal.before-migration.sqlite"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{earlier} can be attached now; the journal as it was is in {copy}\n"
    (earlier / "before.sqlite").write_bytes(journal)
    with closing(sqlite3.connect(copy)) as kept, closing(sqlite3.connect(earlier / "before.sqlite")) as before:
        assert list(kept.iterdump()) == list(before.iterdump())
    again = pilot("migrate", earlier)
    assert (again.returncode, again.stdout) == (0, f"{earlier}: nothing to do, this version has made it\n")
    assert summary(earlier).tasks == {"unfinished": 5, "done": 4, "failed": 3, "cancelled": 1}

    ended = pilot("attach", earlier)
    assert ended.returncode == 1
    assert f"{earlier}: 9 done, 3 failed, 1 cancelled\n" in ended.stdout
    manager = PilotManager.attach(earlier)
    with closing(manager):
        tasks = manager.tasks
        assert tasks[1].result() == 2432902008176640000
        assert tasks[2].result() == b"x" * (2 << 20)
        assert isinstance(tasks[3].exception(), ZeroDivisionError)
        assert tasks[4].result().stdout == "hello\n"
        assert tasks[5].exception().__cause__.args == tasks[3].exception().args
        assert tasks[9].cancelled()
        assert (tasks[8].result(), tasks[10].result(), tasks[11].result()) == (None, 5.0, 2432902008176640001)
        assert tasks[12].result().stdout == "again\n"
        assert tasks[7].result().get_counts() == tasks[13].result().get_counts()
        assert manager.pilots[0].description.walltime == 3600.0


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_a_session_in_use_is_not_taken_over_or_migrated(tmp_path: Path, pilot: Pilot) -> None:
    with PilotManager(tmp_path / "session"):
        for command in ("attach", "migrate"):
            done = pilot(command, tmp_path / "session")
            assert done.returncode == 1
            assert done.stderr == f"pilot: another manager uses the session {tmp_path / 'session'}\n"


def damaged(folder: Path, kind: str) -> None:
    """Something that is no session of this version."""
    journal = folder / "journal.sqlite"
    if kind == "empty":
        folder.mkdir()
        return
    PilotManager(folder).close()
    if kind == "newer":
        with closing(sqlite3.connect(journal)) as db:
            db.execute("UPDATE session SET value = '99' WHERE key = 'schema'")
            db.commit()
    elif kind == "damaged":
        journal.write_bytes(b"SQLite format 3\0" + bytes(5000))
    elif kind == "truncated":
        journal.write_bytes(journal.read_bytes()[:6000])
    elif kind == "foreign":
        journal.unlink()
        with closing(sqlite3.connect(journal)) as db:
            db.execute("CREATE TABLE songs (name TEXT)")


@pytest.mark.parametrize("kind", ["empty", "missing", "newer", "damaged", "truncated", "foreign"])
def test_what_is_no_session_is_refused_in_one_sentence(
    tmp_path: Path, kind: str, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(tmp_path / "none"))  # others may be making sessions just now
    folder = tmp_path / "folder"
    if kind != "missing":
        damaged(folder, kind)
    before = files(tmp_path)
    expected = {"empty": "holds no session", "missing": "holds no session", "newer": "by a later version"}
    for command in ("show", "attach", "migrate", "ls"):
        done = pilot(command, folder)
        assert (done.returncode, done.stdout if command != "ls" else "") == (1, ""), command
        assert done.stderr.count("\n") == 1, done.stderr
        assert command == "ls" or expected.get(kind, "journal") in done.stderr
        assert str(folder) in done.stderr
    after = {name: data for name, data in files(tmp_path).items() if Path(name).name not in ("lock",)}
    assert after == {name: data for name, data in before.items() if Path(name).name not in ("lock",)}


def test_a_task_that_runs_is_known_to_run_after_an_attach(tmp_path: Path, eventually: Callable[..., object]) -> None:
    folder = killed(tmp_path / "s", seconds=600)
    with closing(PilotManager.attach(folder)) as manager:
        eventually(lambda: any(task.running() for task in manager.tasks.values()), 60)
        manager.pilots[0].cancel()  # the attempt is lost
        running = next(task for task in manager.tasks.values() if task.running() or task.info.attempts)
        eventually(lambda: running.info.attempts, 60)
        assert running.info.attempts[0].started is not None


def test_logs_stop_and_clean(tmp_path: Path, pilot: Pilot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(tmp_path / "none"))
    folder = killed(tmp_path / "s", seconds=600)
    (folder / "pilots/pilot-1/worker.log").write_text("first\nlast\n")
    (folder / "pilots/pilot-1/array-1.log").symlink_to(
        "../pilot-2/agent.log"
    )  # of a pilot in the same array that waits
    assert pilot("logs", folder, "-n", "1").stdout.splitlines()[-1] == "last"
    assert pilot("logs", folder, "-n", "0").stderr.endswith(
        "--lines: 0 is not valid; expected a whole number of at least 1\n"
    )
    assert pilot("logs", folder, "--pilot", "large") == Done(
        2, "", "pilot: sessions logs: there is no pilot 'large'; pilots: small\n"
    )
    kept = pilot("clean", tmp_path, "--older", "0m")
    assert f"kept: {folder}: pilot small may still run: pilot sessions stop {folder}" in kept.stdout
    stopped = pilot("stop", folder)
    assert (stopped.returncode, stopped.stdout) == (0, f"{folder}: 1 pilot(s) ended\n")
    assert f"kept: {folder}: written " in pilot("clean", tmp_path).stdout
    assert f"would remove: {folder}" in pilot("clean", tmp_path, "--older", "0m", "--dry-run").stdout
    assert folder.exists()
    assert f"removed: {folder}" in pilot("clean", tmp_path, "--older", "0m").stdout and not folder.exists()
    assert pilot("clean", "--older", "a week").returncode == 2
    with PilotManager(tmp_path / "used") as manager:
        assert "a manager has it" in pilot("clean", tmp_path, "--older", "0m").stdout
        refused = pilot("stop", manager.session_dir)
        assert (refused.returncode, "end that program" in refused.stderr) == (1, True)


# ---- names, and how long sessions stay ------------------------------------------------------------------------------


def test_a_session_is_known_by_its_name(tmp_path: Path, pilot: Pilot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(tmp_path / "sessions"))
    folder = killed(tmp_path / "elsewhere", orphan=0.5, name="lab")
    (folder / "pilots/pilot-1/worker.log").write_text("a line of its log\n")
    row = pilot("ls").stdout
    assert "lab" in row and str(folder) in row
    assert json.loads(pilot("ls", "--json").stdout)["sessions"][0]["name"] == "lab"
    assert pilot("show", "lab").stdout.startswith(f"lab ({folder}): its manager is gone")
    assert "a line of its log" in pilot("logs", "lab").stdout
    assert pilot("migrate", "lab").returncode == 0
    assert "4 done, 1 failed" in pilot("attach", "lab").stdout
    assert pilot("stop", "lab").stdout == f"{folder}: 0 pilot(s) ended\n"
    assert main(["doctor", "--session", "lab"]) == 0
    with PilotManager.read("lab") as session, PilotManager.attach("lab") as manager:
        assert session.session_dir == manager.session_dir == folder
    with pytest.raises(SessionError, match=r"no session named 'labb'.*did you mean 'lab'"):
        PilotManager.attach("labb")
    assert pilot("show", "labb").stderr == (
        f"pilot: there is no session named 'labb' and no folder {Path('labb').absolute()}; "
        "names: lab (did you mean 'lab'?)\n"
    )
    assert f"removed: {folder}" in pilot("clean", "lab", "--older", "0m").stdout and not folder.exists()
    assert "no sessions" in pilot("ls").stdout


def test_one_session_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(tmp_path))
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: PilotManager(name="lab"), range(8)))
    assert len({id(one) for one in opened}) == len(sessions_in(tmp_path)) == 1
    other = [sys.executable, "-c", "from pilot import PilotManager; PilotManager(name='lab').close()"]
    refused = subprocess.run(other, capture_output=True, text=True)
    assert refused.stderr.endswith(
        f"the session {opened[0].session_dir} is named 'lab' and in use: close() its manager, or give another name\n"
    )
    opened[0].close()
    assert subprocess.run(other).returncode == 0
    assert sessions_in(tmp_path) == [] and list((tmp_path / f"names-{os.geteuid()}").glob("*.session")) == []
    for wrong in ("", "a/b", ".hidden", "-x", 5):
        with pytest.raises(DescriptionError, match=r"name: .* is not valid; expected 1 to 100 letters"):
            PilotManager(name=wrong)  # type: ignore[arg-type]


def test_processes_that_take_a_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has the name, that of a session that is gone; the others are told who has it."""
    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(tmp_path))
    program = (
        "import sys\nfrom pilot import PilotManager\nfrom pilot.errors import SessionError\ninput()\n"
        "try: manager = PilotManager(sys.argv[1], name='lab')\nexcept SessionError: print('taken', flush=True)\n"
        "else: print('open', flush=True)\ninput()\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / str(number))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    PilotManager(tmp_path / "before", name="lab").close()
    answers = []
    for one in started:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in started:
        assert one.stdout is not None
        answers.append(one.stdout.readline().strip())
    for one in started:
        one.communicate("\n")
    assert sorted(answers) == ["open", "taken", "taken", "taken"]


def test_failed_private_sessions_are_kept_for_a_time(
    tmp_path: Path, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(tmp_path))
    with PilotManager(wait_for_pilot=0, name="unlucky") as manager, pytest.raises(PilotFailed):
        manager.submit_pilot(PilotDescription(cores_per_node=1, scratch="/dev/null/no")).wait(60)
    kept = manager.session_dir
    users = tmp_path / "campaign"
    PilotManager(users).close()
    for folder in (kept, users):
        for path in (folder, *folder.iterdir()):
            os.utime(path, (time.time() - 8 * 86400,) * 2)

    assert "unlucky" in pilot("ls").stdout
    monkeypatch.setenv("QUANTUM_PILOT_KEEP_SESSIONS", "2w")
    assert f"kept: {kept}: written 8 days" in pilot("clean").stdout
    PilotManager().close()
    assert kept.is_dir()
    monkeypatch.delenv("QUANTUM_PILOT_KEEP_SESSIONS")
    with PilotManager.attach(kept):
        PilotManager().close()
        assert kept.is_dir()
    PilotManager().close()
    assert kept.is_dir()  # it was written just now
    for path in (kept, *kept.iterdir()):
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    PilotManager().close()
    assert sessions_in(tmp_path) == [users]  # what has a folder of the user's own stays
    assert "unlucky" not in pilot("ls").stdout
    monkeypatch.setenv("QUANTUM_PILOT_KEEP_SESSIONS", "a week")
    with pytest.raises(DescriptionError, match="QUANTUM_PILOT_KEEP_SESSIONS: 'a week' is not valid; expected a number"):
        PilotManager()


def test_results_of_a_private_session_that_is_gone_are_told_in_words() -> None:
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        manager.submit_task(pow, 2, 3).result()
        with pytest.raises(TypeError, match=r"inside the task, call pilot.current_manager\(\)"):
            pickle.dumps(manager)
    with pytest.raises(SessionError, match=r"is removed by close\(\): ask for results before, or keep the task"):
        manager.tasks[1].result()
