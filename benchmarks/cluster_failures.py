"""What goes wrong on a cluster, on a private real Slurm, with tasks under way: each must still have exactly one result.

Each row is a session of its own: a pilot over two nodes (`low` partition), and where the pilot does not come back by
itself a second one. `noticed` is the time from the blow until the manager knew (the pilot's state, or its nodes);
`done` until the last result. Needs root and Slurm.

With ``--wrappers`` nothing goes wrong but what the site's own squeue and sbatch say (`_site`): two pilots in each
schedule, with other jobs of the same user beside them. No task may be lost, no pilot started again, no other job
cancelled. The intervals of the polls are a tenth of what they are, so that a schedule takes half a minute.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import _bench
import _cluster
import _processes
import _site
import psutil
from failures import attached_after_kill, outcome

SECONDS = 0.1


def work(number: int, seconds: float = SECONDS) -> int:
    time.sleep(seconds)
    return number


def submit(manager: Any, engine: str, partition: str = "low", nodes: int = 2, **fields: Any) -> Any:
    from pilot import PilotDescription

    fields = {"walltime": 600, **fields}
    return manager.submit_pilot(
        PilotDescription(
            resource="slurm://", engine=engine, queue=partition, number_of_nodes=nodes, cores_per_node=2, **fields
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
    fields: ClassVar[dict[str, Any]] = {}
    timeout = 60.0

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

    fields: ClassVar[dict[str, Any]] = {"walltime": 60, "renewals": 1}
    seconds = 4 * SECONDS
    timeout = 120.0

    def strike(self, manager: Any, pilot: Any) -> None:
        pass


class Preemption(Blow):
    """preempted by another job (20 s)"""

    def strike(self, manager: Any, pilot: Any) -> None:
        answer = self.cluster.run("sbatch", "-N2", "-c4", "-p", "cpu", "-t1", "--parsable", "--wrap", "sleep 20")
        assert answer.returncode == 0, answer.stderr


class Requeue(Blow):
    """requeued by an operator"""

    fields: ClassVar[dict[str, Any]] = {"scheduler_script_commands": ["#SBATCH --requeue"]}

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
        pilot = submit(manager, engine, **blow.fields)
        wait_until(lambda: len(pilot.nodes) == 2, 60)
        tasks = [manager.submit_task(work, number, blow.seconds) for number in range(count)]
        tasks[count // 10].result(60)
        if blow.second:
            submit(manager, engine, "all", 1, scheduler_script_commands=["#SBATCH --exclude=c1,c2"])
        struck = time.time()
        blow.strike(manager, pilot)
        noticed = wait_until(lambda: blow.noticed(manager, pilot), blow.timeout)
        row = outcome(tasks)
        row["done after s"] = max(task.info.finished for task in tasks) - struck
    blow.clean()
    return {"what": kind.__doc__, "noticed s": noticed, **row}


def kill_manager(cluster: Any, engine: str, count: int, folder: Path) -> dict[str, Any]:
    with attached_after_kill(__file__, engine, count, str(folder)) as (manager, noticed, killed):
        row = outcome(list(manager.tasks.values()))
        row["done after s"] = max(task.info.finished for task in manager.tasks.values()) - killed
    return {"what": "manager killed -9, then attach", "noticed s": noticed, **row}


# ---- a site's own commands ------------------------------------------------------------------------------------------


def foreign(cluster: Any) -> list[str]:
    """Numbers of jobs that are not ours: one runs, one waits, one has the name of a pilot."""
    options = (["-p", "all", "-w", "q1"], ["--begin=now+1hour"], ["-p", "all", "-w", "g1", "--job-name=pilot-1"])
    return [_cluster.sbatch(*some, "-t60", "-o", "/dev/null", "--wrap", "sleep 3600") for some in options]


def unfinished(cluster: Any) -> set[str]:
    return {*cluster.run("squeue", "-h", "--array", "-o", "%i").stdout.split()}


def measure_schedule(cluster: Any, seed: int, count: int, others: list[str], folder: Path) -> dict[str, Any]:
    """One session at such a site."""
    from pilot import PilotManager

    bin = folder / "bin"
    bin.mkdir()
    site = _site.Site(bin, seed, others)
    lines = [f"#SBATCH --clusters={_site.OTHER}"] if site.cluster_by == "description" else []
    variables = {"PATH": f"{bin}:{os.environ['PATH']}"}
    if site.cluster_by == "environment":
        variables["SBATCH_CLUSTERS"] = _site.OTHER
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        with PilotManager(folder / "session") as manager:
            for number in range(2):  # in two jobs, or in one job array
                submit(manager, "process", "cpu", 1, walltime=600 + 60 * number * (seed // 5 % 2), restarts=5,
                       scheduler_script_commands=lines)  # fmt: skip
            row = outcome([manager.submit_task(work, number, 2 * SECONDS) for number in range(count)])
            restarts = restarted(folder / "session/journal.sqlite")
    finally:
        os.environ.clear()
        os.environ.update(before)
    wait_until(lambda: unfinished(cluster) <= {*others}, 60)
    left = unfinished(cluster)
    return {
        "seed": seed,
        "cluster by": site.cluster_by or "-",
        "lost": row["tasks"] - row["whole"],
        "lost attempts": row["lost attempts"],
        "restarts without cause": len(restarts),
        "foreign jobs cancelled": len({*others} - left) + len(site.astray()),
        "jobs left": len(left - {*others}),
        "done after s": row["done after s"],
        "why": "; ".join(restarts),
        "calls": site.calls(),
    }


def restarted(journal: Path) -> list[str]:
    """Why pilots were started again; nothing of what is done to them here is a cause."""
    with contextlib.closing(sqlite3.connect(journal)) as db:
        rows = db.execute("SELECT pilot, state, reason, native_id FROM pilot_changes ORDER BY rowid").fetchall()
    seen: set[str] = set()
    reasons, last = [], {}
    for pilot, state, reason, native_id in rows:
        if (native_id and pilot in seen) or "cannot be started" in (reason or ""):
            reasons.append(f"{pilot}: {last.get(pilot)}")
        if native_id:
            seen.add(pilot)
        last[pilot] = f"{state}: {reason}"
    return reasons


def measure_wrappers(options: Any) -> None:
    from pilot_plugins.launchers.slurm.launcher import SlurmLauncher

    from pilot.manager import jobs

    SlurmLauncher.poll_interval /= 10
    jobs.MISSING_SECONDS /= 10
    rows = []
    with _cluster.slurm() as cluster:
        others = foreign(cluster)
        for seed in range(options.schedules) if options.seed is None else [options.seed]:
            with tempfile.TemporaryDirectory(prefix="pilot-bench-") as root:
                rows.append(measure_schedule(cluster, seed, options.tasks or 240, others, Path(root)))
            sys.stderr.write(f"  {rows[-1]}\n")
        cluster.run("scancel", *others)
    _bench.report(
        "cluster_failures --wrappers",
        {
            "lost": (sum(row["lost"] for row in rows), _bench.Bar("==", 0)),
            "restarts_without_cause": (sum(row["restarts without cause"] for row in rows), _bench.Bar("==", 0)),
            "strangers_cancelled": (sum(row["foreign jobs cancelled"] for row in rows), _bench.Bar("==", 0)),
            "jobs_left": (sum(row["jobs left"] for row in rows), _bench.Bar("==", 0)),
            "lost_attempts": (sum(row["lost attempts"] for row in rows), None),
        },
        rows=rows,
        configuration={"schedules": len(rows), "tasks": options.tasks or 240, "poll_interval_s": 0.5, "missing_s": 6},
        file=options.json,
    )


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
    parser.add_argument("--tasks", type=int, help="of each session; 1000, or 240 with --wrappers")
    parser.add_argument("--wrappers", action="store_true", help="a site's own squeue and sbatch, and nothing else")
    parser.add_argument("--schedules", type=int, default=20, help="with --wrappers, seeds from 0 on")
    parser.add_argument("--seed", type=int, help="with --wrappers, this schedule alone")
    options = parser.parse_args()
    if options.wrappers:
        measure_wrappers(options)
        return
    options.tasks = options.tasks or 1000
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
