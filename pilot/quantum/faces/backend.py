"""Qiskit's backend over a manager."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.providers import BackendV2, Options
from qiskit.result import Result
from qiskit.result.models import ExperimentResult, ExperimentResultData

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, did_you_mean, invalid
from pilot.interfaces.qpus import measures
from pilot.quantum.faces.jobs import PilotJob
from pilot.quantum.faces.submission import check_gives_shots, ran_on, shot_order, task_fields
from pilot.quantum.noise import PackedNoiseModel
from pilot.quantum.outcomes import draw_seeds, is_whole
from pilot.quantum.runner import Runner
from pilot.quantum.simulator_instructions import refuse_simulator_instructions
from pilot.quantum.targets import known_info, target_of

if TYPE_CHECKING:
    from qiskit.transpiler import Target

    from pilot.quantum.outcomes import Outcomes

#: Seconds that a device is waited for.
TARGET_SECONDS = 600.0
#: Options of a run, and those of other backends that stand for what this one does anyway, with that value.
_OPTIONS = ("shots", "memory", "seed_simulator", "noise_model")
_SAME_HERE: dict[str, tuple[Any, ...]] = {
    "meas_level": (2,),
    "meas_return": ("single", "avg"),  # of level 2 there is one kind
    "init_qubits": (True,),
}
#: Options of ``AerSimulator`` that change speed, not results.
_ONLY_SPEED = ("max_parallel_threads", "max_parallel_experiments", "max_parallel_shots", "executor", "max_job_size")


class PilotBackend(BackendV2):  # type: ignore[misc]
    """A manager's pilots as one Qiskit backend: circuits written for its target run as they are.

    Its target is that of a QPU, errors and times included, or all gates between all qubits where simulators run the
    circuits. A copy of it, deep ones too, has the same manager.
    """

    def __init__(
        self, manager: Runner, qpu: str | None = None, *, shots: int = 1024, name: str | None = None, **options: Any
    ) -> None:
        """Make it; the QPU is looked up, and waited for, when its target is first asked for.

        Args:
            manager: who submits the tasks.
            qpu: as in ``TaskDescription.qpu``: "aer", "fake:kolkata". Default: simulators.
            shots: of runs without a number of shots.
            name: what the backend is called. Default: the QPU's name, or "pilot".
            **options: more fields of each `TaskDescription`, as for `PilotSampler`. ``optimization_level`` is 0 unless
                given: circuits stay on the qubits that they were written for.

        Raises:
            DescriptionError: an option is unknown, or its value is not valid.
        """
        _check_shots(shots)
        super().__init__(name=name or qpu or "pilot", description=f"circuits on {qpu or 'simulators'} through pilots")
        self._manager = manager
        self._qpu = qpu or "aer"
        self._fields = task_fields(type(self).__name__, self._qpu, {"optimization_level": 0, **options})
        check_gives_shots(type(self).__name__, self._fields)
        self._target: Target | None = None
        self.set_options(shots=shots)

    @classmethod
    def _default_options(cls) -> Options:
        return Options(shots=1024, memory=False, seed_simulator=None, noise_model=None)

    @classmethod
    def from_backend(cls, manager: Runner, backend: BackendV2, **settings: Any) -> PilotBackend:
        """A backend that simulates another one on the pilots' cores, with its target and its noise.

        Args:
            manager: who submits the tasks.
            backend: an ``AerSimulator`` whose noise model is taken, or any ``BackendV2``, whose noise is that of
                ``NoiseModel.from_backend``.
            **settings: further arguments as for `PilotBackend`, but ``qpu``.

        Raises:
            DescriptionError: it is not a backend, or it is a simulator with an option that changes results and that
                pilots do not have.
        """
        if not isinstance(backend, BackendV2):
            raise invalid("from_backend.backend", backend, "a BackendV2", shown=type(backend).__name__)
        from qiskit_aer import AerSimulator
        from qiskit_aer.noise import NoiseModel

        if isinstance(backend, AerSimulator):
            model = backend.options.noise_model
            usual = dict(AerSimulator().options)
            for key, value in dict(backend.options).items():
                if key not in (*_OPTIONS, *_ONLY_SPEED) and value != usual.get(key):
                    raise DescriptionError(
                        f"from_backend: the simulator has {key}={value!r}, which pilots do not take; "
                        "its noise model, target and number of shots are taken",
                        field=key,
                        given=value,
                    )
        else:
            model = NoiseModel.from_backend(backend)
        shots = getattr(backend.options, "shots", None) or 1024
        made = cls(manager, **{"shots": shots, "name": backend.name, "noise_model": model, **settings})
        made._target = backend.target
        return made

    def __copy__(self) -> PilotBackend:
        return self._copied(self.options)

    def __deepcopy__(self, memo: dict[int, Any]) -> PilotBackend:
        """A backend over the same manager, with options of its own."""
        return self._copied(copy.deepcopy(self.options, memo))

    def _copied(self, options: Options) -> PilotBackend:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._options = options
        return made

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} over {self._manager!r}>"

    @property
    def target(self) -> Target:
        """What circuits are written for. Blocks while a pilot that has the QPU is starting, at most 10 minutes.

        Raises:
            QPUUnavailable: no pilot has the QPU, it cannot be used, or its pilot is still starting after that time.
        """
        if self._target is None:
            self._target = target_of(known_info(self._manager, self._qpu, TARGET_SECONDS))
        return self._target

    @property
    def max_circuits(self) -> None:
        """None: as many as wanted; tasks are split where a QPU has a limit."""
        return

    def run(self, run_input: QuantumCircuit | Sequence[QuantumCircuit], **options: Any) -> PilotJob:
        """Submit circuits; does not block.

        Args:
            run_input: one circuit or many, written for `target`, their parameters bound.
            **options: ``shots``, ``memory`` (the outcome of each shot, in random order), ``seed_simulator`` and
                ``noise_model`` (of qiskit_aer.noise; not on a device). None: the backend's own options.

        Raises:
            DescriptionError: something that is not a circuit, a circuit with free parameters or with instructions that
                save a simulator's state, an option that this backend has not, or a number of shots that is none.
        """
        several = isinstance(run_input, Iterable) and not isinstance(run_input, QuantumCircuit)
        circuits = list(run_input) if several else [run_input]
        for key, value in options.items():
            _check_option(key, value)
        settings = {**dict(self.options), **{key: value for key, value in options.items() if value is not None}}
        shots, seed = settings["shots"], settings["seed_simulator"]
        _check_shots(shots)
        fields = dict(self._fields)
        if settings["noise_model"] is not None:
            fields["noise_model"] = PackedNoiseModel.of(settings["noise_model"])
        drawn = draw_seeds(seed, len(circuits))
        own_seeds = [None] * len(drawn) if seed is None and fields.get("noise_model") is not None else drawn
        descriptions = [
            TaskDescription(circuit=circuit, shots=shots, seed=one, **fields)
            for circuit, one in zip(circuits, own_seeds, strict=True)
            if _checked(circuit)
        ]
        tasks = self._manager.submit_tasks(descriptions)
        run = _Run(
            name=self.name,
            qpu=self._qpu,
            circuits=circuits,
            shots=shots,
            seeds=drawn,
            memory=settings["memory"],
            tasks=tasks,
        )
        return PilotJob(self, tasks, run.result)


def _check_shots(shots: Any) -> None:
    """Refuse what gives no counts: without shots outcomes have probabilities."""
    if not is_whole(shots):
        raise invalid(
            "PilotBackend.shots",
            shots,
            "a whole number of at least 1, since a backend's results are counts. TaskDescription(circuit=…) without "
            "shots gives exact probabilities",
        )


def _check_option(key: str, value: Any) -> None:
    """Refuse an option that would change the result and that nothing is done with."""
    if key in _OPTIONS or value is None or value in _SAME_HERE.get(key, ()):
        return
    hint = did_you_mean(key, _OPTIONS)
    if key in _SAME_HERE:
        hint = f" of {value!r}: here it is {_SAME_HERE[key][0]!r}"
    raise DescriptionError(
        f"PilotBackend.run has no option {key!r}{hint}. It has: {', '.join(_OPTIONS)}", field=key, given=value
    )


def _checked(circuit: Any) -> bool:
    """Whether there is something to run.

    Raises:
        DescriptionError: it is not a circuit, or has free parameters.
    """
    if not isinstance(circuit, QuantumCircuit):
        raise invalid("PilotBackend.run", circuit, "a circuit, or several", shown=type(circuit).__name__)
    if circuit.parameters:
        names = ", ".join(parameter.name for parameter in circuit.parameters)
        raise DescriptionError(
            f"circuit {circuit.name!r} has free parameters ({names}): bind them, circuit.assign_parameters(…), "
            "or use PilotSampler, which takes arrays of values",
            given=circuit,
        )
    refuse_simulator_instructions(circuit)
    return measures(circuit)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one run's result is made from."""

    name: str
    qpu: str
    circuits: Sequence[QuantumCircuit]
    shots: int
    #: One a circuit.
    seeds: Sequence[int]
    memory: bool
    #: Of the circuits that measure something.
    tasks: Sequence[Future[Any]]

    def result(self, job: str, results: list[Outcomes]) -> Result:
        """From the outcomes of the tasks."""
        left = iter(zip(self.tasks, results, strict=True))
        parts = []
        for circuit, seed in zip(self.circuits, self.seeds, strict=True):
            data, qpu = ExperimentResultData(), self.qpu
            if measures(circuit):
                task, outcomes = next(left)
                data, qpu = _data(outcomes, seed if self.memory else None), ran_on([task], self.qpu)
            parts.append(
                ExperimentResult(
                    shots=self.shots,
                    success=True,
                    data=data,
                    header=_header(circuit, qpu),
                    status="DONE",
                    seed_simulator=seed,
                )
            )
        return Result(
            backend_name=self.name,
            backend_version="2",
            job_id=job,
            success=True,
            status="COMPLETED",
            results=parts,
        )


def _header(circuit: QuantumCircuit, qpu: str) -> dict[str, Any]:
    return {
        "name": circuit.name,
        "creg_sizes": [[register.name, register.size] for register in circuit.cregs],
        "qreg_sizes": [[register.name, register.size] for register in circuit.qregs],
        "memory_slots": circuit.num_clbits,
        "n_qubits": circuit.num_qubits,
        "global_phase": float(circuit.global_phase),
        "metadata": circuit.metadata,
        "qpu": qpu,
    }


def _data(outcomes: Outcomes, seed: int | None) -> ExperimentResultData:
    """Counts by hexadecimal number, classical bit 0 lowest; with a seed also the outcome of each shot, shuffled."""
    words = [hex(int.from_bytes(row.tobytes(), "little")) for row in outcomes.packed]
    counts = dict(zip(words, outcomes.weights.tolist(), strict=True))
    if seed is None:
        return ExperimentResultData(counts=counts)
    order = shot_order(outcomes, np.random.default_rng(seed))
    return ExperimentResultData(counts=counts, memory=[words[index] for index in order])
