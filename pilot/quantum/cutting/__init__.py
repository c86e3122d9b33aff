"""Circuit cutting: the expectation value of a circuit too wide to run, from runs of narrower pieces.

    planned = plan(circuit, ["ZZII"], max_qubits=2)     # where to cut, which subexperiments that takes
    result = planned.run(manager)                       # one task a distinct subexperiment, on all pilots
    print(result.values, result.standard_errors)

Gates and wires between pieces are replaced by sums of local operations with positive and negative
coefficients: a quasi-probability decomposition (Mitarai and Fujii, New J. Phys. 23 023021, 2021; Peng et al.,
PRL 125 150504, 2020). qiskit-addon-cutting finds the cuts and knows the decompositions. What is ours: each
distinct subexperiment is made and run once, reconstruction is array arithmetic, and every value comes with
its standard error.

Read next: `planning` (where to cut), `fragments` (what to run), `reconstruction` (what it adds up to).
"""

from pilot.quantum.cutting.planning import Cut, CutPlan, gather, plan
from pilot.quantum.cutting.reconstruction import CutResult

__all__ = ["Cut", "CutPlan", "CutResult", "gather", "plan"]
