"""`ReducedSimulators`: Aer's simulators for one noise model, each with the errors that its circuits meet.

In each run Aer reads all errors of a model, for any circuit: a quarter of a second for a device of 27 qubits. A circuit
meets few of them: a pair of qubits takes about 5 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qiskit.circuit import ControlFlowOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, QuantumError, ReadoutError
from qiskit_aer.noise.noiseerror import NoiseError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

#: Simulators that are kept.
_KEPT = 64
#: An instruction and its qubits, None for all.
_Place = tuple[str, tuple[int, ...] | None]


class ReducedSimulators:
    """Makes simulators of a noise model, and keeps some."""

    def __init__(self, model: NoiseModel, **options: Any) -> None:
        """Make it; ``options`` are those of `AerSimulator`."""
        self._model, self._options = model, options
        #: As Aer's dicts, and as objects, by their numbers.
        self._errors: list[dict[str, Any]] = model.to_dict()["errors"]
        self._objects: dict[int, QuantumError | ReadoutError] = {}
        #: The numbers of errors.
        self._numbers: dict[_Place, list[int]] = {}
        for number, error in enumerate(self._errors):
            for name in error["operations"]:
                for qubits in error.get("gate_qubits", [None]):
                    place = name, None if qubits is None else tuple(qubits)
                    self._numbers.setdefault(place, []).append(number)
        self._made = lru_cache(maxsize=_KEPT)(self._make)

    def of(self, circuits: Sequence[QuantumCircuit]) -> AerSimulator:
        """The simulator that runs these circuits as one with the whole model does."""
        met: set[_Place] = {place for one in circuits for place in _places(one, range(one.num_qubits))}
        met |= {(name, None) for name, _ in met}
        return self._made(frozenset(met & self._numbers.keys()))

    def _make(self, places: frozenset[_Place]) -> AerSimulator:
        try:
            model = self._reduced(places)
        except NoiseError:  # an error has an instruction that cannot be read from Aer's dicts
            model = self._model
        return AerSimulator(noise_model=model, **self._options)

    def _reduced(self, places: frozenset[_Place]) -> NoiseModel:
        model = NoiseModel(basis_gates=self._model.basis_gates)
        model._custom_noise_passes.extend(self._model._custom_noise_passes)  # there is no public way
        for place in sorted(places, key=repr):
            for number in self._numbers[place]:
                _add(model, self._object(number), *place)
        return model

    def _object(self, number: int) -> QuantumError | ReadoutError:
        found = self._objects.get(number)
        if found is None:
            error = self._errors[number]
            is_quantum = error["type"] == "qerror"
            found = QuantumError.from_dict(error) if is_quantum else ReadoutError(error["probabilities"])
            self._objects[number] = found
        return found


def _add(model: NoiseModel, error: QuantumError | ReadoutError, name: str, qubits: tuple[int, ...] | None) -> None:
    """``qubits``: None: all; a readout error is one of measurements."""
    if isinstance(error, QuantumError):
        if qubits is None:
            model.add_all_qubit_quantum_error(error, name, warnings=False)
        else:
            model.add_quantum_error(error, name, list(qubits), warnings=False)
    elif qubits is None:
        model.add_all_qubit_readout_error(error, warnings=False)
    else:
        model.add_readout_error(error, list(qubits), warnings=False)


def _places(circuit: QuantumCircuit, numbers: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The instructions by name and by label, as a model knows them, and their qubits; those in control flow, too.

    Args:
        circuit: any.
        numbers: of its qubits.
    """
    number_of = dict(zip(circuit.qubits, numbers, strict=True))
    for entry in circuit.data:
        qubits = tuple(number_of[qubit] for qubit in entry.qubits)
        yield entry.name, qubits
        if entry.label is not None:
            yield entry.label, qubits
        if not entry.is_standard_gate() and isinstance(entry.operation, ControlFlowOp):
            for block in entry.operation.blocks:
                yield from _places(block, qubits)
