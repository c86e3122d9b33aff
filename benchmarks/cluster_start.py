"""From `sbatch` to the first finished task, on a private real Slurm: a pilot against the engine started by hand.

`engine by hand` is the usual batch script: head and workers by `srun`, a driver that connects and runs one task.
Our time is printed with its parts: the queue (Slurm), the agent (until it has reported), the engine (until the
pilot is active) and the first task. `all nodes` is when the last node's workers can get work. Needs root and Slurm.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import _bench
import _cluster


def first() -> float:
    return time.time()


def our_start(engine: str, nodes: int) -> dict[str, float]:
    from pilot import PilotDescription, PilotManager
    from pilot.states import PilotState

    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        manager = PilotManager(folder)
        began = time.time()
        pilot = manager.submit_pilot(
            PilotDescription(
                resource="slurm://", engine=engine, number_of_nodes=nodes, cores_per_node=_cluster.CORES, walltime=300
            )
        )
        manager.submit_task(first).result(120)
        done = time.time()
        started = Path(folder, "pilots", pilot.id, "started").stat().st_mtime
        while len(pilot.nodes) < nodes:
            time.sleep(0.01)
        everything = time.time()
        manager.close()
        at = pilot.times
        return {
            "queue": started - began,
            "agent": at[PilotState.STARTING] - started,
            "engine": at[PilotState.ACTIVE] - at[PilotState.STARTING],
            "first task": done - at[PilotState.ACTIVE],
            "total": done - began,
            "all nodes": everything - began,
        }


def main() -> None:
    parser = _bench.arguments(__doc__, engines=("ray", "dask"))
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with _cluster.slurm() as cluster:
        for engine in options.engine:
            for nodes in options.nodes:
                bare, ours = [], []
                for attempt in range(options.repeat):
                    sides = [lambda: bare.append(_cluster.bare_start(cluster, engine, nodes))]  # noqa: B023
                    sides.append(lambda: ours.append(our_start(engine, nodes)))  # noqa: B023
                    for side in sides if attempt % 2 == 0 else reversed(sides):
                        side()
                parts = {name: statistics.median(run[name] for run in ours) for name in ours[0]}
                by_hand = {name: statistics.median(run[name] for run in bare) for name in bare[0]}
                rows.append(
                    {
                        "engine, nodes": f"{engine}, {nodes}",
                        **{f"{name} s": parts[name] for name in ("queue", "agent", "engine", "first task", "total")},
                        "by hand s": by_hand["first"],
                        "ours − by hand s": parts["total"] - by_hand["first"],
                        "all nodes s": parts["all nodes"],
                        "by hand all s": by_hand["all"],
                    }
                )
    _bench.show("sbatch to first task, real Slurm (medians)", rows, options.json)


if __name__ == "__main__":
    main()
