"""The simulator: what a job costs, and whether it says what a run with a manager shows.

    python benchmarks/simulator.py [--jobs 1000000] [--json FILE]
    python benchmarks/simulator.py --live [--json FILE]

`us_per_job_100` and `us_per_job_1000` are the processor time of a job in `pilot simulate` with 100 QPUs and the
formula, and with 1,000 QPUs and the least wait; `rss_mib` is the memory of the larger one, and `same_bytes` is 1 where
a second run with the same seed has the same digest.

With ``--live`` 500 tasks, which come in bursts at random times, run on four fake QPUs with a clock, and in the
simulator: `wait_ratio_live` is the mean wait of the first over that of the second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _bench

QPUS = ("kolkata", "hanoi", "mumbai", "auckland")
SHOTS = 4000
#: Real seconds of one second of a device.
CLOCK = 0.3


def simulate(jobs: int, qpus: int, policy: str) -> dict[str, Any]:
    """The figures of one `pilot simulate`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        words = ["--jobs", str(jobs), "--qpus", str(qpus), "--policy", policy, "--json", str(file)]
        subprocess.run([sys.executable, "-m", "pilot.cli", "simulate", *words], check=True, stdout=subprocess.DEVNULL)
        return {key: one["value"] for key, one in json.loads(file.read_text())["figures"].items()}


def at_reference(jobs: int, qpus: int, policy: str) -> dict[str, Any]:
    """The same, with the time of a job on the reference machine."""
    from pilot_miniapps.frame.figures import REFERENCE_MS
    from pilot_miniapps.frame.host import reference_ms

    before = reference_ms()
    found = simulate(jobs, qpus, policy)
    reference = (before + reference_ms()) / 2
    return {**found, "reference_ms": reference, "us_at_reference": found["us_per_job"] * REFERENCE_MS / reference}


def costs(options: Any) -> None:
    first = at_reference(options.jobs, 100, "formula")
    second = at_reference(options.jobs, 1000, "least-wait")
    again = simulate(options.jobs // 10, 100, "formula"), simulate(options.jobs // 10, 100, "formula")
    figures: dict[str, Any] = {
        "us_per_job_100": (first["us_at_reference"], _bench.Bar("<=", 60, "us of the reference machine")),
        "us_per_job_1000": (second["us_at_reference"], _bench.Bar("<=", 60, "us of the reference machine")),
        "rss_mib": (max(first["rss_mib"], second["rss_mib"]), _bench.Bar("<=", 400, "MiB")),
        "same_bytes": (float(again[0]["sha256"] == again[1]["sha256"]), _bench.Bar(">=", 1)),
    }
    rows = [{"qpus": 100, **first}, {"qpus": 1000, **second}]
    _bench.report("simulator", figures, rows=rows, configuration={"jobs": options.jobs}, file=options.json)


def live(options: Any) -> None:
    import numpy as np

    from pilot.qos.families import FAMILIES, circuit
    from pilot.qos.simulation.jobs import bursty, circuits
    from pilot.qos.simulation.scenarios import named
    from pilot.qos.simulation.simulator import Simulator
    from pilot.qos.simulation.sites import SimulatedQPU

    names = [f"fake:{name}?clock={CLOCK}&max_circuits=1" for name in QPUS]
    made = {family: circuit(family, 4) for family in list(FAMILIES)[:4]}
    seconds = held(names, made)
    kinds = [circuits(family, names, np.ones(len(names)), seconds[at]) for at, family in enumerate(made)]
    rate = 0.7 * len(names) / float(seconds.mean())
    jobs = list(bursty(kinds, rate, options.tasks, 1))
    simulator = Simulator(qpu_policy=named("least-wait"))
    for name in names:
        simulator.add(SimulatedQPU(name))
    expected = float(np.mean(simulator.run(jobs).waits(1e9)))
    waits = run(names, made, jobs)
    _bench.report(
        "simulator_live",
        {
            "wait_ratio_live": (float(np.mean(waits)) / expected, _bench.Bar("<=", 1.05, "ratio")),
            "wait_ratio_live_least": (float(np.mean(waits)) / expected, _bench.Bar(">=", 0.95, "ratio")),
            "wait_s_live": (float(np.mean(waits)), None),
            "wait_s_simulated": (expected, None),
        },
        rows=[],
        configuration={"tasks": options.tasks, "qpus": names, "clock": CLOCK},
        file=options.json,
    )


def held(names: list[str], made: dict[str, Any], speed: float = CLOCK) -> Any:
    """`(n_circuits, n_qpus)`: real seconds that each circuit holds each QPU, by its clock."""
    import numpy as np
    from pilot_plugins.qpus.clocks import Clock
    from pilot_plugins.qpus.fake import SETUP

    from pilot.qos.asking import ask
    from pilot.quantum.compilation import Compiler
    from pilot.quantum.targets import Reported

    found = []
    for name in names:
        info = ask(name)
        compiler = Compiler(Reported(name, info))
        clock = Clock(speed, SETUP, info.rep_delay or 0.0)
        durations = [compiler.fidelities.duration(compiler.compile(one, 2)) for one in made.values()]
        found.append([clock.seconds([duration], SHOTS) for duration in durations])
    return np.array(found).T


def run(names: list[str], made: dict[str, Any], jobs: list[Any]) -> list[float]:
    """The waits of the same jobs with a manager: until a task's job begins on its QPU."""
    from pilot import PilotDescription, PilotManager, TaskDescription

    with PilotManager(policy="least-wait") as manager:
        for name in names:
            manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[name], engine="process"))
        while len(manager.qpus) < len(names):
            time.sleep(0.05)
        for name in names:  # compiles what each QPU is given
            warm = [TaskDescription(circuit=one, shots=SHOTS, qpu=name) for one in made.values()]
            manager.get_results(manager.submit_tasks(warm))
        tasks, begun = [], time.time()
        for job in jobs:
            time.sleep(max(0.0, begun + job.time - time.time()))
            tasks.append(manager.submit_task(TaskDescription(circuit=made[job.kind.name], shots=SHOTS, qpu="*")))
        manager.get_results(tasks)
        return [task.info.started - task.info.submitted for task in tasks]


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=500, help="with --live")
    parser.add_argument("--live", action="store_true", help="beside a run with a manager")
    options = parser.parse_args()
    (live if options.live else costs)(options)


if __name__ == "__main__":
    main()
