"""Estimates of circuits as tasks on pilots: what workers run, and what the manager makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pilot.errors import DescriptionError, PilotError, QPUError
from pilot.interfaces import TaskEstimator, WorkFunction
from pilot.qos.estimator import Estimator
from pilot.qos.predictor import Prediction, Predictor, lasting
from pilot.qos.prices import PriceTable
from pilot.quantum.packing import pack, unpack
from pilot.resources import QPUEstimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pilot.descriptions import TaskDescription
    from pilot.resources import QPUInfo


@cache
def _predictor() -> Predictor:
    """This process's."""
    return Predictor()


class Predictions(NamedTuple):
    """What a worker finds for a task."""

    #: By device, of the first circuit; of a device that cannot run it, why.
    by_qpu: dict[str, Prediction | str]
    #: That run for the task, each with all shots.
    circuits: int


@dataclass(frozen=True)
class CircuitPrediction(WorkFunction):
    """Predicts circuits on these devices. The calibrations travel to each worker once."""

    infos: tuple[QPUInfo, ...] = ()
    level: int = 2
    #: What one device must be expected to reach; 0: nothing.
    min_fidelity: float = 0.0
    #: It is an error that no device can run the circuit.
    is_final: bool = True

    def __call__(self, program: bytes, values: NDArray[np.float64] | None, circuits: int = 1) -> Predictions:
        """Predict a circuit.

        Args:
            program: its QPY.
            values: of its free parameters.
            circuits: that run for the task.

        Raises:
            QPUError: none can, or none is expected to reach the fidelity; the best offer is named.
        """
        (circuit,) = unpack(program)
        found: dict[str, Prediction] = {}
        problems: dict[str, PilotError] = {}
        for info in self.infos:
            try:
                found[info.name] = _predictor().predict(circuit, info, self.level, values)
            except (QPUError, DescriptionError) as error:
                problems[info.name] = error
        if problems and not found and self.is_final:
            raise next(iter(problems.values()))
        if self.min_fidelity and found:
            self._check(circuit.name, found)
        return Predictions({**found, **{name: str(error) for name, error in problems.items()}}, circuits)

    def _check(self, name: str, found: Mapping[str, Prediction]) -> None:
        """Of a QPU that reports no errors of its parts nothing is known here."""
        offers = {qpu: one.fidelity.value for qpu, one in found.items() if one.fidelity is not None}
        best = max(offers, key=offers.__getitem__, default="")
        if len(offers) < len(found) or offers[best] >= self.min_fidelity:
            return
        raise QPUError(
            f"no QPU is expected to run circuit {name!r} with a fidelity of {self.min_fidelity:g}: the best offer is "
            f"{offers[best]:.3f} by {best} (of {len(found)}); lower min_fidelity, add another QPU, or cut the circuit "
            "(pilot.quantum.cutting)",
            qpu=best,
        )


class CircuitEstimator(TaskEstimator):
    """Estimates circuits for a manager. Run times are learned from the tasks of its session, prices are the user's.

    Raises:
        DescriptionError: the file with the prices cannot be read, or is not valid.
    """

    def __init__(self) -> None:
        self._estimator = Estimator(PriceTable.of_user())

    def work(
        self, sample: Any, wanted: TaskDescription, infos: Sequence[QPUInfo], *, final: bool
    ) -> tuple[WorkFunction, tuple[Any, ...]]:
        circuit, values, circuits = sample
        if values is not None and "delay" in circuit.count_ops():  # its length may be one of them
            circuit, values = circuit.assign_parameters(values), None
        wide = tuple(lasting(info) for info in infos if info.qubits >= circuit.num_qubits)
        is_final = final and not wanted.fallback  # else it is no error that none reaches it
        floor = (wanted.min_fidelity or 0.0) if is_final else 0.0
        return CircuitPrediction(wide, wanted.optimization_level, floor, is_final), (pack(circuit), values, circuits)

    def estimates(self, result: Any, wanted: TaskDescription, infos: Sequence[QPUInfo]) -> tuple[QPUEstimate, ...]:
        if result is None:  # no QPU had reported
            return ()
        shots = (wanted.shots or 1) * result.circuits
        its = [(result.by_qpu[info.name], info) for info in infos if info.name in result.by_qpu]
        return tuple(
            QPUEstimate(info.name, calibrated=info.calibrated, problem=one)
            if isinstance(one, str)
            else self._estimator.of_prediction(one, info, shots, result.circuits)
            for one, info in its
        )

    def learn(
        self, result: Any, wanted: TaskDescription, infos: Sequence[QPUInfo], qpu: str, weight: float, seconds: float
    ) -> None:
        for info in infos:
            if info.name == qpu and isinstance(found := result.by_qpu.get(qpu), Prediction):
                shots = round((wanted.shots or 1) * result.circuits * weight)
                self._estimator.learn(found, info, shots, seconds)
