"""Circuits with a noise model of the user's own, on a worker's cores: as many as can be in one run of Aer.

Aer takes tens of milliseconds for a noise model in each run, whatever the circuits are.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import generate_preset_pass_manager
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, PilotError, QPUError
from pilot.quantum.execution import _Execution
from pilot.quantum.outcomes import Outcomes, registers_of

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import PassManager


class PackedNoiseModel:
    """A noise model as it travels, for ``TaskDescription.noise_model`` of many tasks: it takes tens of milliseconds."""

    __slots__ = ("content",)

    def __init__(self, model: NoiseModel) -> None:
        """Make it; changes of ``model`` after that have no effect.

        Raises:
            DescriptionError: it is no noise model.
        """
        if not isinstance(model, NoiseModel):
            raise DescriptionError(
                f"noise_model: {model!r} was given; allowed: a NoiseModel of qiskit_aer.noise",
                field="noise_model",
                given=model,
            )
        #: Its pickle.
        self.content = pickle.dumps(model)

    @classmethod
    def of(cls, model: NoiseModel | PackedNoiseModel) -> PackedNoiseModel:
        """The model packed, where it is not yet."""
        return model if isinstance(model, PackedNoiseModel) else cls(model)


def packed_model(description: TaskDescription) -> bytes:
    """The noise model of a task, as it travels.

    Raises:
        DescriptionError: it is no noise model, or other fields do not go with it.
    """
    packed = PackedNoiseModel.of(description.noise_model)
    if description.qpu not in (None, "aer"):
        raise description.wrong("qpu", "'aer' or none with a noise model: it is simulated on the pilots' cores")
    if description.shots is None:
        raise description.wrong("shots", "a number with a noise model: exact results are without noise")
    if description.mitigation or description.min_fidelity is not None:
        field = "mitigation" if description.mitigation else "min_fidelity"
        raise description.wrong(field, "none with a noise model: stages need a device's calibration; try a fake: QPU")
    if description.num_gpus:
        raise description.wrong("num_gpus", "0 with a noise model: it is simulated on cores")
    return packed.content


@dataclass(frozen=True)
class NoisySimulation(_Execution):
    """Samples circuits with a noise model. Gates stay as they are named, as for ``AerSimulator(noise_model=…).run``."""

    shots: int = 1024
    #: Pickle of Aer's ``NoiseModel``.
    model: bytes = b""
    #: Circuits of several tasks may be in one run. Their counts then depend on which tasks run together, so only
    #: tasks without a seed do that.
    together: bool = False

    def __call__(self, *call: Any) -> Any:
        """Run one task: ``(given, seeds, finish)`` as for `Simulation`."""
        (result,) = self.run_together([call])
        if isinstance(result, BaseException):
            raise result
        return result

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run several tasks; a result or an exception for each."""
        if not self.together or len(calls) == 1:
            return [self._results([call])[0] for call in calls]
        results = self._results(calls)
        if any(isinstance(one, BaseException) for one in results):  # one may be to blame for all
            return [self._results([call])[0] for call in calls]
        return results

    def _results(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            circuits = [list(self._circuits(given)) for given, _, _ in calls]
            found = iter(self._run([one for its in circuits for one in its], calls[0][1][0]))
            outcomes = [[next(found) for _ in its] for its in circuits]
            return [its if finish is None else finish(its) for its, (_, _, finish) in zip(outcomes, calls, strict=True)]
        except Exception as error:
            return [error] * len(calls)

    def _run(self, circuits: Sequence[QuantumCircuit], seed: int) -> Iterable[Outcomes]:
        """One run of Aer.

        Raises:
            QPUError: Aer's own words.
        """
        simulator = _simulator(self.model)
        try:
            known = [_known(circuit) for circuit in circuits]
            result = simulator.run(known, shots=self.shots, seed_simulator=seed).result()
            counts = [result.data(number)["counts"] if result.success else {} for number in range(len(circuits))]
        except PilotError:
            raise
        except Exception as error:  # AerError, a memory error, a circuit that its compiler cannot take
            raise QPUError(f"Aer with a noise model: {error}") from error
        if not result.success:
            failed = next((one.status for one in result.results if not one.success), result.status)
            raise QPUError(f"Aer with a noise model: {failed}")
        return [_outcomes(circuit, its, self.shots) for circuit, its in zip(circuits, counts, strict=True)]


def _outcomes(circuit: QuantumCircuit, counts: dict[str, int], shots: int) -> Outcomes:
    """From Aer's hexadecimal numbers, classical bit 0 lowest."""
    size = -(-circuit.num_clbits // 8)
    octets = b"".join(int(word, 16).to_bytes(size, "little") for word in counts)
    rows = np.frombuffer(octets, dtype=np.uint8).reshape(len(counts), size)
    bits = np.unpackbits(rows, axis=1, count=circuit.num_clbits, bitorder="little").astype(bool)
    weights = np.array(list(counts.values()), dtype=np.int64)
    return Outcomes.from_bits(bits, weights, registers=registers_of(circuit), shots=shots)


def _known(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit; where it has a gate that Aer does not know, that in gates which Aer knows."""
    if _gate_names().issuperset(circuit.count_ops().keys() - {"barrier"}):
        return circuit
    known: QuantumCircuit = _pass_manager().run(circuit)
    return known


@lru_cache(maxsize=4)
def _simulator(model: bytes) -> AerSimulator:
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    return AerSimulator(noise_model=pickle.loads(model), max_parallel_threads=threads)


@lru_cache(maxsize=1)
def _gate_names() -> frozenset[str]:
    return frozenset(AerSimulator().operation_names)


@lru_cache(maxsize=1)
def _pass_manager() -> PassManager:
    return generate_preset_pass_manager(optimization_level=0, backend=AerSimulator())
