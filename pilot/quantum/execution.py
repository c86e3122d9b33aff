"""What workers run for tasks with circuits: on simulators of their own, or on the device that they have.

Each class is a function that travels once; a task is a call of it. A call has the circuits of one task, and what makes
a result of their outcomes (`Finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pilot import device
from pilot.errors import QPUCancelled, QPUError, QPUUnavailable
from pilot.quantum.circuits import exact_values, run_circuit, unpack
from pilot.quantum.compilation import Compiler
from pilot.quantum.expectation import Expectation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.interfaces import QPU
    from pilot.quantum.outcomes import Outcomes

#: Makes a task's result of the outcomes of its circuits.
Finish = Callable[[list["Outcomes"]], Any]


def only(outcomes: list[Outcomes]) -> Outcomes:
    """The result of a task with one circuit."""
    (outcome,) = outcomes
    return outcome


@dataclass(frozen=True)
class _Execution:
    """Circuits from QPY: those of each call or, where one program has many sets of values, that program's."""

    immutable: ClassVar[bool] = True
    weighs_seconds: ClassVar[bool] = True

    #: QPY of circuits with free parameters; None: each call brings its own circuits.
    program: bytes | None = None

    def _circuits(self, given: Any) -> Iterator[QuantumCircuit]:
        """The circuits of a call: for each set of values all those of the program."""
        if self.program is None:
            yield from unpack(given)
            return
        for values in given:
            for circuit in _program(self.program):
                yield bind(circuit, values)


@lru_cache(maxsize=16)
def _program(payload: bytes) -> list[QuantumCircuit]:
    return unpack(payload)


def bind(circuit: QuantumCircuit, values: NDArray[np.float64]) -> QuantumCircuit:
    """`circuit` with values for its parameters, in the order of ``circuit.parameters``."""
    bound: QuantumCircuit = circuit.assign_parameters(values)
    return bound


@dataclass(frozen=True)
class Simulation(_Execution):
    """Samples circuits, or computes the probabilities of their outcomes, on this process's simulator."""

    #: Of each circuit; None: exact.
    shots: int | None = None
    #: A simulator among the pilot's ``qpus``; "": Aer, by the method that suits each circuit.
    simulator: str = ""

    def __call__(self, given: bytes | NDArray[np.float64], seeds: Sequence[int], finish: Finish | None) -> Any:
        """Run the circuits of one task.

        Args:
            given: QPY of the circuits, or sets of values ``(n_sets, n_parameters)`` for the program's.
            seeds: one a circuit.
            finish: what makes the result; None: a list of `Outcomes`.
        """
        circuits = list(self._circuits(given))
        if self.simulator:
            outcomes = device.simulator(self.simulator).run(circuits, self.shots, seeds)
        else:
            outcomes = [run_circuit(circuit, self.shots, seed) for circuit, seed in zip(circuits, seeds, strict=True)]
        return outcomes if finish is None else finish(outcomes)


@dataclass(frozen=True)
class ExactValues(_Execution):
    """Expectation values from the state itself, on this process's simulator."""

    def __call__(self, given: bytes | NDArray[np.float64], observables: Sequence[Any]) -> NDArray[np.float64]:
        """The values ``(n_circuits, n_observables)``.

        Args:
            given: as for `Simulation`.
            observables: `SparsePauliOp`s on the circuits' qubits.
        """
        return np.array([exact_values(circuit, observables) for circuit in self._circuits(given)])


@dataclass(frozen=True)
class DeviceRun(_Execution):
    """Compiles circuits for the device that this worker has and runs them there, those of several tasks in one job."""

    shots: int = 1024
    level: int = 1
    compiler_seed: int | None = None
    #: Stages against errors, the first one innermost: what it plans is planned on by the next.
    stages: tuple[Any, ...] = ()

    def __call__(self, *call: Any) -> Any:
        """Run one task: ``(given, seeds, finish)`` as for `Simulation`."""
        (result,) = self.run_together([call])
        if isinstance(result, BaseException):
            raise result
        return result

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run several tasks in as few jobs as the device takes; a result or an exception for each."""
        assert device.held is not None, "a task for a device runs in that device's worker"
        qpu = device.held.open()
        compiler = compiler_of(qpu)
        compiler.refresh()
        results: list[Any] = [None] * len(calls)
        jobs: list[tuple[int, list[QuantumCircuit], Sequence[int]]] = []
        for number, (given, seeds, _) in enumerate(calls):
            try:
                jobs.append((number, self._compiled(compiler, given), seeds))
            except Exception as error:
                results[number] = error
        for number, outcomes in self._run(qpu, compiler, jobs):
            finish = calls[number][2]
            try:
                if isinstance(outcomes, BaseException):
                    raise outcomes
                results[number] = outcomes if finish is None else finish(outcomes)
            except Exception as error:
                results[number] = error
        return results

    def _compiled(self, compiler: Compiler, given: Any) -> list[QuantumCircuit]:
        if self.program is None:
            return [compiler.compile(circuit, self.level, self.compiler_seed) for circuit in self._circuits(given)]
        programs = [compiler.compile(circuit, self.level, self.compiler_seed) for circuit in _program(self.program)]
        names = [[parameter.name for parameter in circuit.parameters] for circuit in _program(self.program)]
        return [
            circuit.assign_parameters(dict(zip(its_names, values, strict=True)), strict=False)
            for values in given
            for circuit, its_names in zip(programs, names, strict=True)
        ]

    def _run(
        self, qpu: QPU, compiler: Compiler, jobs: list[tuple[int, list[QuantumCircuit], Sequence[int]]]
    ) -> Iterator[tuple[int, list[Outcomes] | Exception]]:
        """Outcomes by task, or why there are none. When a job of several tasks fails, each is tried alone: one may be
        to blame."""
        circuits = [circuit for _, its, _ in jobs for circuit in its]
        seeds = [seed for _, _, its in jobs for seed in its]
        try:
            outcomes = iter(self._outcomes(qpu, compiler, circuits, seeds) if circuits else [])
        except (QPUCancelled, QPUUnavailable) as error:
            yield from ((number, error) for number, _, _ in jobs)
        except Exception as error:
            if len(jobs) == 1:
                yield jobs[0][0], error
            else:
                for job in jobs:
                    yield from self._run(qpu, compiler, [job])
        else:
            yield from ((number, [next(outcomes) for _ in its]) for number, its, _ in jobs)

    def _outcomes(
        self, qpu: QPU, compiler: Compiler, circuits: list[QuantumCircuit], seeds: Sequence[int]
    ) -> list[Outcomes]:
        """One for each compiled circuit, in as few jobs as the device takes."""
        assert device.held is not None
        info = qpu.info()
        if info.max_shots is not None and self.shots > info.max_shots:
            raise QPUError(f"{qpu.name} takes at most {info.max_shots} shots a circuit, {self.shots} were asked for")
        most = info.max_circuits or max(1, len(circuits))
        outcomes: list[Outcomes] = []
        for first in range(0, len(circuits), most):
            part = slice(first, first + most)
            try:
                outcomes += qpu.run(circuits[part], self.shots, seeds[part], device.held.job_began)
            finally:
                device.held.job_ended()
        return outcomes


@lru_cache(maxsize=8)
def compiler_of(qpu: QPU) -> Compiler:
    """This process's compiler for a device."""
    return Compiler(qpu)


def put_together(finish: Finish | None, parts: Sequence[list[Outcomes]]) -> Any:
    """The result of a task whose circuits ran in several parts."""
    outcomes = [outcome for part in parts for outcome in part]
    return outcomes if finish is None else finish(outcomes)


def of_sets(finish: Finish, circuits: int, outcomes: list[Outcomes]) -> Expectation:
    """Expectation values for each set of parameters: `values` and `standard_errors` are ``(n_sets, n_observables)``.

    Args:
        finish: makes an `Expectation` of one set's outcomes.
        circuits: of each set.
        outcomes: of all sets, one after the other.
    """
    sets = [finish(outcomes[first : first + circuits]) for first in range(0, len(outcomes), circuits)]
    return Expectation(
        values=np.array([one.values for one in sets]),
        standard_errors=np.array([one.standard_errors for one in sets]),
        terms=(),
    )


def exact(single: bool, parts: Sequence[NDArray[np.float64]]) -> Expectation:
    """Exact values as an `Expectation`: ``(n_observables,)`` if there is a ``single`` set, else ``(n_sets, …)``."""
    values = np.concatenate(parts)[0] if single else np.concatenate(parts)
    return Expectation(values=values, standard_errors=np.zeros_like(values), terms=())
