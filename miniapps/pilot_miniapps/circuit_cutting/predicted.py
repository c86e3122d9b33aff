"""What the predictor of `pilot.quantum.cutting` says of these pilots."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from pilot import Pilot, Task, TaskDescription
from pilot.quantum.cutting import Costs, CutPlan, Predictor, Workers, gather, plan, predict
from pilot.quantum.cutting.prediction import Probe, probe
from pilot_miniapps.circuit_cutting.problem import Problem
from pilot_miniapps.frame import Run


class Predicted:
    """Predicted seconds, from what every slot of the pilots measured of itself."""

    def __init__(self, workers: Sequence[Workers]) -> None:
        self._predictor = Predictor(workers)
        self._workers = workers

    @classmethod
    def on(cls, run: Run) -> Predicted:
        """Of the run's pilots. Blocks for the second or two that their slots take, all at the same time.

        `Predictor.calibrate` measures more, the way of a circuit to a worker; but its tasks have no keys, so that a
        run that is resumed would do them again.
        """
        with run.part("calibration"):
            measured = {pilot.name: _probes(run, pilot) for pilot in run.pilots}
            return cls([_workers(pilot, gather(measured[pilot.name])) for pilot in run.pilots])

    def cut(self, planned: CutPlan, pilots: Sequence[str]) -> float:
        """Seconds of a plan on the pilots of these names, without the planning."""
        return self._predictor.predict(planned, pilots).seconds

    def state_vector(self, problem: Problem) -> float:
        """Seconds of the whole circuit by state vector on one slot, whether it fits into memory or not."""
        whole = plan(problem.circuit, problem.observable, problem.circuit.num_qubits)
        return predict(whole, [replace(self._workers[0], slots=1, nodes=1, memory=math.inf)]).seconds


def _probes(run: Run, pilot: Pilot) -> list[Task]:
    """A task for each slot of a pilot, with what it measures."""
    slots = pilot.description.cores * pilot.description.number_of_nodes
    return [
        run.submit_task(f"calibration of {pilot.name}, {number}", TaskDescription(function=probe, pilot=pilot.name))
        for number in range(slots)
    ]


def _workers(pilot: Pilot, probes: Sequence[Probe]) -> Workers:
    described = pilot.description
    return Workers(
        name=pilot.name,
        slots=described.cores,
        nodes=described.number_of_nodes,
        memory=float(described.memory or min(each.memory for each in probes)),
        costs=Costs(
            vector_slowness=statistics.median(each.vector_slowness for each in probes),
            product_slowness=statistics.median(each.product_slowness for each in probes),
        ),
    )
