"""What each stage of error mitigation gains: the mean error of expectation values on snapshots of devices."""

from __future__ import annotations

from typing import Any

import _bench
import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.quantum_info import Statevector
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime import fake_provider

from pilot.quantum.expectation import plan
from pilot.quantum.mitigation import Calibrations, Device, Planned, ZeroNoise, stages
from pilot.quantum.observables import operators
from pilot.quantum.outcomes import Outcomes, registers_of

SETS: dict[str, list[Any]] = {
    "none": [],
    "readout": ["readout"],
    "readout, twirling": ["readout", "twirling"],
    "readout, zne linear": ["readout", ZeroNoise()],
    "readout, zne exponential": ["readout", ZeroNoise(extrapolation="exponential")],
    "readout, zne richardson": ["readout", ZeroNoise(extrapolation="richardson")],
    "readout, twirling, dd, zne exponential": [
        "readout",
        "twirling",
        "dd",
        ZeroNoise(extrapolation="exponential"),
    ],
}


def ghz(n: int) -> tuple[QuantumCircuit, list[str]]:
    circuit = QuantumCircuit(n)
    circuit.h(0)
    for qubit in range(n - 1):
        circuit.cx(qubit, qubit + 1)
    return circuit, [*(f"Z{qubit} Z{qubit + 1}" for qubit in range(n - 1)), "X" * n]


def ising(n: int) -> tuple[QuantumCircuit, list[str]]:
    circuit = QuantumCircuit(n)
    for _ in range(3):
        for qubit in range(n - 1):
            circuit.rzz(-0.6, qubit, qubit + 1)
        circuit.rx(-0.6, range(n))
    return circuit, [*(f"Z{qubit} Z{qubit + 1}" for qubit in range(n - 1)), *(f"Z{qubit}" for qubit in range(n))]


def run(simulator: AerSimulator, planned: Planned, seed: int) -> list[Outcomes]:
    """The circuits of each number of shots as one job."""
    outcomes = {}
    for shots in set(planned.shots):
        places = [place for place, number in enumerate(planned.shots) if number == shots]
        job = simulator.run([planned.circuits[place] for place in places], shots=shots, seed_simulator=seed)
        for experiment, place in enumerate(places):
            circuit, counts = planned.circuits[place], job.result().data(experiment)["counts"]
            numbers = np.array([int(key, 16) for key in counts])
            bits = (numbers[:, None] >> np.arange(circuit.num_clbits) & 1).astype(bool)
            outcomes[place] = Outcomes.from_bits(
                bits, np.array(list(counts.values())), registers=registers_of(circuit), shots=shots
            )
    return [outcomes[place] for place in range(len(planned.circuits))]


def main() -> None:
    parser = _bench.arguments(__doc__, engines=(), repeat=5)
    parser.add_argument("--shots", type=int, default=8192, help="of each circuit")
    options = parser.parse_args()
    rows = []
    for name in ("FakeManilaV2", "FakeKolkataV2"):
        backend = getattr(fake_provider, name)()
        device = Device(target=backend.target, name=name, calibrated=1.0)
        simulator = AerSimulator.from_backend(backend, method="density_matrix")
        compiler = generate_preset_pass_manager(2, target=backend.target, seed_transpiler=1)
        for kind, (circuit, observables) in {"GHZ": ghz(5), "Ising": ising(5)}.items():
            planned = plan(circuit, observables)
            compiled = compiler.run(list(planned.circuits))
            state = Statevector(circuit)
            exact = [state.expectation_value(operator).real for operator in operators(observables, 5)]
            for label, given in SETS.items():
                errors = []
                for seed in range(options.repeat):
                    stage, zero_noise = stages(given, Calibrations())
                    lists = [compiled] if zero_noise is None else zero_noise.scaled(compiled, device)
                    to_run = stage.plan([each for same in lists for each in same], options.shots, device, seed)
                    outcomes = to_run.combine(run(simulator, to_run, seed))
                    results = [
                        planned.combine(outcomes[first : first + len(compiled)])
                        for first in range(0, len(outcomes), len(compiled))
                    ]
                    values = results[0].values
                    if zero_noise is not None:
                        values, *_ = zero_noise.extrapolate([each.values for each in results], None, planned.constants)
                    errors.append(float(np.abs(values - exact).mean()))
                rows.append(
                    {
                        "device": name,
                        "circuit": kind,
                        "stages": label,
                        "circuits": len(to_run.circuits),
                        "mean error": float(np.mean(errors)),
                    }
                )
    _bench.show(f"Errors of expectation values, 5 qubits, {options.shots} shots", rows, options.json)


if __name__ == "__main__":
    main()
