"""Predicted and measured time of circuits by each simulation method, and what the choice costs against the best.

    python benchmarks/simulation_costs.py [--seconds 10] [--noise]

Circuits of every kind of mqt-bench at several widths, and layers of gates; methods that are predicted to take longer
than ``--seconds`` are left out. One thread. With ``--noise``, density matrix against single trajectories on a snapshot.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import _bench
from qiskit import QuantumCircuit

from pilot.quantum.aer import run_circuit
from pilot.quantum.aer_simulators import Simulator
from pilot.quantum.costs import Estimate, choose, estimate, facts

SHOTS = 1000
WIDTHS = (8, 16, 20, 24, 40)
FAMILIES = ("ghz", "qft", "wstate", "bv", "dj", "graphstate", "vqe_real_amp", "qaoa", "qpeexact", "randomcircuit", "ae")


def circuits(widths: tuple[int, ...]) -> Iterator[tuple[str, QuantumCircuit]]:
    from mqt.bench import BenchmarkLevel, get_benchmark

    for width in widths:
        for family in FAMILIES:
            try:
                circuit = get_benchmark(family, BenchmarkLevel.INDEP, width, random_parameters=True)
                if "measure" not in circuit.count_ops():
                    circuit.measure_all()
                yield f"{family} {width}", circuit
            except Exception as error:
                print(f"{family} {width}: {type(error).__name__}: {error}")
        for layers in (2, 6, 12):
            yield f"bricks {width}×{layers}", bricks(width, layers)


def bricks(qubits: int, layers: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for layer in range(layers):
        for qubit in range(qubits):
            circuit.ry(0.1 + layer + qubit, qubit)
        for qubit in range(layer % 2, qubits - 1, 2):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return circuit


def measured(circuit: QuantumCircuit, estimate: Estimate) -> float:
    simulator = Simulator(estimate.method, estimate.device)
    small = QuantumCircuit(1, 1)
    small.measure(0, 0)
    run_circuit(small, SHOTS, 1, simulator)  # imports, and what is built once
    begin = time.perf_counter()
    run_circuit(circuit, SHOTS, 1, simulator)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    if arguments.noise:
        return noise()
    lost: list[float] = []
    ratios: dict[str, list[float]] = {}
    print(f"{'circuit':22} {'bond':>5} {'facts':>8}  method: predicted → measured; chosen with *")
    for name, circuit in circuits(tuple(arguments.widths)):
        begin = time.perf_counter()
        about = facts(circuit)
        looked = time.perf_counter() - begin
        estimates = [one for one in estimate(about, SHOTS) if one.bytes < 2**32]
        best = choose(estimates)
        times: dict[str, float] = {}
        for one in estimates:
            if one.seconds <= arguments.seconds:
                times[one.method] = measured(circuit, one)
                ratios.setdefault(one.method, []).append(times[one.method] / one.seconds)
        shown = "  ".join(
            f"{'*' * (one == best):1}{one.method.split('_')[0]}: {one.seconds:.3g} → {times.get(one.method, inf):.3g}"
            for one in estimates
        )
        print(f"{name:22} {about.bond:5} {looked:8.4f}  {shown}", flush=True)
        if best is not None and best.method in times:
            lost.append(times[best.method] / min(times.values()))
    print()
    for method, values in ratios.items():
        print(
            f"{method:22} measured / predicted: median {statistics.median(values):.2f}, "
            f"least {min(values):.2f}, most {max(values):.2f} of {len(values)}"
        )
    figures: _bench.Written = {"chosen_over_fastest": (lost, None), "chosen_over_fastest_most": (max(lost), None)}
    figures |= {f"measured_over_predicted_{method}": (values, None) for method, values in ratios.items()}
    configuration = {"seconds": arguments.seconds, "widths": arguments.widths}
    _bench.report("simulation_costs", figures, rows=[], configuration=configuration, file=arguments.json)
    return None


def noise() -> None:
    from dataclasses import replace

    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit import generate_preset_pass_manager
    from qiskit_aer import AerSimulator
    from qiskit_ibm_runtime.fake_provider import FakeKolkataV2

    backend = FakeKolkataV2()
    device = NoisyDevice(backend.target)
    manager = generate_preset_pass_manager(1, backend=backend, seed_transpiler=1)
    for width in (2, 4, 6, 8, 10, 11):
        small, active = device.reduce(manager.run(bricks(width, 6)))
        scheduled = device.schedule(small, active)
        about = facts(scheduled)
        about = replace(about, gates=about.gates + scheduled.count_ops().get("delay", 0))
        model = device.noise(scheduled, active)
        for one in estimate(about, SHOTS, noisy=True):
            simulator = AerSimulator(method=one.method, noise_model=model, max_parallel_threads=1)
            begin = time.perf_counter()
            simulator.run(scheduled, shots=SHOTS, seed_simulator=1).result()
            took = time.perf_counter() - begin
            print(f"{width:3} qubits {one.method:16} predicted {one.seconds:8.4f} measured {took:8.4f}", flush=True)


if __name__ == "__main__":
    main()
