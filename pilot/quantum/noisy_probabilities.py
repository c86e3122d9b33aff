"""Exact probabilities of the outcomes of circuits with a noise model, of many circuits in one run of Aer.

A run of Aer has one seed, and takes milliseconds for each error of the noise model. With the probabilities, which need
no seed, circuits share a run and are sampled each with its own. Readout errors are put in here: Aer's probabilities are
those of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import Measure
from qiskit_aer.library import SaveProbabilities

from pilot.errors import QPUError
from pilot.quantum import costs
from pilot.quantum.aer_simulators import Simulator, gate_names, names_in
from pilot.quantum.deferral import WITHOUT_EFFECT
from pilot.quantum.noise_errors import ReducedSimulators
from pilot.quantum.programs.definitions import append

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.circuit import Qubit
    from qiskit_aer.noise import NoiseModel

_DENSITY_MATRIX = Simulator("density_matrix")
#: Density matrices of more qubits take longer than it saves to share a run.
_MAX_QUBITS = 8
#: Seconds that a run of its own takes for a device's noise model.
_MODEL_SECONDS = 0.05


class NoisyProbabilities:
    """Finds them for one noise model."""

    def __init__(self, model: NoiseModel) -> None:
        """Make it. Runs are on one thread, so that results do not depend on what else is in them."""
        self._simulators = ReducedSimulators(model, method="density_matrix", max_parallel_threads=1)
        #: `(2, 2)` each, the probability of reading `i` in state `j`, by qubit; of all others under None.
        self._confusions: dict[int | None, NDArray[np.float64]] = {}
        self._suits = self._read(model.to_dict()["errors"])

    def takes(self, circuit: QuantumCircuit, shots: int) -> bool:
        """It has few qubits, measures each once and at its end, has gates that density matrices take (Aer knows more of
        them for state vectors), and single shots are not predicted to be far faster."""
        if not self._suits or _finally_measured(circuit) is None:
            return False
        if not gate_names(_DENSITY_MATRIX).issuperset(names_in(circuit)):
            return False
        used = {qubit for entry in circuit.data if entry.name not in WITHOUT_EFFECT for qubit in entry.qubits}
        if len(used) > _MAX_QUBITS:
            return False
        estimates = costs.estimate(costs.counted(len(used), len(circuit.data)), shots, noisy=True)
        seconds = {estimate.method: estimate.seconds for estimate in estimates}
        return seconds["density_matrix"] < seconds["statevector"] + _MODEL_SECONDS

    def find(self, circuits: Sequence[QuantumCircuit]) -> list[tuple[list[int], NDArray[np.float64]]]:
        """For each circuit the numbers of its measured bits, and `(2**n,)` probabilities of outcomes, the first bit the
        lowest digit.

        Args:
            circuits: that it takes, in gates that Aer knows.

        Raises:
            QPUError: with Aer's error text.
        """
        places = [_finally_measured(circuit) or {} for circuit in circuits]
        saving = list(map(_with_probabilities, circuits, places))
        result = self._simulators.of(saving).run(saving, shots=1).result()
        if not result.success:
            failed = next((one.status for one in result.results if not one.success), result.status)
            raise QPUError(f"Aer with a noise model: {failed}")
        return [
            (list(its), self._read_out(result.data(number)["probabilities"], list(its.values())))
            for number, its in enumerate(places)
        ]

    def _read(self, errors: Sequence[dict[str, Any]]) -> bool:
        """Take the readout errors out of the model; False where measurements have other errors, or share them."""
        for error in errors:
            if "measure" not in error["operations"]:
                continue
            qubits = error.get("gate_qubits", [(None,)])
            if error["type"] != "roerror" or any(len(its) != 1 for its in qubits):
                return False
            confusion = np.asarray(error["probabilities"], dtype=np.float64).T
            if confusion.shape != (2, 2):
                return False
            self._confusions.update(dict.fromkeys((its[0] for its in qubits), confusion))
        return True

    def _read_out(self, probabilities: NDArray[np.float64], qubits: Sequence[int]) -> NDArray[np.float64]:
        """Of what is read, from those of what there is; the first qubit is the lowest digit."""
        read = np.asarray(probabilities, dtype=np.float64).reshape((2,) * len(qubits))
        for axis, qubit in enumerate(reversed(qubits)):
            confusion = self._confusions.get(qubit, self._confusions.get(None))
            if confusion is not None:
                read = np.moveaxis(np.tensordot(confusion, read, axes=(1, axis)).astype(np.float64), 0, axis)
        return read.ravel()


def _finally_measured(circuit: QuantumCircuit) -> dict[int, int] | None:
    """The numbers of measured bits, and of their qubits; None where something follows a measurement on its qubit, bits
    are used, or there is no measurement."""
    holder: dict[int, int] = {}
    measured: set[Qubit] = set()
    for entry in circuit.data:
        if entry.name == "barrier":
            continue
        if not measured.isdisjoint(entry.qubits):
            return None
        if entry.clbits:
            if not isinstance(entry.operation, Measure):
                return None
            holder[circuit.find_bit(entry.clbits[0]).index] = circuit.find_bit(entry.qubits[0]).index
            measured.update(entry.qubits)
    return holder or None


def _with_probabilities(circuit: QuantumCircuit, places: dict[int, int]) -> QuantumCircuit:
    """The circuit without its measurements, and with the probabilities of their outcomes saved."""
    gates = append(circuit.copy_empty_like(), (entry for entry in circuit.data if not entry.clbits))
    gates.append(SaveProbabilities(len(places)), list(places.values()))
    return gates
