"""Which processes a session runs, found from outside: the one place that distinguishes them.

Agents mark every process they start with the environment variable PILOT_AGENT; PILOT_BENCHMARK is this
script's own mark, so that other sessions on the machine are left alone. The worker is whichever process
runs the tasks: a task is asked for its pid. The engine's own process is known by its name.
"""

from __future__ import annotations

import os
import time

import psutil

os.environ.setdefault("PILOT_BENCHMARK", str(os.getpid()))


def marked() -> list[psutil.Process]:
    """The agents that this script has started, directly or through a child, and all their processes."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            ours = environment.get("PILOT_BENCHMARK") == os.environ["PILOT_BENCHMARK"]
            if ours and "PILOT_AGENT" in environment and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # another user's, or gone meanwhile
            continue
    return found


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Processor time of this process and these."""
    return time.process_time() + sum(sum(process.cpu_times()[:2]) for process in processes)


def agent() -> psutil.Process:
    """The first agent: marked, while its parent is not."""
    processes = marked()
    pids = {process.pid for process in processes}
    return next(process for process in processes if process.ppid() not in pids)


def engine(name: str, worker: int) -> psutil.Process:
    """The process that bears the engine: Ray's raylet, or the Dask worker in or below which tasks run."""
    if name == "ray":
        return next(process for process in marked() if process.name() == "raylet")
    return psutil.Process(worker)


def left_over(timeout: float) -> int:
    """How many processes are still there after at most `timeout` seconds."""
    end = time.monotonic() + timeout
    while (count := len(marked())) and time.monotonic() < end:
        time.sleep(0.05)
    return count
