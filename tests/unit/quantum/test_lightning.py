"""Exact values by PennyLane's lightning, beside Qiskit's state vectors. Without pilots."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import ControlledGate, Gate, Parameter
from qiskit.circuit.library import (
    C3SXGate,
    CUGate,
    DiagonalGate,
    Initialize,
    MCPhaseGate,
    MCXGate,
    PauliEvolutionGate,
    PauliGate,
    PermutationGate,
    QFTGate,
    RYGate,
    UnitaryGate,
    XGate,
    efficient_su2,
    get_standard_gate_name_mapping,
)
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import SparsePauliOp, Statevector, random_unitary

from pilot.quantum import aer as circuits
from pilot.quantum import lightning
from pilot.quantum.aer import exact_values

if not lightning.is_available():
    pytest.skip("pennylane-lightning is not installed", allow_module_level=True)

WIDTH = 5
ACCURATE = 1e-10


def observables(width: int, seed: int = 0) -> list[SparsePauliOp]:
    """One of many terms with the identity among them, one string, and the identity alone."""
    random = np.random.default_rng(seed)
    strings = ["".join(random.choice(list("IXYZ"), width)) for _ in range(12)]
    many = SparsePauliOp([*strings, "I" * width], random.normal(size=13))
    return [many, SparsePauliOp("Z" + "I" * (width - 2) + "Y"), SparsePauliOp(["I" * width], [0.5])]


@cache
def matrices() -> list[NDArray[np.complex128]]:
    return [one.to_matrix() for one in observables(WIDTH)]


def prepared(width: int = WIDTH) -> QuantumCircuit:
    """A state without symmetries."""
    circuit = QuantumCircuit(width)
    for qubit in range(width):
        circuit.ry(0.4 + 0.3 * qubit, qubit)
        circuit.rz(0.7 - 0.2 * qubit, qubit)
        if qubit:
            circuit.cx(qubit - 1, qubit)
    return circuit


def by_lightning(circuit: QuantumCircuit, wanted: list[SparsePauliOp]) -> NDArray[np.float64]:
    steps = lightning.steps_of(circuit)
    assert steps is not None
    return lightning.values_after(steps, range(circuit.num_qubits), wanted, circuit.num_qubits)


def check(circuit: QuantumCircuit) -> None:
    state = Statevector(circuit).data
    theirs = [np.vdot(state, matrix @ state).real for matrix in matrices()]
    assert np.abs(by_lightning(circuit, observables(WIDTH)) - theirs).max() < ACCURATE


def standard_gates() -> Iterator[Gate]:
    random = np.random.default_rng(3)
    for gate in get_standard_gate_name_mapping().values():
        if isinstance(gate, Gate):
            yield type(gate)(*random.uniform(-3, 3, len(gate.params))) if gate.params else gate


def test_all_standard_gates_their_inverses_and_open_controls() -> None:
    random = np.random.default_rng(4)
    for gate in standard_gates():
        variants = [gate, gate.inverse()]
        if gate.num_qubits == 1:
            variants.append(gate.control(1, ctrl_state=0, annotated=False))
        for variant in variants:
            circuit = prepared()
            circuit.append(variant, random.permutation(WIDTH)[: variant.num_qubits].tolist())
            try:
                check(circuit)
            except AssertionError as error:
                raise AssertionError(f"{variant}") from error


@pytest.mark.parametrize("seed", range(12))
def test_random_circuits(seed: int) -> None:
    circuit = prepared()
    circuit.compose(random_circuit(WIDTH, 6, max_operands=4, seed=seed), inplace=True)
    own = random_circuit(2, 2, seed=seed + 100).to_gate()
    circuit.append(own.control(1, ctrl_state=seed % 2, annotated=False), [3, 0, 4])
    own.name = ("h", "cx", "rz", "swap")[seed % 4]
    circuit.append(own, [2, 1])
    circuit.append(own.inverse(), [1, 4])
    check(circuit)


@pytest.mark.parametrize("state", range(8))
def test_controls_in_any_state(state: int) -> None:
    circuit = prepared()
    circuit.append(MCXGate(3, ctrl_state=state), [2, 0, 4, 1])
    circuit.append(MCPhaseGate(0.7, 3, ctrl_state=state), [1, 2, 0, 3])
    circuit.append(C3SXGate(ctrl_state=state), [4, 1, 2, 0])
    circuit.append(CUGate(0.3, 0.5, 0.7, 1.1, ctrl_state=state % 2), [3, 1])
    circuit.append(RYGate(0.6).control(2, ctrl_state=state % 4, annotated=False), [0, 4, 2])
    circuit.append(
        UnitaryGate(random_unitary(4, seed=state)).control(2, ctrl_state=state % 4, annotated=False), [0, 4, 2, 1]
    )
    check(circuit)


def test_own_gates_are_what_they_are_made_of() -> None:
    named_h = QuantumCircuit(1, name="h")
    named_h.ry(0.9, 0)
    wide = QuantumCircuit(5, name="cx")
    wide.compose(prepared(), inplace=True)
    wide.ccx(0, 3, 2)
    named_rx = Gate("rx", 1, [0.3])
    named_rx.definition = QuantumCircuit(1)
    named_rx.definition.rz(1.2, 0)
    named_rx.definition.sx(0)
    own = ControlledGate("ch", 2, [], num_ctrl_qubits=1, base_gate=XGate())
    own.definition = QuantumCircuit(2)
    own.definition.crx(0.4, 1, 0)
    circuit = prepared()
    circuit.append(named_h.to_gate(), [1])
    circuit.append(wide.to_gate(), [4, 2, 0, 1, 3])
    circuit.append(named_rx, [2])
    circuit.append(named_h.to_gate().control(2, ctrl_state=1, annotated=False), [3, 0, 4])
    circuit.append(wide.to_gate().inverse(), [0, 1, 2, 3, 4])
    check(circuit)


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # of Qiskit's matrix of an evolution
def test_gates_of_the_library() -> None:
    circuit = prepared()
    circuit.append(PauliGate("XYZIX"), range(5))
    circuit.append(QFTGate(4), [3, 0, 2, 4])
    circuit.append(PermutationGate([2, 0, 1]), [4, 1, 0])
    circuit.append(PauliEvolutionGate(SparsePauliOp(["XYZ", "ZZI"], [0.3, 0.4]), 0.6), [1, 3, 2])
    circuit.append(UnitaryGate(random_unitary(16, seed=8)), [4, 1, 0, 2])
    circuit.append(DiagonalGate(np.exp(1j * np.arange(8))), [0, 4, 3])
    circuit.barrier()
    circuit.delay(100, 2)
    circuit.id(3)
    circuit.global_phase = 0.4
    check(circuit)


def test_what_lightning_cannot_take_is_left_to_aer() -> None:
    circuit = prepared()
    circuit.append(Initialize([0, 1]), [2])
    assert lightning.steps_of(circuit) is None
    wide = prepared()
    wide.append(Gate("mine", 5, []), range(5))
    assert lightning.steps_of(wide) is None


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths of the circuits that lightning ran."""
    widths: list[int] = []
    run = lightning.values_after

    def noted(steps: Any, wires: Any, wanted: Any, qubits: int) -> NDArray[np.float64]:
        widths.append(qubits)
        return run(steps, wires, wanted, qubits)

    monkeypatch.setattr(lightning, "values_after", noted)
    return widths


def test_exact_values_are_the_same_with_lightning_and_without(ran: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of circuits with a reset and a measurement in the middle, whose outcomes take further qubits."""
    circuit = prepared()
    middle = QuantumCircuit(WIDTH, 1)
    middle.compose(circuit, inplace=True)
    middle.reset(1)
    middle.measure(2, 0)
    middle.ry(0.3, 2)
    middle.cx(2, 1)
    wanted = observables(WIDTH)
    ours = [exact_values(each, wanted) for each in (circuit, middle)]
    assert ran == [5, 7]
    monkeypatch.setattr(lightning, "is_available", lambda: False)
    theirs = [exact_values(each, wanted) for each in (circuit, middle)]
    assert len(ran) == 2
    assert np.abs(np.array(ours) - theirs).max() < ACCURATE


def test_sets_of_values_go_to_the_simulator_that_is_predicted_to_be_faster(
    ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, wide = (efficient_su2(width, reps=1) for width in (4, 15))
    free = Parameter("free")
    wide.crx(free, 0, 3)
    wide.cp(2 * free, 14, 1)
    random = np.random.default_rng(7)
    values = [random.uniform(size=(3, circuit.num_parameters)) for circuit in (narrow, wide)]
    wanted = [observables(circuit.num_qubits)[:1] for circuit in (narrow, wide)]
    ours = [exact_values(*each) for each in zip((narrow, wide), wanted, values, strict=True)]
    assert ran == [15, 15, 15]
    monkeypatch.setattr(lightning, "is_available", lambda: False)
    theirs = exact_values(wide, wanted[1], values[1])
    assert ours[1].shape == (3, 1)
    assert np.abs(ours[1] - theirs).max() < ACCURATE


def test_wide_circuits_that_another_method_is_made_for_stay_there(ran: list[int]) -> None:
    circuit = QuantumCircuit(22)
    circuit.h(0)
    for qubit in range(21):
        circuit.cx(qubit, qubit + 1)
    assert exact_values(circuit, [SparsePauliOp("Z" * 22)]) == pytest.approx([1.0])
    assert not ran


def test_another_version_of_lightning_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (None, circuits):  # it cannot be imported; it has other names
        lightning._operations.cache_clear()
        monkeypatch.setitem(sys.modules, "pennylane_lightning.lightning_qubit_ops", module)
        assert not lightning.is_available()
        assert exact_values(prepared(2), [SparsePauliOp("ZZ")]).shape == (1,)
    monkeypatch.undo()
    lightning._operations.cache_clear()
    assert lightning.is_available()
