"""An ensemble of random circuits, one task each, against one bare Ray task per circuit with `transpile` inside.

The ensemble of figure 3 of the Pilot-Quantum paper (arXiv 2412.18519): 1,024 random circuits, 2 to 20 qubits here.
The bare task is what a user writes first: the circuit pickled, transpiled for Aer and run. Both sides have Qiskit
imported on each worker before the clock starts, and run the circuits of one width after the other, for a table by
width. `distance` is how far the counts of the narrow circuits are from the exact probabilities (total variation,
mean): the same on both sides, since both sample the same distributions.

``--ratios`` measures two figures with bars instead, in processor time of this process, without pilots:

* `sweep_ratio`: 10,000 bindings of an 8-qubit circuit through `PilotEstimator` over Qiskit's StatevectorEstimator,
  divided by the same ratio of commit ef00c0d, which is run in a worktree of its own, in alternation;
* `noisy_ratio`: 200 noisy circuits of one device, one task with a seed each, over one run of Aer with all of them: the
  larger of that with the device's noise model in the tasks, and that of tasks for `fake:`, whose noise has idle times
  in it. For the latter Aer is given circuits that are scheduled already.

``--lightning`` measures exact values with PennyLane's lightning installed, in processor time of this process on one
thread, over the same by Aer alone, at 12, 16 and 20 qubits: `lightning_ratio` is the median over circuits of several
kinds, `lightning_worst` the largest.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import _bench
import numpy as np

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

SHOTS = 1024
#: Up to here the exact probabilities are few enough for a thousand shots to show them.
NARROW = 5


def random_circuits(number: int, width: int) -> list[QuantumCircuit]:
    """Circuits on so many qubits, ten layers deep, all qubits measured; the same ones each time."""
    from qiskit.circuit.random import random_circuit

    return [random_circuit(width, depth=10, measure=True, seed=1000 * width + seed) for seed in range(number)]


def transpile_and_run(circuit: QuantumCircuit, seed: int) -> dict[str, int]:
    """The bare task."""
    from qiskit import transpile
    from qiskit_aer import AerSimulator

    simulator = AerSimulator(max_parallel_threads=1)
    job = simulator.run(transpile(circuit, simulator), shots=SHOTS, seed_simulator=seed)
    return job.result().get_counts()


def measure(contestant: Any, circuits: int, widest: int) -> _bench.Figures:
    """Seconds by width, and the distance."""
    run = through_pilot if isinstance(contestant, _bench.Ours) else through_engine
    widths = range(2, widest + 1)
    shares = [circuits // len(widths) + (place < circuits % len(widths)) for place in range(len(widths))]
    figures: _bench.Figures = {}
    distances = []
    with contestant as engine:
        run(engine, random_circuits(8, 2))  # Qiskit is imported on both workers
        for width, share in zip(widths, shares, strict=True):
            work = random_circuits(share, width)
            began = perf_counter()
            counts = run(engine, work)
            figures[str(width)] = perf_counter() - began
            if width <= NARROW:
                distances += [distance(*pair) for pair in zip(work, counts, strict=True)]
    return {**figures, "distance": float(np.mean(distances))}


def through_engine(engine: Any, circuits: list[QuantumCircuit]) -> list[dict[str, int]]:
    return engine.gather([engine.submit(transpile_and_run, each, seed) for seed, each in enumerate(circuits)])


def through_pilot(engine: _bench.Ours, circuits: list[QuantumCircuit]) -> list[dict[str, int]]:
    from pilot import TaskDescription

    tasks = engine.manager.submit_tasks(
        TaskDescription(circuit=each, shots=SHOTS, seed=seed) for seed, each in enumerate(circuits)
    )
    return [outcomes.get_counts() for outcomes in engine.gather(tasks)]


def distance(circuit: QuantumCircuit, counts: dict[str, int]) -> float:
    """Total variation between the counts and the exact probabilities."""
    from qiskit.quantum_info import Statevector

    exact = Statevector(circuit.remove_final_measurements(inplace=False)).probabilities_dict()
    outcomes = exact.keys() | counts.keys()
    return sum(abs(exact.get(each, 0) - counts.get(each, 0) / SHOTS) for each in outcomes) / 2


# ---- ratios ---------------------------------------------------------------------------------------------------

#: The commit that `sweep_ratio` is measured against.
BASELINE = "ef00c0d"
HERE = Path(__file__).resolve().parent.parent


class Here:
    """A manager whose tasks run in this process, those of one function together, as in a worker."""

    def submit_tasks(self, descriptions: Any) -> list[Any]:
        from concurrent.futures import Future

        from pilot.interfaces import Offer
        from pilot.quantum.tasks import prepare

        offer = Offer(devices={}, cores=1, cores_per_node=1, gpus=0)
        prepared = [prepare(described, offer) for described in descriptions]
        parts = [part for one in prepared for part in one.parts]
        functions = {part.function for part in parts}
        first = parts[0].function
        together = getattr(first, "run_together", None) if len(functions) == 1 else None  # as at BASELINE, too
        if together is not None:
            results = together([part.args for part in parts])
        else:
            results = [part.function(*part.args) for part in parts]
        left, futures = iter(results), []
        for one in prepared:
            own = [next(left) for _ in one.parts]
            future: Future[Any] = Future()
            future.set_result(own[0] if one.combine is None else one.combine.function(*one.combine.args, own))
            futures.append(future)
        return futures


def seconds_of(work: Callable[[], Any]) -> float:
    began = process_time()
    work()
    return process_time() - began


def sweep() -> float:
    """Ours over Qiskit's own, for 10,000 bindings at 8 qubits."""
    from qiskit.circuit.library import efficient_su2
    from qiskit.primitives import StatevectorEstimator

    from pilot.quantum import PilotEstimator

    circuit = efficient_su2(8, reps=1)
    values = np.random.default_rng(1).uniform(-3, 3, (10_000, circuit.num_parameters))
    pub, small = (circuit, "Z" * 8, values), (circuit, "Z" * 8, values[:10])
    ours, theirs = PilotEstimator(Here()), StatevectorEstimator()
    for estimator in (ours, theirs):
        estimator.run([small]).result()
    spent = [seconds_of(lambda each=each: each.run([pub]).result()) for each in (ours, theirs)]
    return spent[0] / spent[1]


def noisy() -> float:
    """200 circuits of one noise model, one task each, over one run of Aer."""
    from pilot.quantum import PilotBackend

    circuits, model, _ = noisy_work()
    return over_aer(PilotBackend(Here(), noise_model=model), circuits, model, circuits)


def noisy_device() -> float:
    """200 circuits, one task each for `fake:manila`, over one run of Aer with the same circuits and idle times."""
    from pilot.quantum import PilotBackend
    from pilot.worker import device

    circuits, model, scheduled = noisy_work()
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        device.held = device.Held("fake:manila", Path(folder))
        return over_aer(PilotBackend(Here(), "fake:manila"), circuits, model, scheduled)


def noisy_work() -> tuple[list[QuantumCircuit], Any, list[QuantumCircuit]]:
    """Circuits on four qubits of a device, its noise model, and the circuits with idle times as delays."""
    from qiskit import transpile
    from qiskit.circuit.random import random_circuit
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2

    device = FakeManilaV2()
    circuits = [random_circuit(4, 6, seed=seed, measure=True) for seed in range(200)]
    circuits = transpile(circuits, device, seed_transpiler=1)
    as_is = list(range(device.num_qubits))
    scheduled = transpile(circuits, device, optimization_level=0, initial_layout=as_is, scheduling_method="alap")
    return circuits, NoiseModel.from_backend(device), scheduled


def over_aer(ours: Any, circuits: list[QuantumCircuit], model: Any, same: list[QuantumCircuit]) -> float:
    """Processor time of our backend over that of Aer with `same`: the least of three runs each, in alternation."""
    from qiskit_aer import AerSimulator

    from pilot.quantum.execution import compiler_of

    theirs = AerSimulator(noise_model=model, max_parallel_threads=1)
    sides = [(ours, circuits), (theirs, same)]
    for backend, work in sides:
        backend.run(work[:2], shots=SHOTS).result()
    spent: list[list[float]] = [[], []]
    for _ in range(3):
        compiler_of.cache_clear()  # what is compiled for a device is part of the work
        for (backend, work), seconds in zip(sides, spent, strict=True):
            seconds.append(
                seconds_of(lambda backend=backend, work=work: backend.run(work, shots=SHOTS, seed_simulator=1).result())
            )
    return min(spent[0]) / min(spent[1])


def values_by_both() -> list[dict[str, Any]]:
    """Circuits of several kinds with an observable of some terms: seconds as they are run here, and by Aer."""
    from qiskit.quantum_info import SparsePauliOp

    from pilot.quantum import lightning
    from pilot.quantum.aer import exact_values

    if not lightning.is_available():
        sys.exit("circuits: pennylane-lightning is not installed: pip install 'quantum-pilot[pennylane]'")
    asks, runs = lightning.is_available, lightning.values_after
    rows = []
    for width in (12, 16, 20):
        neighbours = [("ZZ", [qubit, qubit + 1], 1.0) for qubit in range(width - 1)]
        field = [("X", [qubit], 0.5) for qubit in range(width)]
        observable = SparsePauliOp.from_sparse_list(neighbours + field, width)
        for kind, circuit in kinds(width):
            ran: list[str] = []
            lightning.values_after = lambda *given, ran=ran: (ran.append("lightning"), runs(*given))[1]
            seconds = {"here": [], "by Aer": []}
            found = {}
            for _ in range(4):  # the first is not counted
                for side, available in (("here", asks), ("by Aer", lambda: False)):
                    lightning.is_available = available
                    began = process_time()
                    found[side] = exact_values(circuit, [observable])
                    seconds[side].append(process_time() - began)
            if np.abs(found["here"] - found["by Aer"]).max() > 1e-9:
                sys.exit(f"circuits: {kind} at {width} qubits has two values: {found}")
            ours, aer = (min(spent[1:]) for spent in seconds.values())
            about = {"kind": kind, "qubits": width, "gates": len(circuit.data), "simulator": (ran or ["aer"])[0]}
            rows.append({**about, "seconds": ours, "seconds by Aer": aer, "ratio": ours / aer})
    return rows


def kinds(width: int) -> list[tuple[str, QuantumCircuit]]:
    """Layers of rotations, a Fourier transform, matrices on two qubits, multiple controls, matrices on three."""
    from qiskit import QuantumCircuit
    from qiskit.circuit.library import MCXGate, QFTGate, UnitaryGate, efficient_su2, quantum_volume
    from qiskit.quantum_info import random_unitary

    random = np.random.default_rng(width)
    layers = efficient_su2(width, reps=4)
    fourier = QuantumCircuit(width)
    fourier.h(range(width))
    fourier.append(QFTGate(width), range(width))
    controls, wide = QuantumCircuit(width), QuantumCircuit(width)
    for number in range(2 * width):
        places = random.permutation(width)
        controls.ry(random.uniform(0, 3), int(places[5]))
        controls.append(MCXGate(4, ctrl_state=number % 16), places[:5].tolist())
        wide.append(UnitaryGate(random_unitary(8, seed=number)), places[:3].tolist())
    return [
        ("layers of rotations", layers.assign_parameters(random.uniform(0, 3, layers.num_parameters))),
        ("Fourier transform", fourier.decompose()),
        ("matrices on 2 qubits", quantum_volume(width, depth=6, seed=1)),
        ("gates with 4 controls", controls),
        ("matrices on 3 qubits", wide),
    ]


def lightning_ratios(file: Path | None) -> None:
    """Both figures with their bars."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--ratio", "lightning"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])["ratio"]
    for row in rows:
        sys.stdout.write("  ".join(f"{key} {_bench.figure(value)}" for key, value in row.items()) + "\n")
    _bench.report(
        "circuits",
        {
            "lightning_ratio": ([row["ratio"] for row in rows], _bench.Bar("<=", 0.6, "ratio")),
            "lightning_worst": (max(row["ratio"] for row in rows), _bench.Bar("<=", 1.15, "ratio")),
        },
        rows=rows,
        configuration={"lightning": True},
        file=file,
    )


def elsewhere(what: str, code: Path) -> float:
    """The ratio as a fresh interpreter finds it with the library of that folder."""
    environment = {**os.environ, "PYTHONPATH": f"{code}{os.pathsep}{code / 'plugins'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--ratio", what]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if Path(found["library"]).resolve() != code.resolve():
        sys.exit(f"circuits: {found['library']} was measured instead of {code}")
    return float(found["ratio"])


def one_ratio(what: str) -> None:
    """The measurement that a parent has asked for."""
    import pilot

    measurements = {"sweep": sweep, "noisy": noisy, "noisy device": noisy_device, "lightning": values_by_both}
    ratio = measurements[what]()
    sys.stdout.write(json.dumps({"ratio": ratio, "library": str(Path(pilot.__file__).parent.parent)}) + "\n")


def ratios(repeat: int, file: Path | None) -> None:
    """Both figures with their bars."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        before = Path(folder, "before")
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", before, BASELINE], cwd=HERE, check=True)
        try:
            for attempt in range(repeat):
                sides = [("sweep", HERE), ("sweep before", before)]
                row = {
                    name: elsewhere("sweep", code) for name, code in (sides if attempt % 2 == 0 else reversed(sides))
                }
                rows.append({**row, **{name: elsewhere(name, HERE) for name in ("noisy", "noisy device")}})
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=HERE, check=True)
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    _bench.report(
        "circuits",
        {
            "sweep_ratio": (medians["sweep"] / medians["sweep before"], _bench.Bar("<=", 1.05, "ratio")),
            "noisy_ratio": ([max(row["noisy"], row["noisy device"]) for row in rows], _bench.Bar("<=", 1.3, "ratio")),
        },
        rows=rows,
        configuration={"ratios": True, "repeat": repeat, "baseline": BASELINE},
        file=file,
    )


def main() -> None:
    if sys.argv[1:2] == ["--ratio"]:
        one_ratio(sys.argv[2])
        return
    parser = _bench.arguments(__doc__, engines=["ray"], repeat=1)
    parser.add_argument("--circuits", type=int, default=1024, help="how many circuits, evenly over the widths")
    parser.add_argument("--widest", type=int, default=20, help="qubits of the widest ones")
    parser.add_argument("--ratios", action="store_true", help="measure sweep_ratio and noisy_ratio instead")
    parser.add_argument("--lightning", action="store_true", help="measure exact values with lightning instead")
    options = parser.parse_args()
    if options.lightning:
        lightning_ratios(options.json)
        return
    if options.ratios:
        ratios(max(options.repeat, 5), options.json)
        return

    rows = []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, circuits=options.circuits, widest=options.widest)
        widths = [str(width) for width in range(2, options.widest + 1)]
        groups = {width: [width] for width in widths}
        groups["2 to 12"] = [width for width in widths if int(width) <= 12]
        groups["all"] = widths
        for name, group in groups.items():
            seconds = [sum(side[width] for width in group) for side in (bare, ours)]
            rows.append(
                {
                    "engine": engine,
                    "qubits": name,
                    "bare s": seconds[0],
                    "ours s": seconds[1],
                    "times faster": seconds[0] / seconds[1],
                    "bare distance": bare["distance"] if name == "all" else "",
                    "our distance": ours["distance"] if name == "all" else "",
                }
            )
    title = f"{options.circuits} random circuits, one task each, {SHOTS} shots"
    _bench.show(title, rows, options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
