"""SIGKILL in the middle of 2,000 tasks: a worker, the engine's process, the agent, the manager.

Each row is a session of its own. No task has a retry, so one that was charged for a lost attempt would
fail. A task is whole when it ended with its own result, once; lost attempts are those that were made again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bench
import _processes

SECONDS = 0.005


def work(number: int) -> int:
    time.sleep(SECONDS)
    return number


def pid() -> int:
    return os.getpid()


def begin(manager: Any, engine: str, tasks: int) -> list[Any]:
    """A pilot, its tasks, and the moment when a tenth of them is done."""
    from pilot import PilotDescription

    manager.submit_pilot(PilotDescription(resource="local://", engine=engine, cores_per_node=_bench.WORKERS)).wait()
    submitted = [manager.submit_task(work, number) for number in range(tasks)]
    submitted[tasks // 10].result()
    return submitted


def kill_below(victim: str, engine: str, tasks: int, folder: str) -> dict[str, Any]:
    """Kills a process below the manager, which has to make good what was lost."""
    from pilot import PilotManager, TaskDescription

    with PilotManager(folder) as manager:
        submitted = begin(manager, engine, tasks)
        if victim == "agent":
            process = _processes.agent()
        else:
            worker = manager.submit_task(TaskDescription(function=pid, priority=1)).result()
            process = _processes.psutil.Process(worker)
            if victim == "engine":
                process = _processes.engine(engine, worker)
        what = process.name()
        killed = time.time()
        process.kill()
        row = outcome(submitted)
        lost = [attempt.ended for task in submitted for attempt in task.info.attempts]
        noticed = min(lost) - killed if lost else float("nan")
    return {"killed": f"{engine}: {victim} ({what})", "noticed s": noticed, **row}


def kill_manager(engine: str, tasks: int, folder: str) -> dict[str, Any]:
    """Kills the manager, which is a child here, and attaches to its session; noticed: until attached."""
    with attached_after_kill(__file__, engine, tasks, folder) as (manager, noticed, _):
        row = outcome(list(manager.tasks.values()))
    return {"killed": f"{engine}: manager", "noticed s": noticed, **row}


@contextlib.contextmanager
def attached_after_kill(script: str, engine: str, tasks: int, folder: str) -> Iterator[tuple[Any, float, float]]:
    """Kills the manager that the script's ``--child`` is, when a tenth of its tasks is done, and attaches.

    Yields:
        The new manager, the seconds until it was there, and when the old one was killed (seconds since 1970).
    """
    from pilot import PilotManager

    command = [sys.executable, script, "--child", engine, str(tasks), folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        if child.stdout is None or not child.stdout.readline():  # it says when a tenth is done
            raise RuntimeError(f"the manager that was to be killed ended by itself: {' '.join(command)}")
        child.send_signal(signal.SIGKILL)
    killed = time.time()
    with PilotManager.attach(folder) as manager:
        yield manager, time.time() - killed, killed


def outcome(tasks: list[Any]) -> dict[str, Any]:
    """What became of the tasks, when all are over."""
    began = time.perf_counter()
    failed, values = 0, []
    for task in tasks:
        try:
            values.append(task.result(timeout=120))
        except Exception as error:
            sys.stderr.write(f"  {task.id}: {error!r}\n")
            failed += 1
    return {
        "done after s": time.perf_counter() - began,
        "tasks": len(tasks),
        "whole": len(set(values)),
        "failed": failed,
        "lost attempts": sum(len(task.info.attempts) for task in tasks),
    }


def child(engine: str, tasks: str, folder: str) -> None:
    """The manager that is to be killed."""
    from pilot import PilotManager

    manager = PilotManager(folder)
    begin(manager, engine, int(tasks))
    print("under way", flush=True)
    time.sleep(600)


def main() -> None:
    victims = ["worker", "engine", "agent", "manager"]
    parser = _bench.arguments(__doc__, repeat=1)
    parser.add_argument("--victim", nargs="+", choices=victims, default=victims)
    parser.add_argument("--tasks", type=int, default=2000)
    options = parser.parse_args()

    rows = []
    for engine in options.engine:
        for victim in options.victim * options.repeat:
            if engine == "process" and victim == "engine":
                continue  # it has no process besides the workers
            sys.stderr.write(f"  killing {engine}: {victim}\n")
            with tempfile.TemporaryDirectory(prefix="pilot-bench-") as root:
                settings = (engine, options.tasks, str(Path(root, "session")))
                row = kill_manager(*settings) if victim == "manager" else kill_below(victim, *settings)
                rows.append({**row, "left over": _processes.left_over(timeout=5)})
    _bench.show(f"kill -9 among {options.tasks:,} tasks of {1000 * SECONDS:g} ms", rows, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
