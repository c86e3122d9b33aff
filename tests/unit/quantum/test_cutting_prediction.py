"""Whether cutting pays: the choice is right where it is clear, and the model's numbers are those of its constants."""

import math
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from qiskit import QuantumCircuit

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.quantum import costs as simulation
from pilot.quantum.cutting import Costs, Predictor, Workers, plan, predict, prediction
from pilot.quantum.cutting.prediction import brickwork
from pilot.states import PilotState

GIB = 2.0**30


def two_halves(num_qubits, layers, *, interleaved=False):
    """Two entangled halves with one gate between them; interleaved: the even qubits and the odd ones."""
    half = num_qubits // 2
    halves = (
        [range(0, num_qubits, 2), range(1, num_qubits, 2)] if interleaved else [range(half), range(half, num_qubits)]
    )
    circuit = QuantumCircuit(num_qubits)
    for part in halves:
        circuit.compose(brickwork(half, layers), list(part), inplace=True)
    circuit.cz(halves[0][-1], halves[1][0])
    for part in halves:
        circuit.compose(brickwork(half, 1, seed=1), list(part), inplace=True)
    return circuit


def workers(**changes):
    costs = Costs(per_circuit=4e-3, vector_slowness=2.0, product_slowness=2.0, per_product=2e-8)
    return Workers(**{"name": "one", "slots": 2, "memory": 8 * GIB, "costs": costs} | changes)


def test_a_small_circuit_is_not_cut():
    chosen = Predictor([workers()]).choose(two_halves(8, 2), "Z" * 8, [4, 6])
    assert chosen.cuts == ()
    assert chosen.reason.startswith("not cut: predicted to be done first (not cut: ")
    assert {each.max_qubits for each in chosen.candidates} == {4, 6, 8}
    assert chosen.prediction.seconds == min(each.prediction.seconds for each in chosen.candidates)


def test_a_circuit_that_is_entangled_beyond_memory_is_cut():
    circuit = two_halves(32, 8, interleaved=True)
    chosen = Predictor([workers()]).choose(circuit, "Z" * 32, [16])
    assert len(chosen.cuts) == 1
    assert chosen.width == 16
    whole = next(each for each in chosen.candidates if not each.cuts)
    assert math.isinf(whole.prediction.seconds)
    assert "not cut: a state of 32 qubits takes 64 GiB of memory, 8 GiB are there" in chosen.reason
    assert chosen.prediction.seconds < 60


def test_a_wide_circuit_of_little_entanglement_is_not_cut():
    """A product state of 34 qubits in a row, as the Pilot-Quantum paper's: a matrix product state holds it."""
    circuit = brickwork(34, 1)
    chosen = Predictor([workers()]).choose(circuit, "Z" + "I" * 33, [17])
    assert chosen.cuts == ()
    assert chosen.prediction.seconds < 1


def test_a_state_that_fits_but_takes_long_is_cut():
    circuit = two_halves(28, 6)
    whole = predict(plan(circuit, "Z" * 28), [workers()])
    assert whole.seconds > 100  # some 200 gates on 2 ** 28 amplitudes, 1e-8 s each
    chosen = Predictor([workers()]).choose(circuit, "Z" * 28, [14])
    assert chosen.cuts
    assert chosen.prediction.seconds < whole.seconds / 10


def test_nothing_that_can_run_is_said_so():
    circuit = two_halves(32, 8, interleaved=True)
    with pytest.raises(
        DescriptionError,
        match=r"no size can run: .*16 qubits takes .* are there.*allow narrower pieces, or more memory",
    ):
        Predictor([workers(memory=2.0**18)]).choose(circuit, "Z" * 32, [16])


def test_sizes_are_found_where_none_are_given():
    memory = 16 * 2.0**10  # of ten qubits
    chosen = Predictor([workers(memory=memory)]).choose(brickwork(12, 1), "Z" * 12, wires=False)
    assert {each.max_qubits for each in chosen.candidates} == {4, 6, 8, 10, 12}
    assert chosen.prediction.seconds < math.inf


def test_pilots_add_up_and_may_be_chosen_among():
    planned = plan(two_halves(12, 2), "Z" * 12, 6)
    slow = workers(name="slow", costs=Costs(per_circuit=4e-2, vector_slowness=20.0, product_slowness=20.0))
    predictor = Predictor([workers(), slow])
    alone, both, slowly = (predictor.predict(planned, names) for names in (["one"], None, ["slow"]))
    assert both.run_seconds < alone.run_seconds < slowly.run_seconds / 5
    assert 1 / both.run_seconds == pytest.approx(1 / alone.run_seconds + 1 / slowly.run_seconds)
    with pytest.raises(DescriptionError, match=r"pilots: \['other'\] given, \['one', 'slow'\] measured"):
        predictor.predict(planned, ["other"])
    with pytest.raises(DescriptionError, match="call `calibrate"):
        Predictor().predict(planned)


def test_slots_are_used_as_far_as_the_memory_goes():
    planned = plan(two_halves(20, 1), "Z" * 20)
    one_state = 16 * 2.0**20
    assert [workers(slots=8, memory=n * one_state).at_once(one_state) for n in (1, 3, 100)] == [1, 3, 8]
    assert workers(slots=8, nodes=2, memory=3 * one_state).at_once(one_state) == 6
    about = simulation.facts(next(planned.experiments()))  # 20 measured bits: sampled
    (vector,) = [each for each in simulation.estimate(about, 100) if each.method == "statevector"]
    start = 1.1e-3 + (about.gates + 20) * 2.1e-5 + 100 * 20 * 1e-7
    expected = 4e-3 + start + 2.0 * (vector.seconds - start)  # one circuit: on one slot
    assert predict(planned, [workers()], shots=100).run_seconds == pytest.approx(expected, rel=1e-3)


class Manager:
    """One pilot with one slot, here."""

    def __init__(self):
        description = PilotDescription(cores_per_node=1)
        over = SimpleNamespace(name="over", state=PilotState.DONE, description=description)
        self.pilots = [over, SimpleNamespace(name="here", state=PilotState.ACTIVE, description=description)]
        self.described = []

    def submit_tasks(self, descriptions):
        futures = []
        for each in descriptions:
            self.described.append(each)
            futures.append(Future())
            futures[-1].set_result(each.function(*each.args))
        return futures


def test_calibration_measures_each_pilot(monkeypatch):
    monkeypatch.setattr(prediction, "_VECTOR", (16, 2))
    monkeypatch.setattr(prediction, "_SMALL_CIRCUITS", 10)
    manager = Manager()
    predictor = Predictor().calibrate(manager)
    (measured,) = predictor.workers
    assert (measured.name, measured.slots, measured.nodes) == ("here", 1, 1)
    assert {each.pilot for each in manager.described} == {"here"}
    costs = measured.costs
    assert costs.per_circuit >= 0  # how long each takes is another matter on a busy machine
    assert costs.vector_slowness > 0.05
    assert costs.product_slowness > 0.05
    assert costs.per_product > 1e-10
    assert measured.memory > 2**28
    assert predictor.choose(two_halves(6, 1), "Z" * 6).cuts == ()
    manager.pilots.pop()
    with pytest.raises(DescriptionError, match="no pilot to calibrate"):
        Predictor().calibrate(manager)


def test_measurements_at_the_cuts_need_qubits_unless_they_come_last(here):
    circuit = QuantumCircuit(2)
    circuit.h([0, 1])
    circuit.cx(0, 1)
    last = plan(circuit, "XZ", 1)
    assert [fragment.measures().max() for fragment in last.fragments] == [0, 0]
    circuit.h([0, 1])
    assert [fragment.measures().max() for fragment in plan(circuit, "XZ", 1).fragments] == [1, 1]
    assert np.isfinite(predict(last).seconds)
