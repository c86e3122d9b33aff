"""Instructions for a simulator in the user's own process, such as ``save_statevector``, which tasks cannot carry."""

from __future__ import annotations

from qiskit import QuantumCircuit
from qiskit.circuit import ControlFlowOp, Gate
from qiskit.circuit.library import get_standard_gate_name_mapping

from pilot.errors import DescriptionError

_STANDARD = frozenset(get_standard_gate_name_mapping()) | {"barrier"}
#: Where Aer has those that save or set its state.
_HOMES = ("qiskit_aer.library.save_instructions", "qiskit_aer.library.set_instructions")


def refuse_simulator_instructions(circuit: QuantumCircuit) -> None:
    """Refuse a circuit that saves or sets a simulator's state, also inside blocks and instructions of its own.

    Raises:
        DescriptionError: it does; the message says what to take instead.
    """
    name = _first(circuit)
    if name is not None:
        raise DescriptionError(
            f"circuit {circuit.name!r} has {name}: it is for a simulator in this process, and results of pilots are "
            "counts. Take TaskDescription(circuit=…, observables=…) for expectation values, tomography=True for the "
            "state, shots=None for exact probabilities",
            field="circuit",
            given=circuit,
        )


def _first(circuit: QuantumCircuit) -> str | None:
    """The name of the first such instruction."""
    if _STANDARD.issuperset(circuit.count_ops()):  # by far the most
        return None
    for entry in circuit.data:
        operation = entry.operation
        if str(type(operation).__module__).startswith(_HOMES):  # None: a class that Qiskit makes at run time
            return str(operation.name)
        if isinstance(operation, ControlFlowOp):
            inner = list(operation.blocks)
        elif isinstance(operation, Gate) or entry.name in _STANDARD:
            continue
        else:
            made_of = getattr(operation, "definition", None)
            inner = [] if made_of is None else [made_of]
        for block in inner:
            if (found := _first(block)) is not None:
                return found
    return None
