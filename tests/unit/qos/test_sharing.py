"""Circuits that share a QPU: what is put together, where, and what each gets of the outcomes. Without pilots."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import msgspec
import numpy as np
import pytest
import rustworkx
from hypothesis import given, settings
from hypothesis import strategies as st
from pilot_miniapps.qos_multiprogramming.pairs import check_places
from pilot_miniapps.qos_multiprogramming.settings import Settings
from qiskit import QuantumCircuit
from qiskit.circuit import ClassicalRegister, QuantumRegister
from qiskit.transpiler import Target

from pilot.errors import DescriptionError
from pilot.qos.asking import ask
from pilot.qos.compatibility import Program, effective_utilisation, score
from pilot.qos.crosstalk import with_crosstalk
from pilot.qos.families import circuit
from pilot.qos.features import properties_of
from pilot.qos.layouts import Device, Layout, Layouts, arrange
from pilot.qos.multiprogramming import MultiProgrammer
from pilot.qos.placement import Placement
from pilot.qos.regions import Regions
from pilot.quantum.bundles import Bundle, Member, by_task, joined, split
from pilot.quantum.compilation import Compiler
from pilot.quantum.outcomes import Outcomes, QuasiOutcomes, registers_of
from pilot.quantum.targets import Reported, target_of
from pilot.resources import Calibration, GateFacts, QPUInfo, QubitFacts

QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def line(qubits: int, errors: dict[tuple[int, int], float] | None = None) -> QPUInfo:
    """A device whose qubits are connected along a line, all alike but for the errors that are given."""
    pairs = [(at, at + 1) for at in range(qubits - 1)]
    gates = [GateFacts("rz", (at,), 0.0, 0.0) for at in range(qubits)]
    gates += [GateFacts("sx", (at,), 2e-4, 35e-9) for at in range(qubits)]
    gates += [GateFacts("x", (at,), 2e-4, 35e-9) for at in range(qubits)]
    gates += [GateFacts("measure", (at,), 0.01, 1e-6) for at in range(qubits)]
    for low, high in pairs:
        error = (errors or {}).get((low, high), 0.01)
        gates += [GateFacts("cx", places, error, 3e-7) for places in ((low, high), (high, low))]
    return QPUInfo(
        name="line",
        qubits=qubits,
        gates=("rz", "sx", "x", "cx", "measure"),
        coupling=tuple(pairs + [pair[::-1] for pair in pairs]),
        calibration=Calibration(gates=tuple(gates), qubits=(QubitFacts(t1=1e-4, t2=8e-5),) * qubits),
        calibrated=1.0,
    )


class Changing:
    """A device whose calibration changes."""

    name = "line"

    def __init__(self, info: QPUInfo) -> None:
        self.its = info

    def info(self) -> QPUInfo:
        return self.its

    def target(self) -> Any:
        return target_of(self.its)


def members(compiler: Compiler, circuits: Sequence[QuantumCircuit]) -> list[Member]:
    compiler.refresh()
    return [Member(one, compiler.compile(one, 2)) for one in circuits]


def bundled(
    info: QPUInfo, circuits: Sequence[QuantumCircuit], floor: float = 0.0, **wanted: Any
) -> list[tuple[int, ...]]:
    compiler = Compiler(Reported(info.name, info))
    found = MultiProgrammer(**wanted).bundles(members(compiler, circuits), compiler, 2, floor)
    return [one.members for one in found]


def qubits_of(made: QuantumCircuit) -> set[int]:
    return {made.find_bit(qubit).index for entry in made.data if entry.name != "barrier" for qubit in entry.qubits}


# ---- together and apart again ---------------------------------------------------------------------------------


@st.composite
def parts(draw: st.DrawFn) -> tuple[list[QuantumCircuit], list[list[str]]]:
    """Circuits with registers of any widths, and what each gave in each shot: a bit string, bit 0 on the right."""
    circuits, samples = [], []
    shots = draw(st.integers(1, 30))
    for _ in range(draw(st.integers(1, 4))):
        registers = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        made = QuantumCircuit(QuantumRegister(1), *(ClassicalRegister(width) for width in registers))
        circuits.append(made)
        width = sum(registers)
        samples.append(draw(st.lists(st.text("01", min_size=width, max_size=width), min_size=shots, max_size=shots)))
    return circuits, samples


def outcomes_of(made: QuantumCircuit, samples: Sequence[str]) -> Outcomes:
    return Outcomes.from_counts(made, Counter(samples), len(samples))


@QUICK
@given(parts())
def test_what_is_put_together_comes_apart_again(given: tuple[list[QuantumCircuit], list[list[str]]]) -> None:
    circuits, samples = given
    wide = [QuantumCircuit(QuantumRegister(len(circuits)), *one.cregs) for one in circuits]
    shots = ["".join(reversed(shot)) for shot in zip(*samples, strict=True)]  # the first circuit's bits are lowest
    found = split(outcomes_of(joined(wide), shots), wide)
    for one, its, expected in zip(wide, found, samples, strict=True):
        right = outcomes_of(one, expected)
        assert its.get_counts() == right.get_counts() and its.shots == len(expected)
        assert its.registers == registers_of(one)


def test_corrected_outcomes_come_apart_with_what_corrected_them() -> None:
    made = [QuantumCircuit(2, 1), QuantumCircuit(2, 1)]
    whole = joined(made)
    measured = Outcomes.from_counts(whole, {"00": 60, "01": 30, "10": 10}, 100)
    inverses = np.array([np.diag([1.0, 2.0]), np.diag([3.0, 4.0])])
    quasi = QuasiOutcomes(
        registers=measured.registers,
        num_bits=2,
        packed=measured.packed,
        weights=np.array([70.0, 35.0, -5.0]),
        shots=100,
        measured=measured,
        inverses=inverses,
        deviations=np.array([[0.1, 0.2], [0.3, 0.4]]),
        qubits=np.array([4, 7]),
    )
    low, high = split(quasi, made)
    assert isinstance(high, QuasiOutcomes) and isinstance(low, QuasiOutcomes)
    assert low.get_counts() == {"0": 65, "1": 35} and high.get_counts() == {"0": 105, "1": -5}
    assert high.measured.get_counts() == {"0": 90, "1": 10} and high.qubits.tolist() == [7]
    assert high.inverses[0].tolist() == inverses[1].tolist()
    copies = replace(measured, copies=(measured, measured))
    assert [one.get_counts() for one in split(copies, made)[1].copies] == [{"0": 90, "1": 10}] * 2


def test_each_task_gets_its_own_circuits() -> None:
    made = [QuantumCircuit(4, 1, name=str(at)) for at in range(4)]
    bundles = [Bundle((0, 3), (made[0], made[3]), (0.99, 0.97)), *(Bundle.alone(at, made[at]) for at in (2, 1))]
    found = [
        Outcomes.from_counts(joined(bundle.circuits), {"1" * len(bundle.members): 5 + at}, None)
        for at, bundle in enumerate(bundles)
    ]
    first, second = by_task(bundles, found, 1, [1, 3], "qpu")
    assert [one.get_counts() for one in first.found] == [{"1": 5}]
    assert [one.get_counts() for one in second.found] == [{"1": 7}, {"1": 6}, {"1": 5}]
    assert first.note.startswith("it shared qpu with 1 other circuit in one run, expected to keep 99.0%")
    assert second.note.startswith("1 of its 3 circuits shared")


# ---- utilisation and compatibility ----------------------------------------------------------------------------


def test_the_utilisation_of_the_papers_example() -> None:
    """Two programs of 10 qubits on 20, one three times as long as the other: 1/2 + 1/3 · 1/2."""
    some = [Program(10, 3.0, 1, 1, 1), Program(10, 1.0, 1, 1, 1)]
    assert effective_utilisation(some, 20) == pytest.approx(2 / 3)


@QUICK
@given(st.lists(st.tuples(st.integers(2, 6), st.floats(0, 1e-3), st.integers(0, 999)), min_size=1, max_size=4))
def test_shares_and_scores_are_from_0_to_1(given: list[tuple[int, float, int]]) -> None:
    some = []
    for qubits, duration, seed in given:
        made = QuantumCircuit(qubits)
        for one, other in np.random.default_rng(seed).integers(qubits, size=(seed % 20, 2)):
            made.cx(one, other) if one != other else made.h(one)
        some.append(Program.of(properties_of(made), duration))
    use = effective_utilisation(some, 24)
    assert 0 <= use <= sum(one.qubits for one in some) / 24 <= 1
    assert 0 <= score(some, 24) <= 1


# ---- places ---------------------------------------------------------------------------------------------------


def test_costs_of_layouts_are_what_success_is() -> None:
    """Where nothing takes time there are no idle times, and costs are exact."""
    info = line(6, {(at, at + 1): 0.01 * (at + 1) for at in range(5)})
    assert info.calibration is not None
    timeless = [msgspec.structs.replace(one, duration=0.0) for one in info.calibration.gates]
    info = msgspec.structs.replace(info, calibration=msgspec.structs.replace(info.calibration, gates=tuple(timeless)))
    compiler = Compiler(Reported("line", info))
    made = compiler.compile(circuit("w", 3), 2)
    assert compiler.target is not None and compiler.fidelities is not None
    found = Device(compiler.target).layouts(made)
    assert len(found.layouts) == 4  # four places of three qubits, the better direction of each
    for layout, cost in zip(found.layouts, found.costs, strict=True):
        assert compiler.fidelities.success(layout.on(6)).probability() == pytest.approx(np.exp(-cost), rel=1e-9)


@QUICK
@given(st.integers(0, 10**6))
def test_the_best_arrangement_is_found(seed: int) -> None:
    random = np.random.default_rng(seed)
    some = []
    for _ in range(3):
        masks, costs = random.random((4, 8)) < 0.25, np.sort(random.random(4))
        some.append(Layouts([Layout(QuantumCircuit(1), (0,))] * 4, costs, masks))
    near = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) <= 1

    def fits(numbers: Sequence[int]) -> bool:
        masks = [its.masks[number] for its, number in zip(some, numbers, strict=True)]
        return not any(
            (near[one].any(axis=0) & other).any() for at, one in enumerate(masks) for other in masks[at + 1 :]
        )

    def cost(numbers: Sequence[int]) -> float:
        return float(sum(its.costs[number] for its, number in zip(some, numbers, strict=True)))

    possible = [numbers for numbers in product(range(4), repeat=3) if fits(numbers)]
    found = arrange(some, near, 1)
    assert bool(found) == bool(possible)
    if found:
        assert fits(found[0]) and cost(found[0]) == pytest.approx(min(map(cost, possible)))


def test_a_circuit_is_compiled_for_a_region() -> None:
    device = Device(target_of(line(8)))
    regions = Regions(target_of(line(8)), device.graph)
    assert regions.free([3], 3) == [(4, 5, 6, 7), (0, 1, 2)]
    (made,) = regions.compiled(circuit("ghz", 3), (4, 5, 6, 7), 1, 1)
    assert qubits_of(made) <= {4, 5, 6, 7} and made.num_qubits == 8 and made.num_clbits == 3
    assert regions.compiled(circuit("ghz", 3), (0, 2, 4), 1, 1) == []  # they are not connected


# ---- who shares -----------------------------------------------------------------------------------------------

FOUR = [circuit("ghz", 3), circuit("w", 3), circuit("bv", 3), circuit("hs", 3)]


@settings(QUICK, max_examples=12)
@given(st.lists(st.sampled_from(range(4)), min_size=1, max_size=5), st.integers(0, 2), st.floats(0.0, 0.5))
def test_bundles_keep_apart_and_lose_no_more_than_allowed(which: list[int], buffer: int, max_loss: float) -> None:
    compiler = COMPILER
    assert compiler.fidelities is not None
    some = members(compiler, [FOUR[at] for at in which])
    found = MultiProgrammer(max_loss=max_loss, buffer=buffer).bundles(some, compiler, 2, 0.0)
    assert sorted(at for one in found for at in one.members) == list(range(len(which)))
    for bundle in found:
        places = [qubits_of(made) for made in bundle.circuits]
        for at, one in enumerate(places):
            for other in places[at + 1 :]:
                assert min(abs(a - b) for a in one for b in other) > buffer
        if len(places) == 1:
            continue
        for number, made, relative in zip(bundle.members, bundle.circuits, bundle.relative, strict=True):
            alone = compiler.fidelities.success(some[number].compiled).probability()
            assert relative >= 1 - max_loss
            assert compiler.fidelities.success(made).probability() >= (1 - max_loss) * alone * (1 - 1e-9)


COMPILER = Compiler(Reported("line", line(9, {(0, 1): 0.05, (6, 7): 0.03})))


@pytest.mark.parametrize("seed", range(8))
def test_places_apart_are_found_where_there_are_any(seed: int) -> None:
    """Beside all connected parts of a random graph."""
    dice, size = random.Random(seed), 8
    graph = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(size))
    graph.add_edges_from_no_data([(at, dice.randrange(max(0, at - 3), at)) for at in range(1, size)])
    regions, steps = Regions(Target(num_qubits=size), graph), rustworkx.distance_matrix(graph)
    for distance, first, other in product((0, 1), (2, 3, 4), (2, 3, 4)):
        near = steps <= distance
        parts = (list(one) for one in combinations(range(size), first))
        connected = [one for one in parts if rustworkx.is_connected(graph.subgraph(one))]
        rests = [regions.free(np.flatnonzero(near[one].any(axis=0)).tolist(), other) for one in connected]
        found = regions.apart(first, other, near)
        assert bool(found) == any(rests)
        for one, rest in found:
            assert list(one) in connected and len(rest) >= other and not near[np.ix_(one, rest)].any()


def test_two_circuits_that_fill_a_device_are_compiled_for_its_halves() -> None:
    """Two chains of eight do not fit on guadalupe without swaps."""
    compiler = Compiler(Reported("fake:guadalupe", ask("fake:guadalupe")))
    placement = Placement(compiler, 0)
    some = [placement.know(Member(one, compiler.compile(one, 1)), 1) for one in (circuit("ghz", 8), circuit("w", 8))]
    placed = placement.again(some, 1)
    assert placed is not None
    used = [{made.find_bit(qubit).index for entry in made.data for qubit in entry.qubits} for made in placed.circuits]
    assert not used[0] & used[1] and len(used[0] | used[1]) == 16


def test_a_study_of_pairs_that_have_no_place_is_refused_before_it_begins() -> None:
    check_places(Settings(snapshot="guadalupe", widths=(8,), study=("fidelity",)))
    with pytest.raises(DescriptionError, match=r"widths: 8: two circuits that wide .*, with a free qubit between them"):
        check_places(Settings(snapshot="guadalupe", widths=(8,), study=("fidelity", "buffer")))


def test_it_is_decided_anew_for_another_calibration() -> None:
    device = Changing(line(7))
    compiler, wanted = Compiler(device), MultiProgrammer(max_loss=0.02)
    (bundle,) = wanted.bundles(members(compiler, FOUR[:2]), compiler, 2, 0.0)
    assert bundle.members == (0, 1)
    device.its = msgspec.structs.replace(line(7, {(4, 5): 0.2, (5, 6): 0.2}), calibrated=2.0)
    assert len(wanted.bundles(members(compiler, FOUR[:2]), compiler, 2, 0.0)) == 2


@pytest.mark.parametrize(
    ("info", "wanted", "expected"),
    [
        pytest.param(line(7), {}, [(0, 1)], id="there is room"),
        pytest.param(line(6), {}, [(0,), (1,)], id="no room for the buffer"),
        pytest.param(line(6), {"buffer": 0}, [(0, 1)], id="room without one"),
        pytest.param(line(7), {"most": 1}, [(0,), (1,)], id="no more than one"),
        pytest.param(line(7), {"least_score": 0.99}, [(0,), (1,)], id="they go together badly"),
        pytest.param(line(7), {"policy": "restrict"}, [(0,), (1,)], id="both were compiled for the same place"),
        pytest.param(with_crosstalk(line(6), 0.5), {"buffer": 0, "max_loss": 0.3}, [(0,), (1,)], id="crosstalk"),
    ],
)
def test_who_shares(info: QPUInfo, wanted: dict[str, Any], expected: list[tuple[int, ...]]) -> None:
    assert bundled(info, [circuit("qaoa-r", 3)] * 2, **wanted) == expected


def test_a_floor_holds_in_bundles() -> None:
    """Alone a circuit has this fidelity; the second place is a little worse."""
    info, two = line(7, {(4, 5): 0.02, (5, 6): 0.02}), [FOUR[0], FOUR[0]]
    assert bundled(info, two) == [(0, 1)]
    assert bundled(info, two, floor=0.5) == [(0, 1)] and bundled(info, two, floor=0.96) == [(0,), (1,)]


def test_circuits_whose_gates_depend_on_outcomes_run_alone() -> None:
    made = QuantumCircuit(2, 2)
    made.h(0)
    made.measure(0, 0)
    with made.if_test((made.clbits[0], 1)):
        made.x(1)
    made.measure(1, 1)
    info = msgspec.structs.replace(line(7), gates=(*line(7).gates, "if_else"))
    assert bundled(info, [FOUR[0], made, FOUR[0]]) == [(1,), (0, 2)]


def test_without_errors_nothing_shares() -> None:
    """What a device does not report cannot be lost by no more than something."""
    assert bundled(QPUInfo(name="ideal", qubits=9), FOUR[:2]) == [(0,), (1,)]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"max_loss": 1.5}, "max_loss: 1.5 is not valid; expected a number from 0 to 1"),
        ({"max_loss": float("nan")}, "max_loss: nan is not valid"),
        ({"buffer": 3}, "buffer: 3 is not valid; expected 0, 1 or 2 qubits"),
        ({"buffer": True}, "buffer: True is not valid"),
        ({"most": 0}, "most: 0 is not valid; expected a whole number from 1 to 64"),
        ({"policy": "re"}, "policy: 're' is not valid; expected 'restrict' or 're-evaluate'"),
        ({"rank": "q"}, "rank: 'q' is not valid; expected 'utilisation' or 'score'"),
        ({"least_score": 75}, "least_score: 75 is not valid; expected a number from 0 to 1, or None"),
    ],
)
def test_settings_that_are_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        MultiProgrammer(**wanted)
