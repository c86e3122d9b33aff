"""4,096 no-ops over a pilot of two Slurm nodes against a local pilot with as many workers, in turn, on one machine.

Both pilots belong to one manager and are warm; each measurement submits all tasks to one of them and waits for the last
result. `first node` is the time from `submit_pilot` to the first finished task, `last node` until all nodes are there.
Needs root and Slurm.

    python benchmarks/cluster_dispatch.py --executables [--json FILE]

runs /bin/true as tasks on a pilot of four nodes of one core, all on this machine: `executables_per_s` is by the clock,
and `loops_per_s` is what as many processes reach that only call posix_spawn and wait.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import _bench
import _cluster
import dispatch

#: Nodes that run programs.
NODES = 4


def noop(number: int) -> int:
    return number


def rate(manager: Any, pilot: str, count: int) -> float:
    """Tasks a second."""
    from pilot import TaskDescription

    descriptions = [TaskDescription(function=noop, args=(number,), pilot=pilot) for number in range(count)]
    began = time.perf_counter()
    manager.get_results(manager.submit_tasks(descriptions))
    return count / (time.perf_counter() - began)


def programs(options: Any) -> None:
    """Programs a second on four nodes, and without a pilot, in turn."""
    from pilot import PilotDescription, PilotManager, TaskDescription
    from pilot.testing.polling import eventually

    ours: list[float] = []
    loops: list[float] = []
    with (
        _cluster.slurm(),
        tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder,
        PilotManager(folder) as manager,
    ):
        wanted = PilotDescription(
            resource="slurm://", queue="all", engine="process", number_of_nodes=NODES, cores_per_node=1, walltime=540
        )
        pilot = manager.submit_pilot(wanted)
        eventually(lambda: len(pilot.nodes) == NODES, timeout=120)
        descriptions = [TaskDescription(executable=dispatch.PROGRAM) for _ in range(options.tasks)]
        with ProcessPoolExecutor(NODES) as pool:
            manager.get_results(manager.submit_tasks(descriptions[:400]))
            for _ in range(options.repeat):
                began = time.perf_counter()
                manager.get_results(manager.submit_tasks(descriptions))
                ours.append(options.tasks / (time.perf_counter() - began))
                began = time.perf_counter()
                list(pool.map(dispatch.spawn, [options.tasks // NODES] * NODES))
                loops.append(options.tasks / (time.perf_counter() - began))
    figures: dict[str, Any] = {
        "executables_per_s": (ours, _bench.Bar(">=", 1500, "1/s")),
        "loops_per_s": (loops, None),
    }
    rows = [{"ours /s": one, "loops /s": other} for one, other in zip(ours, loops, strict=True)]
    configuration = {"nodes": NODES, "programs": options.tasks, "repeat": options.repeat}
    _bench.report("cluster_dispatch.executables", figures, rows=rows, configuration=configuration, file=options.json)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=("process", "ray", "dask"), repeat=7)
    parser.add_argument("--tasks", type=int, default=4096)
    parser.add_argument("--executables", action="store_true", help="programs on four nodes instead")
    options = parser.parse_args()
    if options.executables:
        programs(options)
    else:
        noops(options)


def noops(options: Any) -> None:
    """No-ops a second on two nodes against a local pilot."""
    from pilot import PilotDescription, PilotManager

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
