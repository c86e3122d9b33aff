"""A thinned sweep of gates through the doors that circuits come through; the whole is benchmarks/gates.py."""

import sys
from pathlib import Path

import pytest

from pilot.errors import DescriptionError

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

#: Of each way that a gate is made, known to simulators, and carried to a worker, one.
GATES = [
    "rx",
    "cp",
    "cu",
    "h",
    "ccx",
    "StatePreparation",
    "UCGate",
    "ModularAdderGate",
    "Initialize",
]
FORMS = ["plain", "inverse", "open control", "annotated control", "inside to_gate()", "inside to_instruction()"]
#: Texts refuse much for reasons of their own; sampling takes longer and is covered by the random circuits.
DOORS = ["exact", "several sets", "distribution", "folding"]


@pytest.fixture(scope="module")
def sweep():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _gate_cases
        import _random_gates
    finally:
        sys.path.remove(str(BENCHMARKS))
    return _gate_cases, _random_gates


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # of Qiskit's matrix of an evolution
@pytest.mark.parametrize("gate", GATES)
def test_gates_do_the_same_through_every_door(sweep, gate):
    cases, _ = sweep
    seen = 0
    for case in cases.cases(gate, FORMS):
        for door in DOORS:
            try:
                error = cases.DOORS[door](case)
            except DescriptionError:
                assert door == "folding", (case.form, door)  # it takes gates alone
                continue
            seen += error is not None
            assert error is None or error <= cases.TOLERANCE[door], (case.form, door)
    assert seen >= len(DOORS) - 2


@pytest.mark.parametrize("seed", [0, 1, 3, 5, 7, 9, 11, 13])  # even ones have conditions, which take longer
def test_random_circuits_with_own_gates_of_taken_names(sweep, seed):
    cases, random_gates = sweep
    case = random_gates.random_case(seed)
    for door in ("counts", "counts of a matrix product state"):
        assert random_gates.DOORS[door](case) <= cases.SIGMAS, door
    if not case.circuit.has_control_flow_op():
        assert random_gates.DOORS["distribution"](case) <= random_gates.TOLERANCE["distribution"]
