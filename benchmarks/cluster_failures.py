"""What goes wrong on a cluster, on a private real Slurm, with tasks under way: each must still have exactly one result.

Each row is a session of its own: a pilot over two nodes (`low` partition), and where the pilot does not come back by
itself a second one. `noticed` is the time from the blow until the manager knew (the pilot's state, or its nodes);
`done` until the last result. Needs root and Slurm.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import _bench
import _cluster
import _processes
import psutil
from failures import attached_after_kill, outcome

SECONDS = 0.1


def work(number: int, seconds: float = SECONDS) -> int:
    time.sleep(seconds)
    return number


def submit(manager: Any, engine: str, partition: str = "low", nodes: int = 2, **wishes: Any) -> Any:
    from pilot import PilotDescription

    wishes = {"walltime": 10, **wishes}
    return manager.submit_pilot(
        PilotDescription(
            resource="slurm://", engine=engine, queue=partition, number_of_nodes=nodes, cores_per_node=2, **wishes
        )
    )


def slurm_id(pilot: Any) -> str:
    """As squeue knows the pilot's job."""
    return str(pilot.job).split()[2].rstrip(":")


def wait_until(condition: Callable[[], Any], seconds: float) -> float:
    """How long it took; not a number when it did not come true."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return float("nan")
        time.sleep(0.01)
    return time.monotonic() - began


def agent_process(folder: Path) -> psutil.Process:
    """The agent of the session in this folder: whose parent is no agent."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "pilot.agent" in words and str(folder) in words and process.environ().get("SLURM_PROCID") == "0":
                parent = process.parent()
                if parent is None or "pilot.agent" not in parent.cmdline():
                    return process
    raise LookupError(f"no agent of {folder}")


class Blow:
    """One scenario: what is done to the pilot, and how one sees that it was noticed."""

    second = False
    #: Of each task: there must be some under way when the blow is noticed.
    seconds = SECONDS
    wishes: ClassVar[dict[str, Any]] = {}
    patience = 60.0

    def __init__(self, cluster: Any, engine: str, folder: Path) -> None:
        self.cluster, self.engine, self.folder = cluster, engine, folder

    def strike(self, manager: Any, pilot: Any) -> None:
        raise NotImplementedError

    def noticed(self, manager: Any, pilot: Any) -> bool:
        return pilot.state.value != "active"

    def clean(self) -> None:
        """Put the cluster right."""


class Scancel(Blow):
    """scancel of the pilot's job"""

    second = True

    def strike(self, manager: Any, pilot: Any) -> None:
        self.cluster.run("scancel", slurm_id(pilot))


class Slurmd(Blow):
    """slurmd of the second node killed -9"""

    node = "c2"
    seconds = 2 * SECONDS

    def strike(self, manager: Any, pilot: Any) -> None:
        self.cluster.kill_slurmd(self.node)

    def noticed(self, manager: Any, pilot: Any) -> bool:
        """By Slurm: what ran there goes on meanwhile, and is left alone."""
        down = "down" in self.cluster.run("sinfo", "-h", "-n", self.node, "-p", "cpu", "-o", "%t").stdout
        return down or len(pilot.nodes) < 2

    def clean(self) -> None:
        self.cluster.start_slurmd(self.node)


class HeadSlurmd(Slurmd):
    """slurmd of the agent's node killed -9"""

    node = "c1"


class NodeDown(Blow):
    """agent's node set down"""

    def strike(self, manager: Any, pilot: Any) -> None:
        self.cluster.run("scontrol", "update", "nodename=c1", "state=down", "reason=benchmark")

    def clean(self) -> None:
        self.cluster.run("scontrol", "update", "nodename=c1", "state=resume")


class Walltime(Blow):
    """walltime over (1 min), a successor takes over"""

    wishes: ClassVar[dict[str, Any]] = {"walltime": 1, "renewals": 1}
    seconds = 4 * SECONDS
    patience = 120.0

    def strike(self, manager: Any, pilot: Any) -> None:
        pass


class Preemption(Blow):
    """preempted by another job (20 s)"""

    def strike(self, manager: Any, pilot: Any) -> None:
        answer = self.cluster.run("sbatch", "-N2", "-c4", "-p", "cpu", "-t1", "--parsable", "--wrap", "sleep 20")
        assert answer.returncode == 0, answer.stderr


class Requeue(Blow):
    """requeued by an operator"""

    wishes: ClassVar[dict[str, Any]] = {"scheduler_script_commands": ["#SBATCH --requeue"]}

    def strike(self, manager: Any, pilot: Any) -> None:
        self.cluster.run("scontrol", "requeue", slurm_id(pilot))


class Agent(Blow):
    """agent killed -9"""

    def strike(self, manager: Any, pilot: Any) -> None:
        agent_process(self.folder).kill()


class Slurmctld(Blow):
    """slurmctld down for 10 s"""

    def strike(self, manager: Any, pilot: Any) -> None:
        self.cluster.stop_slurmctld()
        time.sleep(10)
        self.cluster.start_slurmctld()

    def noticed(self, manager: Any, pilot: Any) -> bool:
        return True


BLOWS = [Scancel, Slurmd, HeadSlurmd, NodeDown, Walltime, Preemption, Requeue, Agent, Slurmctld]


def measure_blow(kind: type[Blow], cluster: Any, engine: str, count: int, folder: Path) -> dict[str, Any]:
    from pilot import PilotManager

    blow = kind(cluster, engine, folder)
    with PilotManager(folder) as manager:
        pilot = submit(manager, engine, **blow.wishes)
        wait_until(lambda: len(pilot.nodes) == 2, 60)
        tasks = [manager.submit_task(work, number, blow.seconds) for number in range(count)]
        tasks[count // 10].result(60)
        if blow.second:
            submit(manager, engine, "all", 1, scheduler_script_commands=["#SBATCH --exclude=c1,c2"])
        struck = time.time()
        blow.strike(manager, pilot)
        noticed = wait_until(lambda: blow.noticed(manager, pilot), blow.patience)
        row = outcome(tasks)
        row["done after s"] = max(task.info.finished for task in tasks) - struck
    blow.clean()
    return {"what": kind.__doc__, "noticed s": noticed, **row}


def kill_manager(cluster: Any, engine: str, count: int, folder: Path) -> dict[str, Any]:
    with attached_after_kill(__file__, engine, count, str(folder)) as (manager, noticed, killed):
        row = outcome(list(manager.tasks.values()))
        row["done after s"] = max(task.info.finished for task in manager.tasks.values()) - killed
    return {"what": "manager killed -9, then attach", "noticed s": noticed, **row}


def child(engine: str, count: str, folder: str) -> None:
    """The manager that is to be killed."""
    from pilot import PilotManager

    manager = PilotManager(folder)
    pilot = submit(manager, engine)
    wait_until(lambda: len(pilot.nodes) == 2, 60)
    tasks = [manager.submit_task(work, number) for number in range(int(count))]
    tasks[int(count) // 10].result(60)
    print("under way", flush=True)
    time.sleep(600)


def main() -> None:
    names = [kind.__name__.lower() for kind in BLOWS] + ["manager"]
    parser = _bench.arguments(__doc__, engines=("process",), repeat=1)
    parser.add_argument("--blow", nargs="+", choices=names, default=names)
    parser.add_argument("--tasks", type=int, default=1000)
    options = parser.parse_args()
    rows = []
    with _cluster.slurm() as cluster:
        for engine in options.engine:
            for name in options.blow:
                sys.stderr.write(f"  {engine}: {name}\n")
                with tempfile.TemporaryDirectory(prefix="pilot-bench-") as root:
                    settings = (cluster, engine, options.tasks, Path(root, "session"))
                    kind = next((one for one in BLOWS if one.__name__.lower() == name), None)
                    row = kill_manager(*settings) if kind is None else measure_blow(kind, *settings)
                    gone = wait_until(lambda: not cluster.run("squeue", "-h", "-o", "%i").stdout.strip(), 60)
                    row |= {"processes left": _processes.left_over(timeout=10), "queue empty after s": gone}
                    rows.append({"engine": engine, **row})
                    sys.stderr.write(f"    {row}\n")
    _bench.show(f"among {options.tasks:,} tasks of {1000 * SECONDS:g} ms and more", rows, options.json)


if __name__ == "__main__":
    os.environ.setdefault("PILOT_BENCHMARK", str(os.getpid()))
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
