"""The mitigator: what stages do to circuits is exact without noise, and what is chosen follows from the device."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec
import networkx
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import Operator

from pilot import QosOptions
from pilot.errors import DescriptionError, PluginError
from pilot.qos.asking import ask
from pilot.qos.families import circuit
from pilot.qos.mitigator import Context, Goal, Ising, Mitigator, QosStage, Step, Variant
from pilot.qos.mitigator.goals import probabilities
from pilot.qos.mitigator.phases import frozen, in_phases, is_mirrored, steps_of
from pilot.qos.mitigator.running import result_of
from pilot.qos.mitigator.stages.cutting import Cutting
from pilot.qos.mitigator.stages.freezing import Freezing, values_of
from pilot.qos.mitigator.stages.noise import Decoupling
from pilot.qos.mitigator.stages.readout import ReadoutCorrection
from pilot.qos.mitigator.stages.reuse import reused
from pilot.qos.mitigator.variants import Replacement, single
from pilot.quantum.fidelities import ideal_of
from pilot.quantum.mitigation import Device
from pilot.quantum.outcomes import Outcomes, registers_of
from pilot.resources import QPUInfo
from pilot.testing.stages import exact

QUICK = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
ANGLES = st.floats(-3, 3)


@st.composite
def circuits(draw: Any, most: int = 4) -> QuantumCircuit:
    """Random gates, measured at the end."""
    width = draw(st.integers(3, most))
    made = QuantumCircuit(width)
    for _ in range(draw(st.integers(2, 7))):
        one, other = draw(st.permutations(range(width)))[:2]
        gate = draw(st.sampled_from(("cx", "cz", "rzz", "block", "h", "ry")))
        if gate in ("h", "ry"):
            made.h(one) if gate == "h" else made.ry(draw(ANGLES), one)
        elif gate == "rzz":
            made.rzz(draw(ANGLES), one, other)
        elif gate == "block":
            made.cx(one, other)
            made.rz(draw(ANGLES), other)
            made.cx(one, other)
        else:
            getattr(made, gate)(one, other)
    made.measure_all()
    return made


@st.composite
def problems(draw: Any) -> Ising:
    size = draw(st.integers(2, 5))
    pairs = draw(st.lists(st.sampled_from(list(itertools.combinations(range(size), 2))), min_size=1, unique=True))
    fields = draw(st.one_of(st.just((0.0,) * size), st.tuples(*[ANGLES] * size)))
    return Ising(fields=fields, couplings={pair: draw(ANGLES) for pair in pairs}, constant=draw(ANGLES))


def context(made: QuantumCircuit, **options: Any) -> Context:
    wanted = QosOptions(**options)
    info = QPUInfo(name="device", qubits=20)
    return Context(goal=Goal.of(made, (), wanted), options=wanted, info=info, shots=10_000)


def all_bits(size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(list(itertools.product((0, 1), repeat=size)))


# ---- what stages do ---------------------------------------------------------------------------------------------


@QUICK
@given(circuits())
def test_cut_and_knit_is_the_uncut_circuit(made: QuantumCircuit) -> None:
    its, ideal = context(made, budget=2), ideal_of(made)
    assert ideal is not None
    for variant in Cutting().variants(its.goal.base(), its):
        found = variant.merge([exact(one) for one in variant.circuits], None)
        assert np.abs(probabilities(found, ideal.bits) - ideal.probabilities).max() < 1e-9


@QUICK
@given(circuits(5))
def test_reuse_keeps_the_distribution(made: QuantumCircuit) -> None:
    found, ideal = reused(made), ideal_of(made)
    its = ideal_of(found)
    assert ideal is not None and its is not None and found.num_qubits <= made.num_qubits
    assert its.bits == ideal.bits
    assert np.abs(its.probabilities - ideal.probabilities).max() < 1e-9


def test_reuse_finds_the_fewest_qubits() -> None:
    """In Bernstein and Vazirani's circuit each qubit meets the oracle's alone; in a GHZ state, its two neighbours."""
    assert reused(circuit("bv", 6)).num_qubits == 2
    assert reused(circuit("ghz", 6)).num_qubits == 2
    assert reused(circuit("bv", 6), target=4).num_qubits == 4


@QUICK
@given(circuits())
def test_phases_are_the_same_circuit(made: QuantumCircuit) -> None:
    bare = made.remove_final_measurements(inplace=False)
    assert Operator(in_phases(bare)).equiv(Operator(bare))


def test_phases_of_named_gates() -> None:
    made = QuantumCircuit(2)
    for name in ("cz", "cs", "csdg"):
        getattr(made, name)(0, 1)
    made.cp(0.3, 1, 0)
    assert set(in_phases(made).count_ops()) == {"rz", "rzz"} and Operator(in_phases(made)).equiv(Operator(made))


@QUICK
@given(problems(), st.data())
def test_frozen_problems_have_the_energies_of_the_whole(problem: Ising, data: Any) -> None:
    spins = tuple(data.draw(st.lists(st.integers(0, problem.size - 1), unique=True)))
    bits, seen = all_bits(problem.size), np.zeros(1 << problem.size, dtype=int)
    rest = [spin for spin in range(problem.size) if spin not in spins]
    for values in values_of(spins, mirrored=problem.is_symmetric):
        its = (bits[:, list(spins)] == [int(values[spin] < 0) for spin in spins]).all(axis=1)
        part = problem.frozen(values)
        assert part.energies(bits[its][:, rest]) == pytest.approx(problem.energies(bits[its]))
        seen += its
    if problem.is_symmetric and spins:  # the others are the same states, turned
        assert problem.energies(1 - bits) == pytest.approx(problem.energies(bits))
        seen += seen[::-1]
    assert (seen == 1).all()


def test_graphs_of_numpy_and_weights_that_are_none() -> None:
    graph = networkx.Graph()
    graph.add_edge(np.int64(2), np.int64(0), weight=np.float64(0.5))
    assert Ising.of(graph, 3) == Ising(fields=(0.0,) * 3, couplings={(0, 2): 0.5})
    graph.add_edge(0, 1, weight="much")
    with pytest.raises(
        DescriptionError, match="objective: 'much' is not valid; expected edges whose weight is a number"
    ):
        Ising.of(graph, 3)


def qaoa(problem: Ising, angles: Iterable[tuple[float, float]]) -> QuantumCircuit:
    made = QuantumCircuit(problem.size)
    made.h(range(problem.size))
    for gamma, beta in angles:
        for (one, other), value in problem.couplings.items():
            made.cx(one, other)
            made.rz(2 * gamma * value, other)
            made.cx(one, other)
        for spin, value in enumerate(problem.fields):
            if value:
                made.rz(2 * gamma * value, spin)
        made.rx(2 * beta, range(problem.size))
    made.measure_all()
    return made


@QUICK
@given(problems(), st.data())
def test_a_frozen_circuit_is_that_of_the_frozen_problem(problem: Ising, data: Any) -> None:
    """With the user's angles, in two layers."""
    assume(problem.size > 2)
    angles = [(0.4, 0.3), (-0.7, 1.1)]
    spin = data.draw(st.integers(0, problem.size - 1))
    made, values = qaoa(problem, angles), {spin: data.draw(st.sampled_from((1, -1)))}
    found, expected = ideal_of(frozen(made, steps_of(made), values)), ideal_of(qaoa(problem.frozen(values), angles))
    assert found is not None and expected is not None
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-9)


def test_the_spins_that_are_left_keep_their_order() -> None:
    """Also where few of many are left."""
    chain = Ising(fields=tuple(map(float, range(20))), couplings={(3, 9): 1.0, (9, 17): 2.0})
    left = chain.frozen(dict.fromkeys(set(range(20)) - {3, 9, 17}, 1))
    assert left.fields == (3.0, 9.0, 17.0) and left.couplings == {(0, 1): 1.0, (1, 2): 2.0}


def test_frozen_results_are_those_of_the_whole_problem() -> None:
    """A star of three: its middle frozen, the others are exactly solved by one layer, so are both halves."""
    problem = Ising(fields=(0.0,) * 3, couplings={(0, 1): 1.0, (0, 2): 2.0})
    made = qaoa(problem, [(0.25 * np.pi, 0.25 * np.pi)])
    its = context(made, objective=problem, budget=1)
    (variant,) = Freezing().variants(its.goal.base(), its)
    assert len(variant.circuits) == 1 and variant.spent == 1 and variant.steps[0].frozen == (0,)
    counts = variant.merge([exact(one) for one in variant.circuits], None).get_counts()
    assert counts["110"[::-1]] == pytest.approx(counts["001"[::-1]])  # the first bit is qubit 0's
    assert {text[::-1][0] for text in counts} == {"0", "1"} and sum(counts.values()) == pytest.approx(1)


def warm_started(problem: Ising) -> QuantumCircuit:
    """QAOA that begins at a guess: its circuit is not symmetric, whatever the problem is."""
    made, guess = QuantumCircuit(problem.size), np.linspace(0.4, 2.8, problem.size)
    for spin, angle in enumerate(guess):
        made.ry(angle, spin)
    for (one, other), value in problem.couplings.items():
        made.rzz(0.3 * value, one, other)
    for spin, angle in enumerate(guess):
        made.ry(-angle, spin)
        made.rz(-0.6, spin)
        made.ry(angle, spin)
    made.measure_all()
    return made


def test_a_circuit_that_is_not_symmetric_is_frozen_both_ways() -> None:
    problem = Ising(fields=(0.0,) * 4, couplings={(0, 1): 1.0, (1, 2): 1.0, (2, 3): 1.0})
    made = warm_started(problem)
    its = context(made, objective=problem, budget=1)
    (variant,) = Freezing().variants(its.goal.base(), its)
    assert len(variant.circuits) == 2
    parts = []
    for spin in (1, -1):
        part = ideal_of(frozen(made, steps_of(made), {1: spin}))
        assert part is not None
        bits = np.zeros((len(part.probabilities), 4), int)
        bits[:, list(part.bits)] = np.arange(len(part.probabilities))[:, None] >> np.arange(len(part.bits)) & 1
        bits[:, 1] = spin < 0
        parts.append(float(problem.energies(bits) @ part.probabilities))
    merged = variant.merge([exact(one) for one in variant.circuits], None)
    assert its.goal.energy(merged) == pytest.approx(np.mean(parts)) and abs(parts[0] - parts[1]) > 0.1


def test_which_circuits_are_symmetric() -> None:
    triangle = Ising(fields=(0.0,) * 3, couplings={(0, 1): 1.0, (1, 2): -2.0, (0, 2): 0.5})
    plain = qaoa(triangle, [(0.4, 0.3), (0.7, -0.2)])
    compiled = transpile(plain, basis_gates=["rz", "sx", "x", "cx"], optimization_level=0)
    assert is_mirrored(steps_of(plain)) and is_mirrored(steps_of(compiled))
    assert not is_mirrored(steps_of(warm_started(triangle)))
    assert not is_mirrored(steps_of(qaoa(Ising(fields=(0.1, 0.0, 0.0), couplings=triangle.couplings), [(0.4, 0.3)])))
    entangled = QuantumCircuit(2)
    entangled.h(0)
    entangled.cx(0, 1)
    entangled.measure_all()
    assert not is_mirrored(steps_of(entangled))


# ---- what is chosen ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manila() -> QPUInfo:
    return ask("fake:manila")


def with_errors(info: QPUInfo, gates: float, readout: float) -> QPUInfo:
    """A device whose errors are all the same, and which does not relax."""
    calibration = info.calibration
    assert calibration is not None
    replace = msgspec.structs.replace
    its_gates = tuple(replace(one, error=gates if len(one.qubits) > 1 else 0.0) for one in calibration.gates)
    its_qubits = tuple(
        replace(one, t1=10.0, t2=10.0, ones_in_0=readout, zeros_in_1=readout) for one in calibration.qubits
    )
    return replace(info, calibration=replace(calibration, gates=its_gates, qubits=its_qubits))


def names(chosen: Variant) -> list[str]:
    return [step.stage for step in chosen.steps]


def test_nothing_is_done_where_nothing_is_wrong(manila: QPUInfo) -> None:
    choice = Mitigator(with_errors(manila, 0.0, 0.0)).choose(circuit("ghz", 4), 4000)
    assert names(choice.variant) == [] and len(choice.considered) > 3
    assert choice.considered[0].rejected == "" and all(one.rejected for one in choice.considered[1:])


def test_the_readout_is_corrected_where_it_is_what_is_wrong(manila: QPUInfo) -> None:
    choice = Mitigator(with_errors(manila, 0.0, 0.05)).choose(circuit("ghz", 4), 4000)
    assert names(choice.variant) == ["readout"]


def test_gates_are_cut_where_they_are_what_is_wrong(manila: QPUInfo) -> None:
    choice = Mitigator(with_errors(manila, 0.1, 0.0)).choose(circuit("ghz", 4), 20_000)
    assert "cutting" in names(choice.variant)


def test_extrapolation_needs_shots(manila: QPUInfo) -> None:
    made, device = QuantumCircuit(2), with_errors(manila, 0.03, 0.0)
    made.h(0)
    for _ in range(3):
        made.cx(0, 1)
    mitigator = Mitigator(device, QosOptions(stages=["zne"]))
    assert names(mitigator.choose(made, 60, ["ZZ"]).variant) == []
    assert names(mitigator.choose(made, 10**6, ["ZZ"]).variant) == ["zne"]


@pytest.mark.parametrize(
    ("options", "limit"),
    [({"budget": 0}, "budget"), ({"max_overhead": 8.9}, "overhead"), ({"max_circuits": 9}, "circuits")],
)
def test_limits(options: dict[str, Any], limit: str, manila: QPUInfo) -> None:
    """A cut of a CX has an overhead of 9 and ten circuits."""
    device = with_errors(manila, 0.1, 0.0)
    choice = Mitigator(device, QosOptions(stages=["cutting"], **options)).choose(circuit("ghz", 4), 20_000)
    assert names(choice.variant) == [] and not any("cutting" in one.name for one in choice.considered)


def test_what_is_required_is_done(manila: QPUInfo) -> None:
    required = Mitigator(manila, QosOptions(stages=[Decoupling(required=True)]))
    assert names(required.choose(circuit("ghz", 3), 1000).variant) == ["dd"]
    assert names(Mitigator(manila, QosOptions(stages=["dd"])).choose(circuit("ghz", 3), 1000).variant) == []


def test_a_bit_that_is_measured_twice_is_not_corrected(manila: QPUInfo) -> None:
    made = QuantumCircuit(2, 1)
    made.x(0)
    made.measure([0, 1], [0, 0])
    assert names(Mitigator(with_errors(manila, 0.0, 0.05)).choose(made, 4000).variant) == []
    with pytest.raises(DescriptionError, match="'readout' is required, but cannot be done"):
        Mitigator(manila, QosOptions(stages=[ReadoutCorrection(required=True)])).choose(made, 4000)


@pytest.mark.parametrize("shots", [260, 4000, 10_001, 12_345])
def test_the_shots_of_a_readout_are_those_that_are_counted(shots: int, manila: QPUInfo) -> None:
    """All that run, and no more than were asked for."""
    choice = Mitigator(manila, QosOptions(stages=[ReadoutCorrection(required=True)])).choose(circuit("ghz", 5), shots)
    (stage,), own = choice.variant.mitigation, choice.variant.shots(shots).tolist()
    planned = stage.plan(choice.variant.circuits, own, Device(target=None, name="device"))
    registers = registers_of(choice.variant.circuits[0])
    found = Outcomes.from_bits(np.zeros((1, 5), bool), np.array([1]), registers=registers, shots=1)
    assert sum(planned.shots) == result_of(choice, found).shots
    assert shots - 8 <= sum(planned.shots) <= shots


@QUICK
@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=30), st.integers(0, 400))
def test_shots_are_dealt_by_shares_and_add_up(parts: list[float], more: int) -> None:
    """Each circuit of several has two, also where its share is less than that."""
    shares = tuple(part / sum(parts) for part in parts)
    made = QuantumCircuit(1, 1)
    step = Step(stage="halves", text="")
    many = (made,) * len(shares)
    variant = Variant(circuits=many, shares=shares, groups=(0,) * len(many), merge=single, steps=(step,))
    total = 2 * len(shares) + more
    dealt = variant.shots(total)
    assert dealt.sum() == total and dealt.min() >= 2
    order = np.argsort(shares, kind="stable")
    assert (np.diff(dealt[order]) >= -1).all()


@pytest.mark.parametrize("share", ["0.1", None, 0, 1, float("nan")])
def test_the_share_of_the_readout_is_a_number_between_0_and_1(share: Any) -> None:
    with pytest.raises(DescriptionError, match=r"readout\.share: .* expected a number between 0 and 1"):
        ReadoutCorrection(share=share)


def test_one_shot_runs_the_circuit_as_it_is(manila: QPUInfo) -> None:
    variant = Mitigator(manila).choose(circuit("ghz", 4), 1).variant
    assert names(variant) == [] and variant.shots(1).tolist() == [1]


def test_a_circuit_that_is_too_wide_is_made_to_fit(manila: QPUInfo) -> None:
    """Eight qubits on a device of five."""
    choice = Mitigator(manila, QosOptions(stages=["reuse"])).choose(circuit("bv", 8), 1000)
    assert choice.variant.circuits[0].num_qubits <= 5


class Broken(QosStage):
    name = "broken"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        raise ZeroDivisionError("seven")


class Beyond(QosStage):
    """Says that it spent more than there is."""

    name = "beyond"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        yield variant.around("dd", Step(stage=self.name, text="much", spent=99))


def test_stages_of_others(manila: QPUInfo) -> None:
    with pytest.raises(PluginError, match="the stage 'broken' failed for circuit 'ghz-3': ZeroDivisionError: seven"):
        Mitigator(manila, QosOptions(stages=[Broken()])).choose(circuit("ghz", 3), 1000)
    choice = Mitigator(manila, QosOptions(stages=[Beyond()])).choose(circuit("ghz", 3), 1000)
    assert choice.considered[1].rejected == "99 cuts and frozen qubits, the budget is 3"


class Wasteful(QosStage):
    """Runs each circuit with as many shots as all of them have."""

    name = "wasteful"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        part = Replacement(circuits=[context.goal.circuit] * 2, shares=[1.0, 1.0], groups=[0, 0], merge=single)
        yield variant.replaced([part], Step(stage=self.name, text="twice"))


class Numbers(QosStage):
    name = "numbers"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        return [7]  # type: ignore[list-item]


def test_stages_that_make_no_variants(manila: QPUInfo) -> None:
    wrong = r"'wasteful' failed .* the shares \[1.0, 1.0\]; expected numbers of at least 0, of sum 1"
    with pytest.raises(PluginError, match=wrong):
        Mitigator(manila, QosOptions(stages=[Wasteful()])).choose(circuit("ghz", 3), 1000)
    with pytest.raises(PluginError, match=r"'numbers' failed .* it gave 7, which is no Variant"):
        Mitigator(manila, QosOptions(stages=[Numbers()])).choose(circuit("ghz", 3), 1000)


@pytest.mark.parametrize("stages", ["cutting", ["cutting", "cutting"], [7], 7], ids=str)
def test_stages_that_are_none(stages: Any, manila: QPUInfo) -> None:
    with pytest.raises(DescriptionError, match=r"QosOptions\.stages: .* is not valid; expected a list of names"):
        Mitigator(manila, QosOptions(stages=stages))


def test_an_unknown_stage_is_named_with_the_nearest(manila: QPUInfo) -> None:
    with pytest.raises(PluginError, match=r"'cuting' \(did you mean 'cutting'\?\)"):
        Mitigator(manila, QosOptions(stages=["cuting"]))
