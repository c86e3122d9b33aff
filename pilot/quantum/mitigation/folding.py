"""Folding: the same unitary with more gates, and so with more noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Barrier, CircuitInstruction, Delay, Gate
from qiskit.exceptions import QiskitError
from qiskit.transpiler import PassManager

from pilot.errors import DescriptionError, invalid
from pilot.quantum.programs.definitions import append, inverse_of

if TYPE_CHECKING:
    from qiskit.circuit import Qubit
    from qiskit.transpiler import Target


def fold_global(circuit: QuantumCircuit, factor: float, target: Target | None = None) -> QuantumCircuit:
    """The circuit `C` as `C (C† C)^k L† L`, with `L` its last gates, `factor` times as many gates in all.

    Section II A of Giurgica-Tiron, Hindy, LaRose, Mari and Zeng, QCE 2020 ("Digital zero noise extrapolation for
    quantum error mitigation"). Barriers keep the parts apart.

    Args:
        circuit: gates, measured at the end; compiled for `target` if that is given.
        factor: at least 1. Odd numbers are met exactly, others to one gate.
        target: inverses are written in its gates.

    Raises:
        DescriptionError: the circuit does anything else, or an inverse cannot be written in the target's gates.
    """
    folding = _Folding(circuit, factor, target)
    body = folding.body
    gates = [place for place, entry in enumerate(body) if isinstance(entry.operation, Gate)]
    whole, rest = divmod(factor - 1, 2)
    last = round(len(gates) * rest / 2)
    folding.add(body)
    for _ in range(int(whole)):
        folding.add_folded(body)
    if last:
        folding.add_folded(body[gates[-last] :])
    return folding.finish()


def fold_local(circuit: QuantumCircuit, factor: float, target: Target | None = None) -> QuantumCircuit:
    """The circuit with each two-qubit gate `G` as `G (G† G)^k`, `factor` times as many of them in all.

    Where the factor asks for it some gates, evenly spread, are folded once more than the others. In a circuit
    without two-qubit gates those on one qubit are folded.

    Args, Raises: as `fold_global`.
    """
    folding = _Folding(circuit, factor, target)
    gates = [place for place, entry in enumerate(folding.body) if isinstance(entry.operation, Gate)]
    chosen = [place for place in gates if len(folding.body[place].qubits) > 1] or gates
    whole, rest = divmod(factor - 1, 2)
    more = round(len(chosen) * rest / 2)
    extra = {chosen[math.floor((number + 0.5) * len(chosen) / more)] for number in range(more)}
    folded = dict.fromkeys(chosen, int(whole))
    for place, entry in enumerate(folding.body):
        folding.add([entry])
        for _ in range(folded.get(place, 0) + (place in extra)):
            folding.add_folded([entry])
    return folding.finish()


def local_factor(circuit: QuantumCircuit, factor: float) -> float:
    """How many times as many of the folded gates `fold_local` really gives: the nearest that whole gates allow."""
    gates = [entry for entry in _split(circuit)[0] if isinstance(entry.operation, Gate)]
    number = sum(len(entry.qubits) > 1 for entry in gates) or len(gates)
    whole, rest = divmod(factor - 1, 2)
    return float(1 + 2 * (whole + round(number * rest / 2) / number))


def global_factor(circuit: QuantumCircuit, factor: float) -> float:
    """How many times as many gates `fold_global` really gives."""
    number = sum(isinstance(entry.operation, Gate) for entry in _split(circuit)[0])
    whole, rest = divmod(factor - 1, 2)
    return float(1 + 2 * (whole + round(number * rest / 2) / number))


class _Folding:
    """A circuit that grows: what is added, and its inverse."""

    def __init__(self, circuit: QuantumCircuit, factor: float, target: Target | None) -> None:
        if not factor >= 1 or not math.isfinite(factor):
            raise invalid("zne.factor", factor, "at least 1")
        self.body, self._measurements = _split(circuit)
        self._result = circuit.copy_empty_like()
        self._target = target
        self._known = None if target is None else frozenset(target.operation_names)
        self._inverses: dict[int, tuple[Gate, QuantumCircuit]] = {}

    def add(self, entries: Iterable[CircuitInstruction]) -> None:
        append(self._result, entries)

    def add_folded(self, entries: Sequence[CircuitInstruction]) -> None:
        """The inverse of `entries` and then themselves, between barriers."""
        qubits = sorted({qubit for entry in entries for qubit in entry.qubits}, key=self._result.qubits.index)
        barrier = CircuitInstruction(Barrier(len(qubits)), qubits)
        append(self._result, [barrier])
        for entry in reversed(entries):
            if not isinstance(entry.operation, Gate):
                append(self._result, [entry])
                continue
            inverse = self._inverse(entry.operation)
            self._result.global_phase += inverse.global_phase
            for part in inverse.data:
                acted_on = [entry.qubits[inverse.find_bit(qubit).index] for qubit in part.qubits]
                append(self._result, [CircuitInstruction(part.operation, acted_on)])
        append(self._result, [barrier])
        self.add(entries)

    def finish(self) -> QuantumCircuit:
        self.add(self._measurements)
        if self._target is not None and getattr(self._target, "has_angle_bounds", bool)():
            from qiskit.transpiler.passes import WrapAngles  # as young as the targets that need it

            wrapped: QuantumCircuit = PassManager([WrapAngles(self._target)]).run(self._result)
            return wrapped
        return self._result

    def _inverse(self, gate: Gate) -> QuantumCircuit:
        # by identity, and kept alive for it: two gates of one name may be different gates
        if id(gate) not in self._inverses:
            self._inverses[id(gate)] = (gate, _inverse(gate, self._known))
        return self._inverses[id(gate)][1]


def _inverse(gate: Gate, known: frozenset[str] | None) -> QuantumCircuit:
    """The gate's inverse in known gates, as few as the gate itself where there is a way."""
    inverse = QuantumCircuit(gate.num_qubits)
    try:
        inverse.append(inverse_of(gate), range(gate.num_qubits))
    except DescriptionError as error:
        raise DescriptionError(
            f"zne: {error}: give its class a definition, or leave the stage out", field="mitigation"
        ) from error
    if known is None or known.issuperset(inverse.count_ops()):
        return inverse
    if gate.name == "sx" and "rz" in known:
        turned = QuantumCircuit(1, global_phase=np.pi / 2)
        turned.rz(np.pi, 0)
        turned.sx(0)
        turned.rz(np.pi, 0)
        return turned
    if gate.name == "iswap" and known & {"z", "rz"}:
        turned = QuantumCircuit(2)
        turn = turned.z if "z" in known else lambda qubit: turned.rz(np.pi, qubit)
        turn(0)
        turned.iswap(0, 1)
        turn(0)
        turned.global_phase = 0 if "z" in known else np.pi
        return turned
    try:
        compiler = generate_preset_pass_manager(optimization_level=1, basis_gates=sorted(known))
        compiled: QuantumCircuit = compiler.run(inverse)
    except QiskitError as error:
        raise DescriptionError(
            f"zne: the inverse of gate {gate.name!r} cannot be written in the QPU's gates: {error}", field="mitigation"
        ) from error
    return compiled


def _split(circuit: QuantumCircuit) -> tuple[list[CircuitInstruction], list[CircuitInstruction]]:
    """What comes before the measurements, and these."""
    body: list[CircuitInstruction] = []
    measurements: list[CircuitInstruction] = []
    measured: set[Qubit] = set()
    for entry in circuit.data:
        if entry.operation.name == "measure" and not measured.intersection(entry.qubits):
            measurements.append(entry)
            measured.update(entry.qubits)
        elif isinstance(entry.operation, Barrier):
            (measurements if measured.issuperset(entry.qubits) else body).append(entry)
        elif isinstance(entry.operation, Delay | Gate) and not measured.intersection(entry.qubits):
            body.append(entry)
        else:
            raise DescriptionError(
                f"zne: circuit {circuit.name!r} does {entry.operation.name!r} in its middle, or acts on measured "
                "qubits; circuits of gates, measured at their end, can be folded: leave the stage out",
                field="mitigation",
            )
    if not any(isinstance(entry.operation, Gate) for entry in body):
        raise DescriptionError(f"zne: circuit {circuit.name!r} has no gates to fold", field="mitigation")
    return body, measurements
