"""The circuit that is cut, and the Pauli string whose expectation value is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qiskit import QuantumCircuit
from qiskit.circuit.library import efficient_su2

from pilot import DescriptionError
from pilot.quantum import load

#: Of all rotations in the paper's circuit.
ANGLE = 0.4


@dataclass(frozen=True)
class Problem:
    """An expectation value.

    Attributes:
        circuit: gates alone.
        observable: a letter of I, X, Y and Z for each qubit, qubit 0 last.
    """

    circuit: QuantumCircuit
    observable: str

    @classmethod
    def of_paper(cls, qubits: int, repetitions: int, observable: str | None = None) -> Problem:
        """The paper's: an efficient SU(2) ansatz, linear entanglement, all angles equal.

        Args:
            qubits: of the circuit.
            repetitions: of its layer of gates between qubits.
            observable: None: Z on the top qubit.

        Raises:
            DescriptionError: the observable is not valid.
        """
        circuit = efficient_su2(qubits, entanglement="linear", reps=repetitions)
        bound = circuit.assign_parameters([ANGLE] * circuit.num_parameters)
        return cls(bound.decompose(), _checked(observable, qubits))

    @classmethod
    def from_file(cls, path: Path, observable: str | None) -> Problem:
        """A user's: OpenQASM 2 or 3, OriginIR or QIR.

        Args:
            path: of the file.
            observable: None: Z on the top qubit.

        Raises:
            DescriptionError: the file cannot be read, or the observable is not valid.
        """
        try:
            circuit: QuantumCircuit = load(path).to_qiskit()
        except DescriptionError as error:
            raise DescriptionError(f"--circuit: {path}: {error}", **error.data) from error
        bare = circuit.remove_final_measurements(inplace=False)
        return cls(bare, _checked(observable, circuit.num_qubits))


def _checked(observable: str | None, qubits: int) -> str:
    wanted = observable or "Z" + "I" * (qubits - 1)
    if len(wanted) != qubits or set(wanted) - set("IXYZ"):
        raise DescriptionError(
            f"--observable: {wanted!r} is not valid; expected {qubits} letters of I, X, Y and Z, one for each qubit, "
            "qubit 0 last",
            field="observable",
            given=wanted,
        )
    return wanted
