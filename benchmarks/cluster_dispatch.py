"""4,096 no-ops over a pilot of two Slurm nodes against a local pilot with as many workers, in turn, on one machine.

Both pilots belong to one manager and are warm; each measurement submits all tasks to one of them and waits for the last
result. `first node` is the time from `submit_pilot` to the first finished task, `last node` until all nodes are there.
Needs root and Slurm.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import _bench
import _cluster


def noop(number: int) -> int:
    return number


def rate(manager: Any, pilot: str, count: int) -> float:
    """Tasks a second."""
    from pilot import TaskDescription

    descriptions = [TaskDescription(function=noop, args=(number,), pilot=pilot) for number in range(count)]
    began = time.perf_counter()
    manager.get_results(manager.submit_tasks(descriptions))
    return count / (time.perf_counter() - began)


def main() -> None:
    from pilot import PilotDescription, PilotManager

    parser = _bench.arguments(__doc__, engines=("process", "ray", "dask"), repeat=7)
    parser.add_argument("--tasks", type=int, default=4096)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with _cluster.slurm():
        for engine in options.engine:
            with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder, PilotManager(folder) as manager:
                began = time.perf_counter()
                remote = manager.submit_pilot(
                    PilotDescription(
                        resource="slurm://",
                        name="slurm",
                        engine=engine,
                        number_of_nodes=2,
                        cores_per_node=1,
                        walltime=540,
                    )
                )
                manager.submit_task(noop, 0).result(120)
                first = time.perf_counter() - began
                while len(remote.nodes) < 2:
                    time.sleep(0.01)
                last = time.perf_counter() - began
                manager.submit_pilot(PilotDescription(name="local", engine=engine, cores_per_node=2)).wait()
                rates: dict[str, list[float]] = {"local": [], "slurm": []}
                for attempt in range(options.repeat + 1):
                    for pilot in sorted(rates, reverse=bool(attempt % 2)):
                        rates[pilot].append(rate(manager, pilot, options.tasks))
                local, ours = (statistics.median(rates[pilot][1:]) for pilot in ("local", "slurm"))
                rows.append(
                    {
                        "engine": engine,
                        "local /s": local,
                        "slurm /s": ours,
                        "ratio": ours / local,
                        "first node s": first,
                        "last node s": last,
                    }
                )
    _bench.show(f"{options.tasks:,} no-ops: two Slurm nodes against a local pilot (medians)", rows, options.json)


if __name__ == "__main__":
    main()
