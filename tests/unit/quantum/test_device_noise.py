"""Gate errors beside Aer's, and whole circuits beside Aer's density matrix. Without pilots."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import generate_preset_pass_manager
from qiskit.circuit.library import CXGate, SXGate
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import PTM, SuperOp
from qiskit.transpiler import InstructionProperties, QubitProperties, Target
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_aer.noise.device import basic_device_gate_errors
from qiskit_ibm_runtime.fake_provider import FakeKolkataV2

from pilot.quantum.device_noise import DeviceNoise, gate_error

CASES = {
    "both": (0.02, 4e-7),
    "relaxation alone": (None, 4e-7),
    "less than the relaxation": (1e-5, 4e-7),
    "no duration": (0.02, None),
    "broken": (1.0, 4e-7),
    "nothing": (None, None),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("qubits", [1, 2])
def test_gate_errors_are_those_of_aer(case: str, qubits: int) -> None:
    rate, seconds = CASES[case]
    times = [(1e-4, 0.7e-4), (0.8e-4, 1.6e-4)][:qubits]
    target = Target(num_qubits=qubits, qubit_properties=[QubitProperties(t1=t1, t2=t2) for t1, t2 in times])
    properties = InstructionProperties(error=rate, duration=seconds)
    target.add_instruction([SXGate(), CXGate()][qubits - 1], {tuple(range(qubits)): properties})
    theirs = [PTM(SuperOp(error)).data.real for _, _, error in basic_device_gate_errors(target=target)]
    ours = gate_error(rate, seconds, times)
    assert (ours is None) == (not theirs)
    if ours is not None:
        assert np.allclose(ours, theirs[0], atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_are_those_of_aers_density_matrix(seed: int) -> None:
    backend = FakeKolkataV2()
    circuit = random_circuit(4, 6, max_operands=2, measure=True, seed=seed)
    manager = generate_preset_pass_manager(1, backend=backend, initial_layout=[12, 13, 14, 16], seed_transpiler=5)
    noise = DeviceNoise(backend.target)
    small, active = noise.reduce(manager.run(circuit))
    scheduled = noise.schedule(small, active)
    bits, ours = noise.probabilities(scheduled, active)
    whole = generate_preset_pass_manager(
        1, backend=backend, initial_layout=[12, 13, 14, 16], seed_transpiler=5, scheduling_method="alap"
    ).run(circuit)
    whole.remove_final_measurements()
    qubits = [active[scheduled.find_bit(entry.qubits[0]).index] for entry in scheduled.data if entry.name == "measure"]
    whole.save_probabilities([whole.qubits[qubit] for qubit in qubits])
    simulator = AerSimulator(method="density_matrix", noise_model=NoiseModel.from_backend(backend))
    theirs = simulator.run(whole).result().data()["probabilities"].reshape([2] * len(bits))
    for axis, qubit in enumerate(reversed(qubits)):  # Aer saves them before the readout
        theirs = np.moveaxis(np.tensordot(noise.confusion(qubit), theirs, (1, axis)), 0, axis)
    assert np.allclose(ours, theirs.reshape(-1), atol=1e-10)
