"""Circuits with a noise model of the user's own, on a worker's cores: as many as can be in one run of Aer.

Aer takes milliseconds for each error that circuits meet, in each run. Circuits on few qubits share a run that
gives exact probabilities, from which each is sampled with its own seed; others share one where they have no seed.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from qiskit_aer.noise import NoiseModel

from pilot.descriptions import TaskDescription
from pilot.errors import PilotError, QPUError, invalid
from pilot.interfaces import JointFunction
from pilot.quantum.aer import drawn
from pilot.quantum.aer_simulators import AUTOMATIC, gate_names, names_in, pass_manager, run_to_end
from pilot.quantum.blocks import without_boxes
from pilot.quantum.execution import Execution
from pilot.quantum.noise_errors import ReducedSimulators
from pilot.quantum.noisy_probabilities import NoisyProbabilities
from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


class PackedNoiseModel:
    """A noise model as it travels, for ``TaskDescription.noise_model`` of many tasks: it takes tens of milliseconds."""

    __slots__ = ("content",)

    def __init__(self, model: NoiseModel) -> None:
        """Make it; changes of ``model`` after that have no effect.

        Raises:
            DescriptionError: it is not a noise model.
        """
        if not isinstance(model, NoiseModel):
            raise invalid("noise_model", model, "a NoiseModel of qiskit_aer.noise")
        #: Its pickle.
        self.content = pickle.dumps(model)

    @classmethod
    def of(cls, model: NoiseModel | PackedNoiseModel) -> PackedNoiseModel:
        """The model packed, where it is not yet."""
        return model if isinstance(model, PackedNoiseModel) else cls(model)


def packed_model(description: TaskDescription) -> bytes:
    """The noise model of a task, as it travels.

    Raises:
        DescriptionError: it is not a noise model, or other fields do not go with it.
    """
    packed = PackedNoiseModel.of(description.noise_model)
    if description.qpu not in (None, "aer"):
        raise description.wrong("qpu", "'aer' or None with a noise model, which is simulated on the pilots' cores")
    if description.shots is None:
        raise description.wrong("shots", "a number with a noise model: exact results are without noise")
    if description.mitigation or description.min_fidelity is not None:
        field = "mitigation" if description.mitigation else "min_fidelity"
        raise description.wrong(
            field, "nothing with a noise model: stages need a device's calibration; try a fake: QPU"
        )
    if description.num_gpus:
        raise description.wrong("num_gpus", "0 with a noise model, which is simulated on cores")
    return packed.content


@dataclass(frozen=True)
class NoisySimulation(Execution, JointFunction):
    """Samples circuits with a noise model. Gates stay as they are named, as for ``AerSimulator(noise_model=…).run``."""

    shots: int = 1024
    #: Pickle of Aer's ``NoiseModel``.
    model: bytes = b""
    #: Circuits of several tasks may be in one run also where single shots are simulated. Their counts then depend on
    #: which tasks run together, so only tasks without a seed do that.
    together: bool = False

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run several tasks; each is ``(given, seeds, finish)`` as for `Simulation`."""
        results = self._results(calls)
        if len(calls) > 1 and any(isinstance(one, BaseException) for one in results):  # one may be to blame for all
            return [self._results([call])[0] for call in calls]
        return results

    def _results(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            circuits = [list(self.circuits(given)) for given, _, _ in calls]
            found = iter(self._outcomes(circuits, [seeds for _, seeds, _ in calls]))
            outcomes = [[next(found) for _ in its] for its in circuits]
            return [its if finish is None else finish(its) for its, (_, _, finish) in zip(outcomes, calls, strict=True)]
        except PilotError as error:
            return [error] * len(calls)
        except Exception as error:  # AerError, a memory error, a circuit that its compiler cannot take
            failed = QPUError(f"Aer with a noise model: {error}")
            failed.__cause__ = error
            return [failed] * len(calls)

    def _outcomes(self, circuits: Sequence[Sequence[QuantumCircuit]], seeds: Sequence[Sequence[int]]) -> list[Outcomes]:
        """Of the circuits of several tasks, one after the other: those whose exact probabilities can be had in one run,
        the others in one run too, or with seeds in one for each task."""
        exact = _probabilities(self.model)
        work = [
            _Work(task, circuit, _known(circuit), seed)
            for task, (its, drawn_seeds) in enumerate(zip(circuits, seeds, strict=True))
            for circuit, seed in zip(its, drawn_seeds, strict=True)
        ]
        found: dict[int, Outcomes] = {}
        sampled: dict[int, list[int]] = {}
        drawn_from: list[int] = []
        for number, one in enumerate(work):
            if exact.takes(one.known, self.shots):
                drawn_from.append(number)
            else:
                sampled.setdefault(0 if self.together else one.task, []).append(number)
        if drawn_from:
            probabilities = exact.find([work[number].known for number in drawn_from])
            for number, (places, its) in zip(drawn_from, probabilities, strict=True):
                circuit = work[number].circuit
                bits = [circuit.clbits[place] for place in places]
                found[number] = drawn(circuit, bits, its, self.shots, work[number].seed)
        for numbers in sampled.values():
            found.update(zip(numbers, self._run([work[number] for number in numbers]), strict=True))
        return [found[number] for number in range(len(work))]

    def _run(self, work: Sequence[_Work]) -> list[Outcomes]:
        """One run of Aer, with the first one's seed.

        Raises:
            QPUError: with Aer's error text.
        """
        circuits = [one.known for one in work]
        simulator = _simulators(self.model).of(circuits)
        result = run_to_end(simulator, circuits, shots=self.shots, seed_simulator=work[0].seed)
        if not result.success:
            failed = next((one.status for one in result.results if not one.success), result.status)
            raise QPUError(f"Aer with a noise model: {failed}")
        counts = [result.data(number)["counts"] for number in range(len(work))]
        return [Outcomes.from_counts(one.circuit, its, self.shots) for one, its in zip(work, counts, strict=True)]


class _Work(NamedTuple):
    """A circuit of the task of that number."""

    task: int
    circuit: QuantumCircuit
    #: The same in gates that Aer knows.
    known: QuantumCircuit
    seed: int


def _known(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit; where it has a gate that Aer does not know, that in gates which Aer knows."""
    circuit = without_boxes(circuit)
    if gate_names(AUTOMATIC).issuperset(names_in(circuit)):
        return circuit
    known: QuantumCircuit = pass_manager(AUTOMATIC).run(circuit)
    return known


@lru_cache(maxsize=4)
def _simulators(model: bytes) -> ReducedSimulators:
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    return ReducedSimulators(pickle.loads(model), max_parallel_threads=threads)


@lru_cache(maxsize=4)
def _probabilities(model: bytes) -> NoisyProbabilities:
    return NoisyProbabilities(pickle.loads(model))
