"""Qiskit's estimator over a manager."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.primitives import BaseEstimatorV2, DataBin, EstimatorPubLike, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.quantum_info import SparsePauliOp

from pilot.descriptions import TaskDescription
from pilot.quantum.faces.jobs import PilotPrimitiveJob
from pilot.quantum.faces.option_groups import OptionGroup
from pilot.quantum.faces.options import ESTIMATOR, Settings, options_of, precision_of, settings_of, shots_of
from pilot.quantum.faces.submission import coerced, submit_pubs, task_fields
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.runner import Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where results cannot be exact, the default: as Qiskit's ``BackendEstimatorV2``, 4,096 shots.
DEFAULT_PRECISION = 1 / 64


class PilotEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """Expectation values from a manager's pilots: ``BaseEstimatorV2`` for Qiskit's algorithms and add-ons.

    Sets of parameter values that need the same observables travel as one circuit and one array; Pauli terms that agree
    on every qubit are measured together. All pubs of a run are submitted at once and run side by side.
    """

    def __init__(
        self,
        manager: Runner,
        *,
        qpu: str | None = None,
        default_precision: float | None = None,
        seed: np.random.Generator | int | None = None,
        options: Any = None,
        **fields: Any,
    ) -> None:
        """Make it.

        Args:
            manager: who submits the tasks.
            qpu: what runs the circuits, as in ``TaskDescription.qpu``: "aer", "fake:kolkata", "*". Default: exact
                values are simulated, others come from any device that the pilots have, else from a simulator.
            default_precision: of pubs and runs without a precision: the target for the standard error of
                one Pauli string. It takes ``ceil(1 / precision**2)`` shots of each group of terms; 0: exact, on
                simulators only.
                Default: 0 where ``qpu`` is not given or "aer", else 1/64.
            seed: an integer gives the same values at each run (on simulators), a generator goes on from run to run.
            options: those of qiskit-ibm-runtime's estimator by the same names, a dict or its own ``EstimatorOptions``.
                What is set there, or later (``estimator.options.resilience_level = 1``), counts before the arguments
                here; ``default_shots`` counts before ``default_precision``.
            **fields: more fields of each `TaskDescription`, as for `PilotSampler`.

        Raises:
            DescriptionError: an option or a field is unknown, or its value is not valid; or it is not carried out.
        """
        self._manager = manager
        self._qpu, self._given = qpu, fields
        self._fields = task_fields(type(self).__name__, qpu, fields)
        self._options = options_of(type(self).__name__, ESTIMATOR, options)
        if default_precision is None:
            default_precision = 0.0 if qpu in (None, "aer") else DEFAULT_PRECISION
        shots_of(default_precision)
        self._default_precision = default_precision
        self._seed = seed

    @property
    def options(self) -> OptionGroup:
        """What is set under the names of qiskit-ibm-runtime's ``EstimatorOptions``. Each run takes what is set then."""
        return self._options

    @options.setter
    def options(self, given: Any) -> None:
        self._options = options_of(type(self).__name__, ESTIMATOR, given)

    @property
    def default_precision(self) -> float:
        """Precision of pubs and runs without one."""
        return self._precision(self._settings())

    @property
    def seed(self) -> np.random.Generator | int | None:
        """As it was given, here or in the options."""
        chosen = self._settings().seed
        return self._seed if chosen is None else chosen

    def _precision(self, settings: Settings) -> float:
        if settings.shots is not None:
            return precision_of(settings.shots)
        return self._default_precision if settings.precision is None else settings.precision

    def _settings(self) -> Settings:
        shots = shots_of(self._options.default_precision or self._default_precision)
        return settings_of(self._options, self._fields.get("mitigation"), shots)

    def run(self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None) -> PilotPrimitiveJob:
        """Submit all pubs; does not block.

        Args:
            pubs: tuples of circuit, observables, parameter values and precision.
            precision: of pubs without one.

        Returns:
            A job. Each of its results has ``evs`` and ``stds``, of the pub's shape. ``stds`` are standard errors as the
            shots' scatter shows them; 0 for exact values.

        Raises:
            TypeError, ValueError: a pub is not valid; Qiskit's errors.
            DescriptionError: a circuit or an option cannot be run; exact values of a device.
        """
        settings = self._settings()
        default = self._precision(settings) if precision is None else precision
        checked = [coerced(EstimatorPub, pub, default) for pub in pubs]
        fields = self._fields
        if settings.fields:
            fields = task_fields(type(self).__name__, self._qpu, {**self._given, **settings.fields})
        return submit_pubs(self._manager, partial(_plan, fields), checked, self.seed, settings.tags)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """The tasks of one pub. Each has some of the pub's sets of values and some of its distinct observables."""

    pub: EstimatorPub
    shots: int | None
    descriptions: tuple[TaskDescription, ...]
    #: Of each task, the numbers of its sets and of its observables.
    parts: tuple[tuple[list[int], list[int]], ...]
    #: Of each entry of the result, its set and its observable; both of the pub's shape.
    sets: NDArray[np.intp]
    observables: NDArray[np.intp]

    def result(self, results: Sequence[Any]) -> PubResult:
        """What the pub gives, from the tasks' expectation values."""
        shape = (int(self.sets.max(initial=-1)) + 1, int(self.observables.max(initial=-1)) + 1)
        values, errors = np.zeros(shape), np.zeros(shape)
        for (sets, observables), one in zip(self.parts, results, strict=True):
            values[np.ix_(sets, observables)] = one.values
            errors[np.ix_(sets, observables)] = one.standard_errors
        evs, stds = (np.asarray(table[self.sets, self.observables]) for table in (values, errors))
        metadata = {"target_precision": self.pub.precision, "circuit_metadata": self.pub.circuit.metadata}
        if self.shots is not None:
            metadata["shots"] = self.shots
        return PubResult(DataBin(evs=evs, stds=stds, shape=self.pub.shape), metadata=metadata)


def _plan(fields: dict[str, Any], pub: EstimatorPub, seed: int) -> _Plan:
    shots = shots_of(pub.precision)
    operators, numbers = _distinct(pub.observables.sparse_observables_array())
    indices = np.arange(pub.parameter_values.size).reshape(pub.parameter_values.shape)
    sets, observables = np.broadcast_arrays(indices, numbers)
    parts = _parts(sets, observables, together=bool(pub.circuit.parameters))
    values = pub.parameter_values.as_array(pub.circuit.parameters).reshape(indices.size, pub.circuit.num_parameters)
    descriptions = []
    for (its_sets, its_observables), its_seed in zip(parts, draw_seeds(seed, len(parts)), strict=True):
        descriptions.append(
            TaskDescription(
                circuit=pub.circuit,
                observables=[operators[number] for number in its_observables],
                parameters=values[its_sets] if pub.circuit.parameters else None,
                shots=shots,
                seed=its_seed,
                **fields,
            )
        )
    return _Plan(
        pub=pub, shots=shots, descriptions=tuple(descriptions), parts=tuple(parts), sets=sets, observables=observables
    )


def _distinct(observables: NDArray[Any]) -> tuple[list[SparsePauliOp], NDArray[np.intp]]:
    """The observables that differ, and for each entry of the array the number of its own."""
    known: dict[Any, int] = {}
    operators: list[SparsePauliOp] = []
    numbers = np.zeros(observables.shape, dtype=np.intp)
    for index, observable in np.ndenumerate(observables):
        key = tuple((letters, tuple(qubits), coeff) for letters, qubits, coeff in observable.to_sparse_list())
        if key not in known:
            known[key] = len(operators)
            operators.append(SparsePauliOp.from_sparse_observable(observable))
        numbers[index] = known[key]
    return operators, numbers


def _parts(sets: NDArray[np.intp], observables: NDArray[np.intp], together: bool) -> list[tuple[list[int], list[int]]]:
    """Sets of values that need the same observables, and these; one set each unless they can go ``together``."""
    needed: dict[int, set[int]] = {}
    for index, observable in zip(sets.ravel().tolist(), observables.ravel().tolist(), strict=True):
        needed.setdefault(index, set()).add(observable)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, its in needed.items():
        groups.setdefault(tuple(sorted(its)), []).append(index)
    parts = []
    for its_observables, its_sets in groups.items():
        chunks = [its_sets] if together else [[one] for one in its_sets]
        parts += [(chunk, list(its_observables)) for chunk in chunks]
    return parts


def mitiq_executor(
    manager: Runner, observable: Any, *, qpu: str | None = None, precision: float | None = None, **options: Any
) -> Callable[[Sequence[QuantumCircuit]], list[float]]:
    """A batched executor for mitiq: ``execute_with_zne(circuit, mitiq_executor(manager, "ZZ", qpu="fake:kolkata"))``.

    mitiq hands over all circuits of a method at once (``mitiq.Executor``), and they run side by side on the pilots.
    ``optimization_level`` is 0 unless given: a compiler that cancels gates would undo folding.

    Args:
        manager: who submits the tasks.
        observable: what is measured in every circuit: a Pauli string with qubit 0 last, or Qiskit's ``SparsePauliOp``.
        qpu: as for `PilotEstimator`.
        precision: as its ``default_precision``.
        **options: as its options; and ``seed``.

    Returns:
        A function from circuits to expectation values, in their order. It blocks.
    """
    options = {"optimization_level": 0, **options}
    estimator = PilotEstimator(manager, qpu=qpu, default_precision=precision, **options)

    def execute(circuits: Sequence[QuantumCircuit]) -> list[float]:  # mitiq reads the annotations
        results = estimator.run([(circuit, observable) for circuit in circuits]).result()
        return [float(result.data.evs) for result in results]

    return execute
