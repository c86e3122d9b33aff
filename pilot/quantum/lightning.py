"""Exact expectation values by PennyLane's lightning, where it is installed: on one core faster than Aer.

Its compiled part alone is loaded, in milliseconds; PennyLane itself takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qiskit.circuit import Barrier, ControlledGate, Delay, Gate
from qiskit.circuit.library import CUGate, IGate, UnitaryGate
from qiskit.quantum_info import Operator

from pilot.quantum.programs.definitions import is_approximate, opened
from pilot.quantum.programs.pennylane_gates import NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.circuit import CircuitInstruction
    from qiskit.quantum_info import SparsePauliOp

#: Wider ones are left to Aer: lightning copies the state for an observable, and these need 400 MB as they are.
MAX_QUBITS = 23
#: Gates on more qubits are applied as what they are made of, where that is known.
_MAX_MATRIX_QUBITS = 2
#: Without that, as matrices up to so many qubits.
_MAX_WIDE_MATRIX_QUBITS = 4
#: From so many qubits on lightning adds the terms of an observable up itself, on all threads that it may have; on fewer
#: it takes longer to start the threads.
_SUMMED_FROM = 14

#: Lightning's names of Qiskit's standard gates, and whether it is the inverse.
_SAME = "x y z h s t sx rx ry rz p swap rxx ryy rzz cx cy cz cp"
_NAMES = {
    **{name: (NAMES[name], False) for name in _SAME.split()},
    **{name: (NAMES[inverse], True) for name, inverse in (("sdg", "s"), ("tdg", "t"), ("sxdg", "sx"))},
    "u1": (NAMES["p"], False),
}
#: Where Qiskit's own controlled gates are, which are their base gate with controls.
_HOME = "qiskit.circuit.library.standard_gates"

# Measured with pennylane-lightning 0.45 on one core of a server, double precision;
# `benchmarks/circuits.py --lightning` compares with Aer.
_START = 1e-4  #: seconds to make a state
_GATE = 1e-5  #: seconds a gate of any size
_NAMED_AMPLITUDE = 4e-10  #: seconds a gate that lightning knows and amplitude
_CONTROLLED_AMPLITUDE = 1.5e-9  #: the same with controls
_MATRIX_AMPLITUDE = (8e-10, 4e-9, 1.1e-8, 1.8e-8)  #: the same for matrices on 1 to 4 qubits
#: Seconds a term of an observable and amplitude, here and with Aer.
TERM_AMPLITUDE = 5e-9


class Step(NamedTuple):
    """A gate on lightning's state."""

    apply: Callable[[Any], None]
    #: Predicted, for each amplitude.
    seconds: float


def is_available() -> bool:
    """It is installed here, and does what is expected of it. Loads it."""
    return _operations() is not None


def steps_of(gates: QuantumCircuit) -> list[Step] | None:
    """The gates in order, qubit `i` as lightning's wire `i`.

    Args:
        gates: without free parameters.

    Returns:
        None where the circuit has something that is no gate, or a wide one of which nothing is known.
    """
    steps: list[Step] = []
    return steps if _add_steps(gates, range(gates.num_qubits), steps) else None


def seconds(steps: Sequence[Step], qubits: int, terms: int) -> float:
    """What expectation values are predicted to take."""
    amplitudes = sum(step.seconds for step in steps) + terms * TERM_AMPLITUDE
    return _START + len(steps) * _GATE + amplitudes * 2.0**qubits


def least_seconds(gates: int, qubits: int, terms: int) -> float:
    """What expectation values are predicted to take if lightning has a name for each of so many gates."""
    return _START + gates * _GATE + (gates * _NAMED_AMPLITUDE + terms * TERM_AMPLITUDE) * 2.0**qubits


def values_after(
    steps: Sequence[Step], wires: Sequence[int], observables: Sequence[SparsePauliOp], qubits: int
) -> NDArray[np.float64]:
    """Expectation values `(n_observables,)` in the state that the steps make of all qubits in 0.

    Args:
        steps: of `steps_of`.
        wires: of the observables' qubits, their first the rightmost letter.
        observables: with real coefficients.
        qubits: of the circuit.
    """
    module = _operations()
    state = module.StateVectorC128(qubits)
    state.resetStateVector()
    for step in steps:
        step.apply(state)
    measurements = module.MeasurementsC128(state)
    return np.array([_value(module, measurements, one, wires, qubits) for one in observables])


@lru_cache(maxsize=1)
def _operations() -> Any:
    """Lightning's compiled module; None: it is not there, or is another one than this file is written for."""
    try:
        module = import_module("pennylane_lightning.lightning_qubit_ops")
        state = module.StateVectorC128(2)
        state.resetStateVector()
        state.RX([0], True, [-0.5])
        state.RX([0], [False], [1], False, [0.5])
        state.applyMatrix(np.eye(4, dtype=complex), [1, 0], False)
        state.applyControlledMatrix(np.eye(2, dtype=complex), [0], [True], [1], False)
        kinds = module.observables
        letters = [kinds.NamedObsC128("PauliY", [0]), kinds.TensorProdObsC128([kinds.NamedObsC128("PauliZ", [1])])]
        value = module.MeasurementsC128(state).expval(kinds.HamiltonianC128(np.array([1.0, 1.0]), letters))
    except (ImportError, AttributeError, TypeError):
        return None
    zero = np.cos(0.25) ** 2  # of wire 0
    right = -np.sin(0.5) * np.cos(0.25) + zero * np.cos(0.5) + 1 - zero
    return module if abs(value - right) < 1e-9 else None


def _add_steps(circuit: QuantumCircuit, wires: Sequence[int], steps: list[Step]) -> bool:
    """Add the gates of a circuit on these wires; False where that cannot be."""
    place = dict(zip(circuit.qubits, wires, strict=True))
    for entry in circuit.data:
        its = [place[qubit] for qubit in entry.qubits]
        if entry.is_standard_gate() and (known := _NAMES.get(entry.name)) is not None:
            steps.append(_named(known, its, [float(angle) for angle in entry.params]))
        elif not _add_other(entry, its, steps):
            return False
    return True


def _add_other(entry: CircuitInstruction, wires: list[int], steps: list[Step]) -> bool:
    """Add what is none of the gates that lightning has a name for."""
    operation = entry.operation
    if isinstance(operation, Barrier | Delay | IGate) or not wires:  # a global phase
        return True
    if isinstance(operation, ControlledGate) and _is_controlled(operation, len(wires)):
        steps.append(_controlled(operation, wires))
        return True
    is_gate = isinstance(operation, Gate)
    is_wide = len(wires) > _MAX_MATRIX_QUBITS and not isinstance(operation, UnitaryGate)
    if not is_gate or is_wide or is_approximate(operation):
        made_of = opened(operation)
        if made_of is not None:
            return _add_steps(made_of, wires, steps)
    if not is_gate or len(wires) > _MAX_WIDE_MATRIX_QUBITS:
        return False
    matrix = entry.matrix
    steps.append(_matrix(Operator(operation).data if matrix is None else matrix, wires))
    return True


def _named(known: tuple[str, bool], wires: list[int], angles: list[float]) -> Step:
    name, inverse = known
    return Step(lambda state: getattr(state, name)(wires, inverse, angles), _NAMED_AMPLITUDE)


def _is_controlled(gate: ControlledGate, width: int) -> bool:
    """It is its base gate under controls, and nothing else: no phase of its own, no further qubits."""
    return (
        str(gate.base_class.__module__).startswith(_HOME)
        and not isinstance(gate, CUGate)
        and gate.base_gate.num_qubits <= _MAX_MATRIX_QUBITS
        and gate.num_ctrl_qubits + gate.base_gate.num_qubits == width
    )


def _controlled(gate: ControlledGate, wires: list[int]) -> Step:
    count = gate.num_ctrl_qubits
    controls, targets = wires[:count], wires[count:]
    values = [bool(gate.ctrl_state >> number & 1) for number in range(count)]
    base = gate.base_gate
    known = None if isinstance(base, ControlledGate) else _NAMES.get(base.name)
    if known is not None:
        name, inverse = known
        angles = [float(angle) for angle in base.params]
        return Step(
            lambda state: getattr(state, name)(controls, values, targets, inverse, angles), _CONTROLLED_AMPLITUDE
        )
    matrix = np.ascontiguousarray(Operator(base).data)
    backwards = targets[::-1]
    return Step(
        lambda state: state.applyControlledMatrix(matrix, controls, values, backwards, False),
        _MATRIX_AMPLITUDE[len(targets)],
    )


def _matrix(matrix: NDArray[np.complex128], wires: list[int]) -> Step:
    """Qiskit's first qubit is the lowest digit of a matrix's index, lightning's first wire the highest."""
    contiguous = np.ascontiguousarray(matrix, dtype=np.complex128)
    backwards = wires[::-1]
    return Step(lambda state: state.applyMatrix(contiguous, backwards, False), _MATRIX_AMPLITUDE[len(wires) - 1])


def _value(module: Any, measurements: Any, observable: SparsePauliOp, wires: Sequence[int], qubits: int) -> float:
    kinds = module.observables
    terms: list[Any] = []
    weights: list[float] = []
    value = 0.0
    for letters, places, coefficient in observable.to_sparse_list():
        if not letters:
            value += float(np.real(coefficient))
            continue
        factors = [
            kinds.NamedObsC128(f"Pauli{letter}", [wires[place]]) for letter, place in zip(letters, places, strict=True)
        ]
        terms.append(factors[0] if len(factors) == 1 else kinds.TensorProdObsC128(factors))
        weights.append(float(np.real(coefficient)))
    if qubits < _SUMMED_FROM:
        return value + sum(
            weight * float(measurements.expval(term)) for weight, term in zip(weights, terms, strict=True)
        )
    if terms:
        value += float(measurements.expval(kinds.HamiltonianC128(np.array(weights), terms)))
    return value
