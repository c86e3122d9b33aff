"""An MPI task of 4 ranks beside 500 ordinary tasks on one Slurm pilot of two nodes with 2 cores each.

From the tasks' records: the cores in use at any moment never exceed what the pilot has, and `efficiency` is the work
done (core seconds) over the cores times the makespan. Needs root and Slurm.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import _bench
import _cluster


def work(seconds: float) -> None:
    time.sleep(seconds)


def ranks(seconds: float) -> int:
    from mpi4py import MPI

    time.sleep(seconds)
    return int(MPI.COMM_WORLD.allreduce(1))


def most_cores(spans: list[tuple[float, float, float]]) -> float:
    """The most cores in use at one moment; spans are (start, end, cores)."""
    steps = sorted([(start, cores) for start, _, cores in spans] + [(end, -cores) for _, end, cores in spans])
    used = most = 0.0
    for _, change in steps:
        used += change
        most = max(most, used)
    return most


def main() -> None:
    from pilot import PilotDescription, PilotManager, TaskDescription

    parser = _bench.arguments(__doc__, engines=("process", "ray", "dask"), repeat=1)
    parser.add_argument("--tasks", type=int, default=500)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with _cluster.slurm():
        for engine in options.engine:
            with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder, PilotManager(folder) as manager:
                pilot = manager.submit_pilot(
                    PilotDescription(
                        resource="slurm://", engine=engine, number_of_nodes=2, cores_per_node=2, walltime=540
                    )
                )
                while len(pilot.nodes) < 2:
                    time.sleep(0.01)
                manager.get_results(manager.map(work, [0.05] * 40))
                manager.submit_task(TaskDescription(function=ranks, args=(0.0,), ranks=4)).result(120)  # found how
                began = time.perf_counter()
                tasks = manager.map(work, [0.05] * options.tasks)
                mpi = manager.submit_task(TaskDescription(function=ranks, args=(2.0,), ranks=4, priority=1))
                sizes = mpi.result(120)
                manager.get_results(tasks)
                makespan = time.perf_counter() - began
                spans = [(one.info.started, one.info.finished, 1.0) for one in tasks]
                spans.append((mpi.info.started, mpi.info.finished, 4.0))
                done = sum((end - start) * cores for start, end, cores in spans)
                rows.append(
                    {
                        "engine": engine,
                        "communicator": f"{len(sizes)} ranks of {sizes[0]}",
                        "tasks done": sum(one.done() for one in tasks),
                        "makespan s": makespan,
                        "efficiency": done / (4 * makespan),
                        "most cores in use": most_cores(spans),
                        "cores": 4,
                    }
                )
    _bench.show(f"MPI task of 4 ranks (2 s) beside {options.tasks} tasks of 50 ms", rows, options.json)


if __name__ == "__main__":
    main()
