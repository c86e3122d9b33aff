"""Circuit cutting: values and distributions of a circuit too wide to run, from runs of narrower pieces.

    planned = plan(circuit, ["ZZII"], max_qubits=2)     # where to cut, which subexperiments that takes
    result = planned.run(manager)                       # one task a distinct subexperiment, on all pilots
    print(result.values, result.standard_errors)

    planned = plan(circuit, max_qubits=range(8, 18))    # no observables: the distribution of its measurements
    print(planned.reason)
    print(planned.run(manager, total_shots=100_000, qpu="*").distribution.get_counts())

Gates and wires between pieces are replaced by sums of local operations with positive and negative
coefficients: a quasi-probability decomposition (Mitarai and Fujii, New J. Phys. 23 023021, 2021; Peng et al.,
PRL 125 150504, 2020). qiskit-addon-cutting finds the cuts and knows the decompositions. What is ours: each
distinct subexperiment is made and run once, shots go where they count, reconstruction is array arithmetic and
gives distributions too, and every value comes with its standard error.

Read next: `planning` (which sizes), `cuts` (where), `fragments` and `subexperiments` (what to run), `cut_plan` (how it
runs), `samples` (what that gave), `reconstruction` and `distributions` (what it adds up to), `prediction` (whether it
pays).
"""

from pilot.quantum.cutting.costs import Costs, Workers, predict
from pilot.quantum.cutting.cut_plan import CutPlan
from pilot.quantum.cutting.cuts import Cut
from pilot.quantum.cutting.distributions import nearest
from pilot.quantum.cutting.planning import plan
from pilot.quantum.cutting.prediction import Predictor
from pilot.quantum.cutting.results import CutCandidate, CutResult, Distribution, Prediction
from pilot.quantum.runner import gather

__all__ = [
    "Costs",
    "Cut",
    "CutCandidate",
    "CutPlan",
    "CutResult",
    "Distribution",
    "Prediction",
    "Predictor",
    "Workers",
    "gather",
    "nearest",
    "plan",
    "predict",
]
