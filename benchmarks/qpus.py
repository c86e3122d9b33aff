"""Fragments of a cut circuit over three QPUs with a queue each, against one by one and the balanced lower bound.

The QPUs are fake ones (snapshots of IBM's, with noise) in three pilots on this machine. Each job waits in a simulated
queue before it runs, and each shot takes a set time, so that the devices' own time does not depend on this machine.
The lower bound is one queue and a third of all shots: no division of the circuits among the three ends sooner.
One by one, each circuit is a job of its own on one QPU, sent when the one before is back.

With ``--kill`` 500 circuits run over three QPUs with a clock, and the placeholder job of one of them is killed on the
way: `results` is how many have a result, `ran_twice` how many were sent again besides the two that the QPU had then,
and `makespan_over_bound` the time of all over that of a list schedule that knows the failure in advance.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import _bench

QPUS = ("kolkata", "hanoi", "mumbai")
#: With ``--kill``: real seconds of one second of a device, shots of a circuit, and when a QPU is killed: the share of
#: the circuits that are done then.
CLOCK, KILL_SHOTS, KILLED_AT = 0.5, 4000, 0.3
#: Circuits that a QPU has at a time: one runs, one waits with the agent.
HELD = 2


def problem(qubits: int):
    """The ansatz of the cutting mini-app, with its angles, and Z on its top qubit."""
    from qiskit.circuit.library import efficient_su2

    circuit = efficient_su2(qubits, entanglement="linear", reps=2)
    return circuit.assign_parameters([0.4] * circuit.num_parameters), "Z" + "I" * (qubits - 1)


def kill(options: Any) -> None:
    """One of three QPUs is killed while they run circuits."""
    from simulator import held

    from pilot import PilotDescription, PilotManager, TaskDescription
    from pilot.qos.families import circuit

    names = [f"fake:{name}?clock={CLOCK}&max_circuits=1" for name in QPUS]
    made = circuit("ghz", 4)
    seconds = [float(one) for one in held(names, {"ghz": made}, CLOCK)[0]]
    with PilotManager(policy="least-wait") as manager:
        pilots = [manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[name], restarts=0)) for name in names]
        while len(manager.qpus) < len(names):
            time.sleep(0.05)
        manager.get_results([manager.submit_task(TaskDescription(circuit=made, shots=10, qpu=name)) for name in names])
        began = time.perf_counter()
        tasks = [
            manager.submit_task(TaskDescription(circuit=made, shots=KILL_SHOTS, qpu="*"))
            for _ in range(options.circuits)
        ]
        while sum(task.done() for task in tasks) < KILLED_AT * len(tasks):
            time.sleep(0.01)
        agent_of(pilots[0].id).kill()
        killed = time.perf_counter() - began
        results = manager.get_results(tasks)
        span = time.perf_counter() - began
        again = sum(len(task.info.attempts) for task in tasks)
    twice = max(0, again - HELD)
    bound = list_schedule(options.circuits, seconds, killed)
    _bench.report(
        "qpus_kill",
        {
            "results": (sum(one is not None for one in results), _bench.Bar(">=", options.circuits)),
            "ran_twice": (twice, _bench.Bar("<=", 0)),
            "makespan_over_bound": (span / bound, _bench.Bar("<=", 1.10, "ratio")),
        },
        rows=[{"seconds": span, "bound": bound, "killed_after": killed}],
        configuration={"circuits": options.circuits, "qpus": names},
        file=options.json,
    )


def agent_of(pilot: str) -> Any:
    """The process of a pilot's agent."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        words = process.cmdline()
        if "pilot.agent" in words and pilot in words:
            return process
    raise RuntimeError(f"no agent of {pilot}")


def list_schedule(circuits: int, seconds: list[float], killed: float) -> float:
    """The time of all circuits if each goes where it is done first, and none is begun on the first QPU that would not
    end before it is killed."""
    free = [0.0] * len(seconds)
    for _ in range(circuits):
        ends = [free[at] + seconds[at] for at in range(len(seconds))]
        best = min(range(len(seconds)), key=lambda at: ends[at] if at or ends[at] <= killed else float("inf"))
        free[best] = ends[best]
    return max(free)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=3)
    parser.add_argument("--qubits", type=int, default=8, help="of the whole circuit")
    parser.add_argument("--max-qubits", type=int, default=4, help="of a fragment")
    parser.add_argument("--shots", type=int, default=200)
    parser.add_argument("--queue", type=float, default=0.5, help="seconds that each job waits")
    parser.add_argument("--shot-time", type=float, default=2e-3, help="seconds a shot")
    parser.add_argument("--kill", action="store_true", help="kill a QPU during a run")
    parser.add_argument("--circuits", type=int, default=500, help="with --kill")
    options = parser.parse_args()
    (kill if options.kill else cut)(options)


def cut(options: Any) -> None:
    """Fragments over three QPUs."""
    from pilot import PilotDescription, PilotManager
    from pilot.quantum.aer import exact_value
    from pilot.quantum.cutting import plan

    circuit, observable = problem(options.qubits)
    planned = plan(circuit, observable, options.max_qubits)
    names = [f"fake:{name}?queue={options.queue}&shot_time={options.shot_time}" for name in QPUS]
    with PilotManager() as manager:
        for name in names:
            manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[name], name=name.split("?")[0]))
        while len(manager.qpus) < len(names):
            time.sleep(0.05)
        planned.run(manager, shots=options.shots, qpu="*", seed=0)  # compiles what each QPU is first given
        spans = []
        for seed in range(1, options.repeat + 1):
            began = time.perf_counter()
            result = planned.run(manager, shots=options.shots, qpu="*", seed=seed)
            spans.append(time.perf_counter() - began)
        began = time.perf_counter()
        for description in planned.descriptions(shots=options.shots, qpu=names[0], seed=0):
            manager.submit_task(description).result()
        one_by_one = time.perf_counter() - began
    bound = options.queue + planned.num_distinct * options.shots * options.shot_time / len(QPUS)
    span = statistics.median(spans)
    rows = [
        {
            "circuits": planned.num_distinct,
            "QPUs": len(QPUS),
            "bound s": bound,
            "ours s": span,
            "ours / bound": span / bound,
            "one by one s": one_by_one,
            "times faster": one_by_one / span,
            "value": result.values[0],
            "standard error": result.standard_errors[0],
            "exact, no noise": exact_value(circuit, observable),
        }
    ]
    _bench.show("Fragments over three fake QPUs with a queue each", rows, options.json)


if __name__ == "__main__":
    main()
