"""Cut = uncut: a hundred random circuits of 4 to 8 qubits, gate and wire cuts, values and distributions."""

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_addon_cutting.instructions import CutWire

from pilot.quantum.cutting import plan

#: Gates that are cut in turn.
JOINTS = ["cx", "cz", "rzz", "cp", "crx", "ecr", "swap", "iswap", "ch", "rxx"]
PER_PART = 10


def joined_by_a_gate(seed):
    """Two random halves with a gate between them; every fifth one has two."""
    rng = np.random.default_rng(seed)
    num_qubits = 4 + seed % 5
    low = num_qubits // 2
    circuit = QuantumCircuit(num_qubits)
    for number in range(2 if seed % 5 == 0 else 1):
        _random_part(circuit, range(low), 2 * seed + number)
        _random_part(circuit, range(low, num_qubits), 2 * seed + number + 1000)
        name = JOINTS[(seed // 5 + number) % len(JOINTS)] if seed % 5 else "cx"
        angle = (float(rng.uniform(0.2, 2.9)),) if name in {"rzz", "cp", "crx", "rxx"} else ()
        getattr(circuit, name)(*angle, int(rng.integers(low)), int(rng.integers(low, num_qubits)))
    _random_part(circuit, range(low), seed + 5000)
    _random_part(circuit, range(low, num_qubits), seed + 6000)
    return circuit, circuit, {"max_qubits": num_qubits - low, "wires": False}


def joined_by_a_wire(seed):
    """Two random parts that share a qubit, whose wire is cut between them; the circuit with the cut and without."""
    num_qubits = 4 + seed % 5
    shared = num_qubits // 2
    marked, whole = QuantumCircuit(num_qubits), QuantumCircuit(num_qubits)
    for circuit in (marked, whole):
        _random_part(circuit, range(shared + 1), seed)
        if circuit is marked:
            circuit.append(CutWire(), [shared])
        _random_part(circuit, range(shared, num_qubits), seed + 1000)
    return marked, whole, {}


def _random_part(circuit, qubits, seed):
    for qubit in qubits[:-1]:
        circuit.ry(0.5 + qubit, qubit)
        circuit.cx(qubit, qubit + 1)  # so that no part falls apart
    part = random_circuit(len(qubits), depth=3, max_operands=2, seed=seed)
    circuit.compose(part, list(qubits), inplace=True)


def measured(circuit, seed):
    """Some of the qubits measured, in a random order into two registers with a bit to spare."""
    rng = np.random.default_rng(seed)
    qubits = rng.permutation(circuit.num_qubits)[: rng.integers(2, circuit.num_qubits + 1)].tolist()
    with_bits = QuantumCircuit(circuit.num_qubits)
    with_bits.compose(circuit, inplace=True)
    first = max(1, len(qubits) // 2)
    for name, its in (("a", qubits[:first]), ("b", qubits[first:])):
        register = ClassicalRegister(len(its) + 1, name)
        with_bits.add_register(register)
        with_bits.measure(its, register[: len(its)])
    return with_bits, qubits, first


def expected_distribution(circuit, qubits, first):
    """By bit string as Qiskit writes it, from the state vector: register b stands left of a."""
    expected = {}
    for bits, probability in Statevector(circuit).probabilities_dict(qubits).items():
        text = f"0{bits[: len(qubits) - first]} 0{bits[len(qubits) - first :]}"
        expected[str(text)] = float(probability)
    return expected


@pytest.mark.parametrize("make", [joined_by_a_gate, joined_by_a_wire])
@pytest.mark.parametrize("part", range(5))
def test_cut_equals_uncut(here, make, part):
    kind = "gate" if make is joined_by_a_gate else "wire"
    for seed in range(part * PER_PART, (part + 1) * PER_PART):
        circuit, whole, how = make(seed)
        label = "".join(np.random.default_rng(seed).choice(list("IXYZ"), circuit.num_qubits))
        with_bits, qubits, first = measured(circuit, seed)
        planned = plan(with_bits, label, distribution=True, **how)
        assert {cut.kind for cut in planned.cuts} == {kind}
        assert len(planned.fragments) > 1
        result = planned.run(here, shots=None)
        value = Statevector(whole).expectation_value(SparsePauliOp(label)).real
        assert abs(result.values[0] - value) < 1e-9, seed
        expected, got = expected_distribution(whole, qubits, first), result.distribution.get_counts()
        assert max(abs(expected.get(text, 0) - got.get(text, 0)) for text in expected | got) < 1e-9, seed
        assert not result.standard_errors.any()
        assert not result.distribution.standard_errors.any()
