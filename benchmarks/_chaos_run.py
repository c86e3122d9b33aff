"""Runs one schedule of `chaos.py`: starts its manager, does what is planned, and collects what happened."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _chaos_processes
import _chaos_tasks
import psutil
from _chaos_evidence import End, Evidence
from _chaos_plan import DISK, Fault, Schedule

#: The next deed is done after so many seconds without a task that begins.
STALL_SECONDS = 8.0
#: The file by which Python finds out where temporary files can be (``tempfile.gettempdir``), and what is in it. A
#: process that is killed meanwhile leaves it.
_PROBE_NAME, _PROBE = re.compile(r"[a-z0-9_]{8}"), (b"", b"blat")
#: Seconds that a manager has to open a session, and to end besides what its tasks take.
OPEN_SECONDS, CLOSE_SECONDS = 150.0, 300.0
#: Seconds that processes have to end after the session was closed.
LEFT_SECONDS = 10.0
#: Seconds that Slurm has to end jobs.
JOB_SECONDS = 40.0


def _is_probe(path: Path) -> bool:
    return path.is_file() and _PROBE_NAME.fullmatch(path.name) is not None and path.read_bytes() in _PROBE


class Run:
    """One schedule while it runs."""

    def __init__(self, schedule: Schedule, root: Path, cluster: Any, keep: Path | None) -> None:
        self.schedule = schedule
        self.evidence = Evidence(schedule)
        self._cluster = cluster
        self._keep = keep
        self._root = root
        self._disk = root / "d"
        self._notes = root / "notes"
        self._notes.touch()
        self._temporary = root / "t"
        self._temporary.mkdir()
        self._watch = _chaos_processes.Watch()
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._manager: subprocess.Popen[str]
        #: What is to be undone, and when.
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._committed: dict[int, End] = {}
        self._wanted = schedule.first
        self._began: set[int] = set()
        self._read = 0
        self._ended = False
        self._base = (0.0, 0)
        self._lives = 0

    def run(self) -> Evidence:
        """All of it; blocks."""
        began = time.monotonic()
        with _disk(self._disk), contextlib.ExitStack() as stack:
            stack.callback(self._end_all)
            if self._start(attach=False):
                self._wait_for(1, patience=OPEN_SECONDS)
                for fault in self.schedule.faults:
                    self._wait_for(fault.at)
                    if self._ended:
                        break
                    self._do(fault)
                self._finish()
            self._look_for_errors()
            self._keep_logs()
        self.evidence.notes = _chaos_tasks.read_notes(self._notes)
        self.evidence.seconds = time.monotonic() - began
        return self.evidence

    # ---- managers ---------------------------------------------------------------------------------------------

    def _start(self, attach: bool) -> bool:
        """Start a manager, and wait until it is ready; False: it is not, which is a violation."""
        was_full = self._is_full()  # it may end while the manager starts
        refused = self._started(attach)
        if refused is not None and was_full and "Traceback" not in refused:  # in a sentence, for want of room
            self._undo_all()
            refused = self._started(attach)
        if refused is not None:
            self.evidence.reports.append(("attach" if attach else "open", f"a manager was not ready: {refused}"))
        return refused is None

    def _started(self, attach: bool) -> str | None:
        """Start a manager; the end of its log when it is not ready in time."""
        self._lives += 1
        settings = {
            "session": str(self._disk / "session"),
            "notes": str(self._notes),
            "seed": self.schedule.seed,
            "engine": self.schedule.engine,
            "site": self.schedule.site,
            "first": self.schedule.first,
            "wanted": self._wanted,
            "pilots": self.schedule.pilots,
            "attach": attach,
        }
        path = self._root / f"life-{self._lives}.json"
        path.write_text(json.dumps(settings))
        with (self._root / f"life-{self._lives}.log").open("w") as log:
            self._manager = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("_chaos_manager.py")), str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "TMPDIR": str(self._temporary), "PYTHONFAULTHANDLER": "1"},
            )
        self._said = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(self._manager.stdout, self._said), daemon=True).start()
        ready = self._take_until("ready", OPEN_SECONDS)
        if ready is None:
            code = self._manager.poll()
            self._manager.kill()
            return f"{'it hangs' if code is None else f'it ended with code {code}'}: {self._log()}"
        if attach:
            self.evidence.attached.append((set(ready["known"]), _ends(ready["restored"]), dict(self._committed)))
        process = psutil.Process(self._manager.pid)
        self._base = (process.memory_info().rss / 2**20, process.num_threads())
        return None

    def _log(self) -> str:
        """The end of the present manager's log."""
        return (self._root / f"life-{self._lives}.log").read_text()[-800:]

    def _ask(self, deed: str, **facts: Any) -> None:
        assert self._manager.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._manager.stdin.write(json.dumps({"deed": deed, **facts}) + "\n")
            self._manager.stdin.flush()

    def _take_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while (said := self._said.get_nowait()) is not None:
                self._take(said)
            self._said.put(None)  # the manager has ended, as others want to know, too

    def _take_until(self, event: str, seconds: float) -> dict[str, Any] | None:
        """What the manager says of this event; None: it has ended before, or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._attend()
            try:
                said = self._said.get(timeout=0.1)
            except queue.Empty:
                continue
            if said is None:
                return None
            self._take(said)
            if said["event"] == event:
                return said
        return None

    def _take(self, said: dict[str, Any]) -> None:
        if said["event"] == "committed":
            self._committed |= _ends(said["ends"])
        elif said["event"] == "cancelled":
            self.evidence.cancelled |= set(said["numbers"])
        elif said["event"] == "violation":
            self.evidence.reports.append((said["invariant"], said["text"]))
        elif said["event"] == "deadlock":
            self.evidence.reports.append(("no_deadlock", f"{said['unfinished']} tasks never end: {said['why']}"))
        elif said["event"] == "end":
            self.evidence.ends = _ends(said["ends"])
            self.evidence.twice += said["twice"]
            self.evidence.close_s = max(self.evidence.close_s, said["close_s"])
            self.evidence.attempts = {int(number): attempts for number, attempts in said["attempts"].items()}
            if said["open_pilots"]:
                self.evidence.reports.append(("nothing_left", f"pilots are {said['open_pilots']} after the close"))

    # ---- deeds ------------------------------------------------------------------------------------------------

    def _wait_for(self, count: int, patience: float = STALL_SECONDS) -> None:
        """Until so many tasks have begun, or were cancelled, or nothing begins any more. More are submitted where there
        are too few."""
        if count > 0.9 * self._wanted and self._wanted < self.schedule.tasks:
            self._submit(count)
        last, moved = -1, time.monotonic()
        while (begun := self._begun()) < count and time.monotonic() - moved < patience:
            if begun != last:
                last, moved = begun, time.monotonic()
            self._attend()
            self._take_all()
            if self._manager.poll() is not None:
                self._ended = True
                return
            time.sleep(0.005)

    def _begun(self) -> int:
        with self._notes.open("rb") as file:
            file.seek(self._read)
            whole, _, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + bool(whole)
        self._began |= {int(line.split()[1]) for line in whole.splitlines() if line.startswith(b"b")}
        return len(self._began | self.evidence.cancelled)

    def _attend(self) -> None:
        """Undo what is over, and look at the manager."""
        now = time.monotonic()
        due = [undo for when, undo in self._later if when <= now]
        self._later = [(when, undo) for when, undo in self._later if when > now]
        for undo in due:
            undo()
        self._watch.look(self._manager.pid)
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._manager.pid)
            growth = process.memory_info().rss / 2**20 - self._base[0]
            if self._base[0]:
                self.evidence.memory_growth = max(self.evidence.memory_growth, growth)
                self.evidence.thread_growth = max(self.evidence.thread_growth, process.num_threads() - self._base[1])

    def _undo_all(self) -> None:
        later, self._later = self._later, []
        for _, undo in later:
            undo()

    def _do(self, fault: Fault) -> None:
        self._take_all()
        self.evidence.done.append((time.time(), fault))
        verb, target = fault.deed.split()
        if target == "disk":
            self._fill(fault.seconds)
        elif fault.deed == "submit tasks":
            self._submit(self._wanted + int(fault.pick * self.schedule.tasks / 4))
        elif fault.deed == "cancel tasks":
            self._ask(fault.deed, pick=fault.pick, count=1 + int(20 * fault.pick))
        elif target == "pilot":
            self._ask(fault.deed, pick=fault.pick)
        elif target == "node":
            self._stop(_chaos_processes.second_node(), fault.seconds)
        elif target == "slurmd":
            self._cluster.kill_slurmd("c2")
            self._later.append((time.monotonic() + fault.seconds, lambda: self._cluster.start_slurmd("c2")))
        elif target == "manager" and verb == "stop":
            self._stop([psutil.Process(self._manager.pid)], fault.seconds)
        elif target in ("manager", "all"):
            self._kill_manager(with_agents=target == "all", seconds=fault.seconds)
        elif found := _chaos_processes.find(target):
            victim = found[int(fault.pick * len(found))]
            if verb == "stop":
                self._stop([victim], fault.seconds)
            else:
                _kill([victim])

    def _submit(self, count: int) -> None:
        self._wanted = min(self.schedule.tasks, int(1.1 * count) + 1)
        self._ask("submit tasks", count=self._wanted)

    def _kill_manager(self, with_agents: bool, seconds: float) -> None:
        self._watch.look(self._manager.pid)
        agents = _chaos_processes.find("agent") if with_agents else []
        self._manager.kill()
        _kill(agents)
        self._manager.wait()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._begun()
            self._attend()
            time.sleep(0.01)
        self._take_all()
        self._ended = not self._start(attach=True)

    def _stop(self, victims: list[psutil.Process], seconds: float) -> None:
        stopped = []
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.suspend()
                stopped.append(victim)

        def resume() -> None:
            for victim in stopped:
                with contextlib.suppress(psutil.Error):
                    victim.resume()

        self._later.append((time.monotonic() + seconds, resume))

    def _fill(self, seconds: float) -> None:
        """The session's disk is full for a while."""
        filler = self._disk / "filler"
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(512))

        def empty() -> None:
            filler.unlink(missing_ok=True)

        self._later.append((time.monotonic() + seconds, empty))

    def _is_full(self) -> bool:
        return (self._disk / "filler").exists()

    # ---- the end ----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if not self._ended:
            if self.schedule.closes_early:
                self._undo_all()  # a close cannot write to a full disk
                self._ask("close")
            else:
                self._submit(self.schedule.tasks)
                self._ask("finish")
            self._await_end()
        self._undo_all()
        if self.schedule.reopens and self.evidence.ends:
            ends, attempts = self.evidence.ends, self.evidence.attempts
            self._wanted = len(ends)
            if self._start(attach=True):
                self._ask("close")
                self._await_end()
                self.evidence.reopened, self.evidence.ends = self.evidence.ends, ends
                self.evidence.attempts = attempts
        if self._cluster is not None and (jobs := self._left_jobs()):
            self.evidence.reports.append(("nothing_left", f"jobs: {jobs}"))
        self.evidence.processes = self._watch.left(LEFT_SECONDS)
        self.evidence.ports = self._watch.left_ports()
        self.evidence.files = sorted(path.name for path in self._temporary.iterdir() if not _is_probe(path))

    def _left_jobs(self) -> list[str]:
        """What Slurm still has after a while: it needs some seconds to end a job."""
        deadline = time.monotonic() + JOB_SECONDS
        jobs: list[str] = ["?"]
        while jobs and time.monotonic() < deadline:
            jobs = self._cluster.run("squeue", "-h", "-o", "%i %T").stdout.splitlines()
            time.sleep(0.2)
        return jobs

    def _await_end(self) -> None:
        if self._take_until("end", CLOSE_SECONDS) is None:
            code = self._manager.poll()
            what = "does not end" if code is None else f"ended with code {code}"
            self.evidence.reports.append(("no_deadlock", f"the manager {what}: {self._log()}"))
            if code is None:
                self._manager.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._manager.wait(5)

    def _look_for_errors(self) -> None:
        for path in (self._disk / "session").glob("events-*.msgpack"):
            self.evidence.reports.append(("no_internal_error", f"the manager wrote {path.name} after an error"))

    def _keep_logs(self) -> None:
        if self._keep is None:
            return
        for path in [*self._root.glob("life-*"), *self._disk.glob("session/pilots/*/*.log"), self._notes]:
            name = f"{self.schedule.engine}-{self.schedule.seed}-{path.parent.name}-{path.name}"
            self._keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, self._keep / name)
        name = f"{self.schedule.engine}-{self.schedule.seed}-attempts.json"
        (self._keep / name).write_text(json.dumps(self.evidence.attempts, indent=1))

    def _end_all(self) -> None:
        """Whatever happened, nothing of this schedule goes on."""
        self._undo_all()
        self._manager.kill()
        self._manager.wait()
        for stream in (self._manager.stdin, self._manager.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._watch.kill_left()


def run(schedule: Schedule, cluster: Any = None, keep: Path | None = None) -> Evidence:
    """Run a schedule in a folder of its own. Blocks.

    Args:
        schedule: of a seed.
        cluster: the private Slurm, where the schedule is for one.
        keep: a folder for the logs of the managers and pilots.
    """
    os.environ["PILOT_BENCHMARK"] = f"chaos {os.getpid()} {schedule.seed}"
    with tempfile.TemporaryDirectory(prefix="qc", dir="/tmp") as folder:
        return Run(schedule, Path(folder), cluster, keep).run()


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A small disk of its own for the session: a tmpfs as root, else a folder that is never full."""
    folder.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        if mounted:
            subprocess.call(["umount", "--lazy", str(folder)])


def _listen(stream: Any, said: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            with contextlib.suppress(json.JSONDecodeError):  # the manager was killed while it wrote
                said.put(json.loads(line))
    said.put(None)


def _ends(given: dict[str, Any]) -> dict[int, End]:
    return {int(number): (end[0], end[1]) for number, end in given.items()}


def _kill(victims: list[psutil.Process]) -> None:
    for victim in victims:
        with contextlib.suppress(psutil.Error):
            victim.kill()
