"""Late binding over two unequal pilots: how near does the makespan come to the lower bound?

One pilot has one slot; one with two slots is submitted five seconds after the tasks. The bound is the
longest task, or the moment at which the slots that were there, each counted from when its pilot became
active, have had time for all the work.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time

import _bench


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def lower_bound(lengths: list[float], slots: list[tuple[float, int]]) -> float:
    """Seconds that the tasks need at least.

    Args:
        lengths: each task's length in seconds.
        slots: for each pilot, seconds from the start at which it became active, and its slots.
    """
    work, now, width = sum(lengths), 0.0, 0
    for joined, more in sorted(slots):
        done = width * (joined - now)
        if done >= work:
            break
        work, now, width = work - done, joined, width + more
    return max(max(lengths), now + work / width)


def measure(engine: str, lengths: list[float], late: float) -> _bench.Figures:
    from pilot import PilotDescription, PilotManager

    def describe(slots: int) -> PilotDescription:
        return PilotDescription(resource="local://", engine=engine, cores_per_node=slots, name=f"{slots} slots")

    with tempfile.TemporaryDirectory() as folder, PilotManager(folder) as manager:
        manager.submit_pilot(describe(1)).wait()
        manager.submit_task(sleep, 0.0).result()
        joined = 0.0
        began = time.perf_counter()

        def join_late() -> None:
            nonlocal joined
            time.sleep(late)
            manager.submit_pilot(describe(2)).wait()
            joined = time.perf_counter() - began

        second = threading.Thread(target=join_late)
        second.start()
        tasks = [manager.submit_task(sleep, length) for length in lengths]
        for task in tasks:
            task.result()
        makespan = time.perf_counter() - began
        second.join()
        on_second = sum(task.info.pilot == manager.pilots[1].name for task in tasks)
    bound = lower_bound(lengths, [(0.0, 1), (joined, 2)])
    return {
        "makespan": makespan,
        "bound": bound,
        "ratio": makespan / bound,
        "joined": joined,
        "on second": float(on_second),
    }


def main() -> None:
    parser = _bench.arguments(__doc__, engines=["process"])
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--late", type=float, default=5.0, help="seconds until the second pilot is submitted")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    lottery = random.Random(options.seed)
    lengths = [lottery.uniform(0.005, 0.2) for _ in range(options.tasks)]
    rows = []
    for engine in options.engine:
        runs = []
        for _ in range(options.repeat):
            sys.stderr.write(f"  measuring our {engine}\n")
            runs.append(measure(engine, lengths, options.late))
        ours = _bench.median(runs)
        rows.append(
            {
                "engine": engine,
                "work s": sum(lengths),
                "second pilot at s": ours["joined"],
                "its tasks": int(ours["on second"]),
                "bound s": ours["bound"],
                "makespan s": ours["makespan"],
                "ratio": ours["ratio"],
            }
        )
    _bench.show("Two unequal pilots, one of them late", rows, options.json)


if __name__ == "__main__":
    main()
