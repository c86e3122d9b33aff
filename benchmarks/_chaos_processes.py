"""The processes of a schedule of `chaos.py`: which of them is what, and which are left at the end."""

from __future__ import annotations

import contextlib
import time

import _processes
import psutil

#: Seconds between two looks at all processes of the machine.
LOOK_SECONDS = 0.25
#: The node whose processes are stopped, of the private Slurm.
NODE = "c2"


def find(target: str) -> list[psutil.Process]:
    """The processes that there are of a kind, oldest first: "agent", "watcher" (which ends what an agent leaves),
    "worker", "fork_server", "raylet", "gcs_server"."""
    found = [(process, _kind(process)) for process in _processes.marked()]
    return sorted((process for process, kind in found if kind == target), key=_age)


def second_node() -> list[psutil.Process]:
    """The processes of the pilots on the second node of the private Slurm, where no agent is."""
    return [process for process in _processes.marked() if _variable(process, "SLURMD_NODENAME") == NODE]


def _variable(process: psutil.Process, name: str) -> str:
    try:
        return str(process.environ().get(name, ""))
    except psutil.Error:
        return ""


def _age(process: psutil.Process) -> tuple[float, int]:
    try:
        return process.create_time(), process.pid
    except psutil.Error:
        return 0.0, process.pid


def _kind(process: psutil.Process) -> str:
    try:
        name, words = process.name(), process.cmdline()
        parent = process.parent()
        above = parent.cmdline() if parent is not None else []
    except psutil.Error:
        return ""
    if name in ("raylet", "gcs_server"):
        return name
    if "pilot.agent" in words and name.startswith("python"):
        if "pilot.agent" in above and not above[0].endswith("srun"):
            return "watcher"
        return "agent" if _variable(process, "SLURM_PROCID") in ("", "0") else "node"
    line = " ".join(words)
    if line.startswith("ray::_Worker") or "distributed.cli.dask_worker" in words:
        return "worker"
    if "multiprocessing.forkserver" in line:
        return "worker" if "multiprocessing.forkserver" in " ".join(above) else "fork_server"
    return ""


class Watch:
    """Remembers all processes that a session has had, and their ports."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], str] = {}
        self._ports: set[tuple[int, int]] = set()
        self._next = 0.0

    def look(self, manager: int) -> None:
        """Take in the processes that there are now, from time to time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_SECONDS
        found = _processes.marked()
        with contextlib.suppress(psutil.Error):
            found += [psutil.Process(manager), *psutil.Process(manager).children(recursive=True)]
        for process in found:
            with contextlib.suppress(psutil.Error):
                key = (process.pid, process.create_time())
                if key not in self._seen:
                    self._seen[key] = " ".join(process.cmdline())[:120] or process.name()

    def left(self, seconds: float) -> list[str]:
        """Those that are alive after at most so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [f"{process.pid} {self._seen[process.pid, process.create_time()]}" for process in left]

    def left_ports(self) -> list[str]:
        """Ports on which one of them listens."""
        found = []
        for process in self._alive():
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections(kind="inet")
                found += [f"{one.laddr.port} of {process.pid}" for one in connections if one.status == "LISTEN"]
        return found

    def kill_left(self) -> None:
        """Kill what is left."""
        for process in [*self._alive(), *_processes.marked()]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _alive(self) -> list[psutil.Process]:
        found = []
        for pid, created in self._seen:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found
