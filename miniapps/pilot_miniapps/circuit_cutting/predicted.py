"""What the predictor of `pilot.quantum.cutting` says of these pilots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import msgspec

from pilot.quantum.cutting import CutPlan, Predictor, Workers, plan, predict
from pilot_miniapps.circuit_cutting.problem import Problem
from pilot_miniapps.frame import Run


class Predicted:
    """Predicted seconds, from a calibration of the pilots that takes some seconds and is kept in the run's folder."""

    def __init__(self, workers: Sequence[Workers]) -> None:
        self._predictor = Predictor(workers)
        self._workers = workers

    @classmethod
    def on(cls, run: Run) -> Predicted:
        """Of the run's pilots. Blocks while they are measured; a resumed run reads what was measured."""
        file = run.folder / "calibration.json"
        if not file.exists():
            with run.part("calibration"):
                workers = Predictor().calibrate(run.manager).workers
            _write(file, workers)
        return cls(msgspec.json.decode(file.read_bytes(), type=list[Workers]))

    def cut(self, planned: CutPlan, pilots: Sequence[str]) -> float:
        """Seconds of a plan on the pilots of these names, without the planning."""
        return self._predictor.predict(planned, pilots).seconds

    def state_vector(self, problem: Problem) -> float:
        """Seconds of the whole circuit by state vector on one slot, whether it fits into memory or not."""
        whole = plan(problem.circuit, problem.observable, problem.circuit.num_qubits)
        return predict(whole, [replace(self._workers[0], slots=1, nodes=1, memory=math.inf)]).seconds


def _write(file: Path, workers: Sequence[Workers]) -> None:
    part = file.with_suffix(".part")
    part.write_bytes(msgspec.json.encode([asdict(one) for one in workers]))
    part.replace(file)
