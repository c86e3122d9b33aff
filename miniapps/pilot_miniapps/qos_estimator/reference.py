"""What Qiskit and Aer make of a snapshot: its schedule, its noise model, its simulators."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.quantum.fidelities import hellinger
from pilot_miniapps.qos_estimator.devices import backend_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.quantum.fidelities import Ideal

#: Trajectories are run in so many parts, from which their error follows.
PARTS = 5


class Reference:
    """A device by Aer's own noise model, independent of the estimator. Takes two seconds to make."""

    def __init__(self, snapshot: str) -> None:
        from qiskit import generate_preset_pass_manager
        from qiskit_aer.noise import NoiseModel

        self._backend = backend_of(snapshot)
        self._scheduling = generate_preset_pass_manager(0, backend=self._backend, scheduling_method="alap")
        self._model = NoiseModel.from_backend(self._backend)

    def fidelity(self, compiled: QuantumCircuit, ideal: Ideal) -> float:
        """By the density matrix."""
        scheduled, measured = self._scheduled(compiled, ideal)
        (found,) = self._run(scheduled, "density_matrix", shots=1, times=1)
        return hellinger(ideal.probabilities, self._read(found, measured))

    def sampled(self, compiled: QuantumCircuit, ideal: Ideal, trajectories: int) -> tuple[float, float]:
        """By trajectories of the state vector, each with all its probabilities; and the standard error (jackknife)."""
        scheduled, measured = self._scheduled(compiled, ideal)
        parts = self._run(scheduled, "statevector", shots=-(-trajectories // PARTS), times=PARTS)

        def of(chosen: Sequence[NDArray[np.float64]]) -> float:
            return hellinger(ideal.probabilities, self._read(np.mean(chosen, axis=0), measured))

        without = [of(parts[:part] + parts[part + 1 :]) for part in range(PARTS)]
        return of(parts), float(np.std(without) * np.sqrt(PARTS - 1))

    def _scheduled(self, compiled: QuantumCircuit, ideal: Ideal) -> tuple[QuantumCircuit, list[int]]:
        """Without measurements, and the qubits that were measured."""
        scheduled = self._scheduling.run(compiled)
        qubit = {
            scheduled.find_bit(entry.clbits[0]).index: scheduled.find_bit(entry.qubits[0]).index
            for entry in scheduled.data
            if entry.name == "measure"
        }
        scheduled.remove_final_measurements()
        measured = [qubit[bit] for bit in ideal.bits]
        scheduled.save_probabilities(measured)
        return scheduled, measured

    def _run(self, scheduled: QuantumCircuit, method: str, shots: int, times: int) -> list[NDArray[np.float64]]:
        """Probabilities of several runs, each with a seed of its own."""
        from qiskit_aer import AerSimulator

        simulator = AerSimulator(method=method, noise_model=self._model, max_parallel_threads=1)
        result = simulator.run([scheduled] * times, shots=shots, seed_simulator=1).result()
        return [np.asarray(result.data(place)["probabilities"]) for place in range(times)]

    def _read(self, probabilities: NDArray[np.float64], measured: Sequence[int]) -> NDArray[np.float64]:
        """After the readout; Aer's model of a snapshot takes its errors as the same for 0 and 1."""
        properties: Any = self._backend.properties()
        found = probabilities.reshape([2] * len(measured))
        for axis, qubit in enumerate(reversed(measured)):
            its = properties.qubit_property(qubit)
            ones, zeros = its["prob_meas1_prep0"][0], its["prob_meas0_prep1"][0]
            confusion = np.array([[1 - ones, zeros], [ones, 1 - zeros]])
            found = np.moveaxis(np.tensordot(confusion, found, (1, axis)), 0, axis)
        return found.reshape(-1)


@lru_cache(maxsize=2)
def reference(snapshot: str) -> Reference:
    """That of a snapshot, kept by this process."""
    return Reference(snapshot)
