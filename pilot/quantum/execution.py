"""What workers run for tasks with circuits: on simulators of their own, or on the device that they have.

Each class is a function that travels once; a task is a call of it. A call has the circuits of one task, and what makes
a result of their outcomes (`Finish`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isnan
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from qiskit.circuit import Delay, ParameterExpression

from pilot.errors import PilotError, PluginError, QPUCancelled, QPUError, QPUUnavailable
from pilot.interfaces import JointFunction, Noted, Run, WorkFunction
from pilot.quantum.aer import State, exact_values, run_sets, state_of, values_in
from pilot.quantum.answers import run_on
from pilot.quantum.bundles import Bundle, Bundler, Ended, Member, by_task, joined
from pilot.quantum.compilation import Compiler
from pilot.quantum.expectation import Expectation
from pilot.quantum.fidelities import ideal_of
from pilot.quantum.mitigation import Calibrations, Device, Planned, ZeroNoise, stages
from pilot.quantum.outcomes import Outcomes, draw_seeds
from pilot.quantum.packing import unpack
from pilot.resources import QPUEstimate
from pilot.worker import device

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.interfaces import QPU

log = logging.getLogger(__name__)

#: Makes a task's result of the outcomes of its circuits.
Finish = Callable[[list[Outcomes]], Any]


def only(outcomes: list[Outcomes]) -> Outcomes:
    """The result of a task with one circuit."""
    (outcome,) = outcomes
    return outcome


@dataclass(frozen=True)
class Execution(WorkFunction):
    """Circuits from QPY: those of each call or, where one program has many sets of values, that program's."""

    weighs_seconds: ClassVar[bool] = True

    #: QPY of circuits with free parameters; None: each call brings its own circuits.
    program: bytes | None = None

    def circuits(self, given: Any) -> Iterator[QuantumCircuit]:
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


@lru_cache(maxsize=16)
def _state(payload: bytes) -> State:
    (circuit,) = _program(payload)
    return state_of(circuit)


@lru_cache(maxsize=16)
def _can_be_compiled(payload: bytes) -> bool:
    """False where a delay has a free duration: no schedule can be made before it has its value."""
    operations = (entry.operation for circuit in _program(payload) for entry in circuit.data)
    return not any(isinstance(one, Delay) and isinstance(one.duration, ParameterExpression) for one in operations)


def bind(circuit: QuantumCircuit, values: NDArray[np.float64]) -> QuantumCircuit:
    """`circuit` with values for its parameters, in the order of ``circuit.parameters``."""
    bound: QuantumCircuit = circuit.assign_parameters(values)
    return bound


@dataclass(frozen=True)
class Simulation(Execution):
    """Samples circuits, or computes the probabilities of their outcomes, on this process's simulator."""

    #: Of each circuit; None: exact.
    shots: int | None = None
    #: A simulator among the pilot's ``qpus``; "": Aer, by the method that suits each circuit, on what the worker has.
    simulator: str = ""

    def __call__(self, given: Any, seeds: Sequence[int], finish: Finish | None) -> Any:
        """Run the circuits of one task.

        Args:
            given: QPY of the circuits, or sets of values ``(n_sets, n_parameters)`` for the program's.
            seeds: one a circuit.
            finish: what makes the result; None: a list of `Outcomes`.
        """
        outcomes = self._sets(given, seeds) if self.program is not None and not self.simulator else None
        if outcomes is None:
            simulator = device.simulator(self.simulator) if self.simulator else own_simulator()
            outcomes = run_on(simulator, Run(circuits=list(self.circuits(given)), shots=self.shots, seeds=seeds))
        return outcomes if finish is None else finish(outcomes)

    def _sets(self, values: NDArray[np.float64], seeds: Sequence[int]) -> list[Outcomes] | None:
        """All sets of values in one run for each circuit; None where that cannot be."""
        assert self.program is not None
        circuits = _program(self.program)
        columns = []
        for number, circuit in enumerate(circuits):
            column = run_sets(circuit, values, self.shots, seeds[number :: len(circuits)])
            if column is None:
                return None
            columns.append(column)
        return [outcome for outcomes in zip(*columns, strict=True) for outcome in outcomes]


@lru_cache(maxsize=1)
def own_simulator() -> QPU:
    """Aer, on the GPU that this worker has if its Aer knows GPUs, else with as many threads as it has cores."""
    variable = os.environ.get("PILOT_GPU_VARIABLES", "CUDA_VISIBLE_DEVICES").partition(",")[0]
    if os.environ.get(variable, "") not in ("", "-1"):
        try:
            return device.simulator("aer:?device=GPU")
        except QPUUnavailable as error:
            log.warning("the GPU is not used: %s", error)
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return device.simulator("aer" if threads == "1" else f"aer:?threads={threads}")


@dataclass(frozen=True)
class ExactValues(Execution):
    """Expectation values from the state itself, on this process's simulator."""

    #: The task is all of its whole: it gives an `Expectation`, as `exact` makes it with this; None: it gives values.
    single: bool | None = None

    def __call__(self, given: Any, observables: Sequence[Any]) -> NDArray[np.float64] | Expectation:
        """The values ``(n_circuits, n_observables)``, or what `exact` makes of them.

        Args:
            given: as for `Simulation`.
            observables: `SparsePauliOp`s on the circuits' qubits.
        """
        values = self._values(given, observables)
        return values if self.single is None else exact(self.single, [values])

    def _values(self, given: Any, observables: Sequence[Any]) -> NDArray[np.float64]:
        (circuit,) = _program(given if self.program is None else self.program)
        try:
            if self.program is None:
                return exact_values(circuit, observables)[None]
            return values_in(_state(self.program), observables, given)
        except PilotError:
            raise
        except Exception as error:  # AerError, a memory error, a gate that its compiler cannot take
            raise QPUError(f"aer: circuit {circuit.name!r}: {error}", qpu="aer") from error


@dataclass(frozen=True)
class DeviceRun(Execution, JointFunction):
    """Compiles circuits for the device that this worker has and runs them there, those of several tasks in one job."""

    #: Of each circuit; or, where all calls have so many circuits, of each one by its place.
    shots: int | tuple[int, ...] = 1024
    level: int = 2
    #: Against errors, as `mitigation.stages` takes them.
    stages: tuple[Any, ...] = ()
    #: Of so many compiled circuits the best is taken.
    tries: int = 1
    #: That is expected of each circuit at least; with several sets of values, with the first.
    min_fidelity: float = 0.0
    #: Puts circuits of these tasks on the device at the same time; None: each has it for itself.
    bundler: Bundler | None = None

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run several tasks in as few jobs as possible; each is ``(given, seeds, finish)`` as for `Simulation`."""
        # without a device of its own this is the worker of a core: no QPU met what was demanded
        qpu = own_simulator() if device.held is None else device.held.open()
        compiler = compiler_of(qpu)
        compiler.refresh()
        results: list[Any] = [None] * len(calls)
        jobs: list[_Job] = []
        for number, (given, seeds, _) in enumerate(calls):
            try:
                jobs.append(_Job(number, self._compiled(compiler, given), seeds, self._bare(given)))
            except Exception as error:
                results[number] = error
        for number, outcomes in self._run(qpu, compiler, jobs):
            finish = calls[number][2]
            try:
                if isinstance(outcomes, BaseException):
                    raise outcomes
                result = outcomes.found if finish is None else finish(outcomes.found)
                results[number] = Noted(result, outcomes.note) if outcomes.note else result
            except Exception as error:
                results[number] = error
        return results

    def _bare(self, given: Any) -> list[QuantumCircuit]:
        """The circuits as they were given, where they may have to be compiled for a part of the device."""
        return [] if self.bundler is None else list(self.circuits(given))

    def _compiled(self, compiler: Compiler, given: Any) -> list[QuantumCircuit]:
        program = self.program if self.program is None or _can_be_compiled(self.program) else None
        bare = list(self.circuits(given)) if program is None else _program(program)
        programs = [compiler.compile(circuit, self.level, self.tries) for circuit in bare]
        found = programs
        if program is not None:
            names = [[parameter.name for parameter in circuit.parameters] for circuit in bare]
            found = [
                circuit.assign_parameters(dict(zip(its_names, values, strict=True)), strict=False)
                for values in given
                for circuit, its_names in zip(programs, names, strict=True)
            ]
        if self.min_fidelity and device.held is not None:
            self._check_fidelity(compiler, bare if program is None else [bind(each, given[0]) for each in bare], found)
        return found

    def _check_fidelity(
        self, compiler: Compiler, circuits: Sequence[QuantumCircuit], compiled: Sequence[QuantumCircuit]
    ) -> None:
        """Refuse circuits that the device is not expected to run well enough; those that they became stand first."""
        fidelities = compiler.fidelities
        if fidelities is None and compiler.has_medians:
            return
        for circuit, its in zip(circuits, compiled, strict=False):
            found = None if fidelities is None else fidelities.estimate(its, ideal_of(circuit))
            if found is not None and found.value >= self.min_fidelity:
                continue
            known = "reports no errors" if found is None else f"has a fidelity of about {found.value:.3f}"
            value, spread = (0.0, None) if found is None or isnan(found.value) else found[:2]
            raise QPUError(
                f"{compiler.name} {known} for circuit {circuit.name!r}, but {self.min_fidelity:g} is needed: lower "
                "min_fidelity, name another QPU, or cut the circuit (pilot.quantum.cutting)",
                qpu=compiler.name,
                offer=QPUEstimate(
                    compiler.name, fidelity=value, fidelity_spread=spread, calibrated=compiler.calibrated
                ),
            )

    def _run(self, qpu: QPU, compiler: Compiler, jobs: list[_Job]) -> Iterator[tuple[int, Ended | Exception]]:
        """Outcomes by task, or why there are none. When several tasks fail together, each is tried alone: one may be
        the cause."""
        if not jobs:
            return
        try:
            outcomes = self._outcomes(qpu, compiler, jobs)
        except (QPUCancelled, QPUUnavailable) as error:
            yield from ((job.number, error) for job in jobs)
        except Exception as error:
            if len(jobs) == 1:
                yield jobs[0].number, error
            else:
                for job in jobs:
                    yield from self._run(qpu, compiler, [job])
        else:
            yield from zip((job.number for job in jobs), outcomes, strict=True)

    def _outcomes(self, qpu: QPU, compiler: Compiler, jobs: list[_Job]) -> list[Ended]:
        """Outcomes of each task: its circuits folded for each factor of the extrapolation (those of one circuit side by
        side), and the circuits that the stages add for all of them together."""
        about = Device(target=compiler.target, name=qpu.name, calibrated=compiler.calibrated)
        mitigation = stages(self.stages, _calibrations)
        bundles = self._bundles(compiler, jobs)
        seeds = [seed for job in jobs for seed in job.seeds]
        seeds = [seeds[bundle.members[0]] for bundle in bundles]
        every = self._shots(jobs)
        circuits = [joined(bundle.circuits) for bundle in bundles]
        factors = 1
        run = [1.0] * len(circuits)
        if mitigation.zero_noise is not None:
            scaled = mitigation.zero_noise.scaled(circuits, about)
            factors = len(scaled)
            run = [factor for circuit in circuits for factor in mitigation.zero_noise.factors_of(circuit)]
            circuits = [circuit for same in zip(*scaled, strict=True) for circuit in same]
        shots = [every[bundle.members[0]] for bundle in bundles for _ in range(factors)]
        planned = mitigation.stage.plan(circuits, shots, about, seeds[0])
        if len(planned.circuits) != len(seeds):
            seeds = draw_seeds(seeds, len(planned.circuits))
        combined = planned.combine(_run_all(qpu, planned, seeds))
        found = [replace(one, noise_factor=factor) for one, factor in zip(combined, run, strict=True)]
        return list(by_task(bundles, found, factors, [len(job.circuits) for job in jobs], qpu.name))

    def _bundles(self, compiler: Compiler, jobs: Sequence[_Job]) -> list[Bundle]:
        """All circuits of these tasks, in the order of the tasks; alone, unless they share."""
        compiled = [circuit for job in jobs for circuit in job.circuits]
        if self.bundler is None or len(compiled) == 1 or compiler.target is None:
            return [Bundle.alone(number, circuit) for number, circuit in enumerate(compiled)]
        bare = [circuit for job in jobs for circuit in job.bare]
        shots, found = self._shots(jobs), list[Bundle]()
        for same in dict.fromkeys(shots):
            numbers = [number for number, its in enumerate(shots) if its == same]
            members = [Member(bare[number], compiled[number]) for number in numbers]
            for bundle in self.bundler.bundles(members, compiler, self.level, self.min_fidelity):
                found.append(bundle._replace(members=tuple(numbers[at] for at in bundle.members)))
        if sorted(number for bundle in found for number in bundle.members) != list(range(len(compiled))):
            raise PluginError(f"{self.bundler!r}: its bundles do not have each of the {len(compiled)} circuits once")
        return found

    def _shots(self, jobs: Sequence[_Job]) -> list[int]:
        """Of each circuit of these tasks."""
        if isinstance(self.shots, tuple):
            return [its for _ in jobs for its in self.shots]
        return [self.shots for job in jobs for _ in job.circuits]


class _Job(NamedTuple):
    """A task on its way through the device."""

    #: Its place among the tasks that run together.
    number: int
    #: Compiled, and one seed for each.
    circuits: list[QuantumCircuit]
    seeds: Sequence[int]
    #: The circuits as they were given; empty: they share with none.
    bare: list[QuantumCircuit]


#: Readout matrices that this worker has measured.
_calibrations = Calibrations()


def _run_all(qpu: QPU, planned: Planned, seeds: Sequence[int]) -> list[Outcomes]:
    """One for each circuit, in as few jobs as the device takes: those with the same number of shots together."""
    held, info = device.held, qpu.info()
    outcomes: dict[int, Outcomes] = {}
    for shots in dict.fromkeys(planned.shots):
        same = [place for place, its in enumerate(planned.shots) if its == shots]
        most = info.max_circuits or len(same)
        for first in range(0, len(same), most):
            part = same[first : first + most]
            run = Run(
                circuits=[planned.circuits[place] for place in part],
                shots=shots,
                seeds=[seeds[place] for place in part],
                on_job=no_job if held is None else held.job_began,
            )
            try:
                outcomes.update(zip(part, run_on(qpu, run), strict=True))
            finally:
                if held is not None:
                    held.job_ended()
    return [outcomes[place] for place in range(len(planned.circuits))]


def no_job(job: str) -> None:
    """A simulator's jobs need not be cancelled after the death of a worker."""


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


def without_noise(
    zero_noise: ZeroNoise,
    constants: NDArray[np.float64],
    norms: NDArray[np.float64],
    finish: Finish,
    outcomes: list[Outcomes],
) -> Any:
    """The `Expectation` that zero-noise extrapolation gives.

    Args:
        zero_noise: the stage.
        constants: ``(n_observables,)``, values in the fully mixed state.
        norms: ``(n_observables,)``, how far a value can be from that.
        finish: makes an `Expectation` of the outcomes of one factor.
        outcomes: for each circuit those of all factors, in their order. Where circuits ran with different factors,
            since they have different numbers of gates, the fit takes the mean.
    """
    number = len(zero_noise.factors)
    noisy = [finish(outcomes[place::number]) for place in range(number)]
    shape = noisy[0].values.shape
    found = zero_noise.extrapolate(
        np.array([one.values.ravel() for one in noisy]),
        np.array([one.standard_errors.ravel() for one in noisy]),
        np.broadcast_to(constants, shape).ravel(),
        [float(np.mean([one.noise_factor for one in outcomes[place::number]])) for place in range(number)],
        np.broadcast_to(norms, shape).ravel(),
    )
    return Expectation(
        values=found.values.reshape(shape),
        standard_errors=found.standard_errors.reshape(shape),
        terms=(),
        extrapolation=found.forms.reshape(shape),
    )


def exact(single: bool, parts: Sequence[NDArray[np.float64]]) -> Expectation:
    """Exact values as an `Expectation`: ``(n_observables,)`` if there is a ``single`` set, else ``(n_sets, …)``."""
    values = np.concatenate(parts)[0] if single else np.concatenate(parts)
    return Expectation(values=values, standard_errors=np.zeros_like(values), terms=())
