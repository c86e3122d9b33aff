"""Sizes and limits, shots by weight, where subexperiments go, and sums as tasks."""

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_addon_cutting.instructions import CutWire

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, QPUError
from pilot.quantum.aer import run_circuit
from pilot.quantum.cutting import Prediction, kind, plan, reconstruction
from pilot.quantum.mitigation import Readout
from pilot.quantum.outcomes import Outcomes, QuasiOutcomes


def chain(num_qubits, seed=7, layers=1):
    """Random rotations and controlled NOTs along a line: two halves share one gate a layer."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(num_qubits)
    for _ in range(layers):
        for qubit in range(num_qubits):
            circuit.u(*rng.uniform(0, 2 * np.pi, 3), qubit)
        for qubit in range(num_qubits - 1):
            circuit.cx(qubit, qubit + 1)
    return circuit


def value_of(circuit, observable):
    return Statevector(circuit).expectation_value(SparsePauliOp(observable)).real


# ---- whether and where ------------------------------------------------------------------------------------------


def by_width(planned):
    """Wide pieces are dear, and so is every subexperiment."""
    seconds = 4.0**planned.width + planned.num_distinct
    return Prediction(seconds=seconds, run_seconds=seconds, reconstruct_seconds=0.0, memory=0.0)


def test_of_several_sizes_the_one_done_first_is_taken():
    planned = plan(chain(6), "ZIIIIZ", range(2, 7), predict=by_width, wires=False)
    seconds = {each.max_qubits: each.prediction.seconds for each in planned.candidates}
    assert set(seconds) == {2, 3, 4, 5, 6}
    assert planned.prediction.seconds == min(seconds.values()) == seconds[planned.width]
    assert 2 <= planned.width < 6
    assert planned.reason.startswith(f"cut into pieces of at most {planned.width} qubits: predicted to be done first")
    assert "not cut: " in planned.reason


@pytest.mark.parametrize(
    ("max_qubits", "reason"),
    [
        (4, "not cut: its 4 qubits fit into the 4 that a piece may have"),
        (None, "not cut: no cuts are marked, and no max_qubits was given"),
        ([2, 4], "not cut: predicted to be done first (not cut: "),
    ],
)
def test_not_to_cut_is_an_answer_with_its_reason(here, max_qubits, reason):
    circuit = chain(4)
    planned = plan(circuit, "ZIIZ", max_qubits)
    assert (planned.cuts, len(planned.fragments), planned.overhead) == ((), 1, 1.0)
    assert planned.reason.startswith(reason)
    assert planned.run(here, shots=None).values[0] == pytest.approx(value_of(circuit, "ZIIZ"), abs=1e-12)


def test_what_falls_apart_by_itself_is_not_cut(here):
    circuit = QuantumCircuit(4)
    for qubit in (0, 2):
        circuit.ry(0.3 + qubit, qubit)
        circuit.cx(qubit, qubit + 1)
    planned = plan(circuit, "ZZZZ", 2)
    assert planned.reason == "not cut: it falls apart by itself into pieces of at most 2 qubits"
    result = plan(circuit, "ZZZZ", 2, distribution=True).run(here, shots=None)
    assert result.values[0] == pytest.approx(value_of(circuit, "ZZZZ"), abs=1e-12)
    expected = Statevector(circuit).probabilities_dict()
    assert result.distribution.get_counts() == pytest.approx({str(k): v for k, v in expected.items() if v > 1e-12})


def test_a_limit_of_the_overhead_rules_sizes_out():
    circuit = chain(6)
    planned = plan(circuit, "ZIIIIZ", [2, 3], max_overhead=9, wires=False)  # a cut controlled NOT: 9
    assert planned.width == 3
    assert planned.overhead == pytest.approx(9)
    by_size = {each.max_qubits: each for each in planned.candidates}
    assert by_size[2].rejected == "overhead 81, above max_overhead=9"
    with pytest.raises(
        DescriptionError, match=r"overhead 9, above max_overhead=8; these limits can be met: .*max_overhead=9"
    ):
        plan(circuit, "ZIIIIZ", 3, max_overhead=8, wires=False)


def test_a_limit_that_cannot_be_met_says_what_would_do():
    circuit = chain(6)
    with pytest.raises(DescriptionError) as caught:
        plan(circuit, "ZIIIIZ", 2, max_overhead=9, max_subexperiments=12, wires=False)
    text = str(caught.value)
    assert "pieces of at most 2 qubits: overhead 81, above max_overhead=9 and 35 subexperiments" in text
    hint = "max_qubits=3 (cut to an overhead of 9, 10 subexperiments)"
    assert hint in text
    planned = plan(circuit, "ZIIIIZ", 3, max_overhead=9, max_subexperiments=12, wires=False)  # as it says
    assert (planned.num_distinct, round(planned.overhead)) == (10, 9)


def test_sizes_with_too_many_terms_are_passed_over():
    deep = chain(4, layers=8)  # 1,679,616 terms for pieces of 2
    planned = plan(deep, "ZIIZ", [2, 4], wires=False)
    assert planned.cuts == ()
    assert "1,679,616 terms" in planned.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_qubits": []}, r"max_qubits: \[\] is not valid"),
        ({"max_overhead": 0.5}, "max_overhead: 0.5 is not valid; expected at least 1"),
        ({"max_subexperiments": 0}, "max_subexperiments: 0 is not valid; expected at least 1"),
        ({"observables": None, "distribution": False}, "ask for at least one of them"),
        ({"observables": (), "distribution": False}, "observables: none given"),
        ({"max_overhead": "9"}, "max_overhead: '9' is not valid; expected at least 1"),
        ({"max_subexperiments": True}, "max_subexperiments: True is not valid; expected at least 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_wrong_limits_say_what_is_wrong(change, message):
    arguments = {"circuit": chain(4), "observables": "ZIIZ", "max_qubits": 2} | change
    with pytest.raises(DescriptionError, match=message):
        plan(**arguments)


# ---- shots ------------------------------------------------------------------------------------------------------


def test_shots_are_dealt_out_by_weight_to_the_last_one():
    planned = plan(chain(4), "ZIIZ", 2, wires=False)
    shots, weights = planned.shots(10_007), planned.weights
    assert shots.sum() == 10_007
    assert np.all(np.abs(shots - 10_007 * weights / weights.sum()) < 1 + 2 * len(weights) / 10)
    assert len(set(weights.round(12))) > 1
    assert planned.shots(2 * planned.num_distinct).tolist() == [2] * planned.num_distinct
    with pytest.raises(DescriptionError, match="total_shots: 19 is not valid; expected a whole number of at least 20"):
        planned.shots(19)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"shots": 2.5}, "shots"),
        ({"shots": "many"}, "shots"),
        ({"shots": True}, "shots"),
        ({"total_shots": 1000.5}, "total_shots"),
        ({"total_shots": "many"}, "total_shots"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"max_outcomes": 0}, "max_outcomes"),
    ],
    ids=str,
)
def test_what_is_no_number_of_shots_or_seed_is_refused_before_anything_runs(given, field):
    with pytest.raises(DescriptionError, match=f"^{field}: .*whole number"):
        plan(chain(4), "ZIIZ", 2).run(SimpleNamespace(map=None), **given)


def skewed():
    """A small angle: the identity carries nearly all of the weight."""
    circuit = QuantumCircuit(2)
    circuit.ry(1.1, [0, 1])
    circuit.rzz(0.2, 0, 1)
    circuit.rx(0.7, [0, 1])
    return circuit


def test_shots_by_weight_give_the_smaller_error_and_tell_it(here):
    circuit, observable = skewed(), "YY"
    exact = value_of(circuit, observable)
    planned = plan(circuit, observable, 1, wires=False)
    total, deviations, errors = 1000, [], {"total": [], "even": []}
    for seed in range(40):
        result = planned.run(here, total_shots=total, seed=seed)
        deviations.append((result.values[0] - exact) / result.standard_errors[0])
        errors["total"].append(result.standard_errors[0])
        errors["even"].append(planned.run(here, shots=total // planned.num_distinct, seed=seed).standard_errors[0])
    assert 0.45 < np.mean(np.square(deviations)) < 1.75  # 1, give or take sqrt(2 / 40) = 0.22
    assert np.mean(errors["total"]) < 0.85 * np.mean(errors["even"])  # 0.75 here


# ---- where the subexperiments go --------------------------------------------------------------------------------


class Pilots:
    """Like a manager with QPUs: `map`, and `submit_tasks` with circuits; futures as arguments are their results."""

    def __init__(self, broken=None):
        self.described, self.mapped, self.broken = [], [], broken

    def map(self, function, /, *iterables):
        return [self._call(function, arguments) for arguments in zip(*iterables, strict=True)]

    def submit_tasks(self, descriptions):
        descriptions = list(descriptions)
        assert all(type(each) is TaskDescription for each in descriptions)
        self.described += descriptions
        return [self._call(self._run, (each,)) for each in descriptions]

    def _run(self, described):
        if described.function is not None:
            return described.function(*described.args)
        if described.name == self.broken:
            raise QPUError("the QPU refuses the job", qpu=described.qpu)
        return run_circuit(described.circuit, described.shots, described.seed)

    def _call(self, function, arguments):
        self.mapped.append(function)
        future = Future()
        try:
            future.set_result(function(*(self._settled(each) for each in arguments)))
        except Exception as error:
            future.set_exception(error)
        return future

    def _settled(self, argument):
        if isinstance(argument, Future):
            return argument.result()
        return [self._settled(each) for each in argument] if isinstance(argument, list) else argument


def test_subexperiments_are_circuits_for_whichever_qpu_is_free(here):
    planned = plan(chain(4), "ZIIZ", 2, distribution=True)
    pilots = Pilots()
    result = planned.run(pilots, total_shots=20_000, seed=5, qpu="*", min_fidelity=0.5)
    assert len(pilots.described) == planned.num_distinct
    assert {each.qpu for each in pilots.described} == {"*"}
    assert {each.min_fidelity for each in pilots.described} == {0.5}
    assert {each.pilot for each in pilots.described} == {None}
    assert sum(each.shots for each in pilots.described) == 20_000
    assert len({each.seed for each in pilots.described}) == planned.num_distinct
    same = planned.run(here, total_shots=20_000, seed=5)  # the double simulates as the workers do
    assert np.array_equal(result.values, same.values)
    assert result.distribution.get_counts() == same.distribution.get_counts()


def test_subexperiments_go_to_the_pilots_that_are_wished_for(here):
    planned, pilots = plan(chain(4), "ZIIZ", 2), Pilots()
    result = planned.run(pilots, shots=100, seed=5, pilots=("one", "other"))
    assert {each.pilots for each in pilots.described} == {("one", "other")}
    assert {each.qpu for each in pilots.described} == {None}
    assert result.values == planned.run(here, shots=100, seed=5).values


@pytest.mark.parametrize("mitigation", ["readout", ["readout", "dd"], [Readout(shots=100)], ["twirling", "zne"]])
def test_mitigation_that_cannot_work_is_refused_before_anything_runs(mitigation):
    planned, pilots = plan(chain(4), "ZIIZ", 2, wires=False), Pilots()
    with pytest.raises(DescriptionError, match=r"cuts of gates here measure|'zne' extrapolates values") as caught:
        planned.run(pilots, shots=100, qpu="fake:manila", mitigation=mitigation)
    assert caught.value.data["field"] == "mitigation"
    assert not pilots.described


@pytest.mark.parametrize(
    ("field", "given"),
    [("parameters", np.array([0.1, 0.2])), ("parameters", []), ("tomography", []), ("mitigation", "dd")],
)
def test_a_task_that_is_cut_refuses_what_it_cannot_do(field, given):
    description = TaskDescription(kind="cut", circuit=chain(4), kwargs={"max_qubits": 2}, **{field: given})
    with pytest.raises(DescriptionError, match=f"TaskDescription.{field}: .* is not valid; expected nothing for a"):
        kind.prepare(description, SimpleNamespace())


@pytest.mark.parametrize("mitigation", ["readout", ["twirling", "dd"]])
def test_mitigation_that_works_is_handed_on(mitigation):
    circuit = QuantumCircuit(3)
    circuit.ry(0.3, range(3))
    circuit.cx(0, 1)
    circuit.append(CutWire(), [1])
    circuit.cx(1, 2)
    planned, pilots = plan(circuit, "ZZZ", 2), Pilots()
    planned.run(pilots, shots=100, qpu="fake:manila", mitigation=mitigation)
    assert len(pilots.described) == planned.num_distinct


@pytest.mark.parametrize("distribution", [False, True])
def test_a_failed_subexperiment_fails_the_result(distribution):
    planned = plan(chain(4), None if distribution else "ZIIZ", 2, distribution=distribution)
    with pytest.raises(QPUError, match="the QPU refuses the job"):
        planned.run(Pilots(broken="subexperiment 3"), shots=10, qpu="fake:kolkata")


def test_results_that_are_missing_are_not_made_up(here):
    planned = plan(chain(4), max_qubits=2)
    results = [future.result() for future in planned.submit(here.map, shots=10)]
    with pytest.raises(DescriptionError, match="results: a list of 9 is not valid; expected 10"):
        planned.combine(results[:-1])


def test_undone_errors_of_the_readout_make_the_error_larger():
    """Counts whose readout was corrected: the mean is that of the weights, its error that of the estimator."""
    planned = plan(chain(2), "ZZ", distribution=True)
    (plain,) = outcomes = [run_circuit(each, 1000, 3) for each in planned.experiments()]
    inverse = np.linalg.inv(np.array([[0.9, 0.2], [0.1, 0.8]]))  # P(read | prepared)
    bits = np.array([[low, high, 0] for high in (0, 1) for low in (0, 1)], dtype=bool)
    counts = np.array([plain.get_counts("observable_measurements").get(f"{int(b)}{int(a)}", 0) for a, b, _ in bits])
    corrected = QuasiOutcomes(
        registers=plain.registers,
        num_bits=3,
        packed=np.packbits(bits, axis=1, bitorder="little"),
        weights=np.kron(inverse, inverse) @ counts,
        shots=1000,
        measured=Outcomes.from_bits(bits, counts, registers=plain.registers, shots=1000),
        inverses=np.stack([inverse, inverse, np.eye(2)]),
        deviations=np.zeros((3, 2)),
        qubits=np.array([0, 1, -1]),
    )
    result, uncorrected = planned.combine([corrected]), planned.combine(outcomes)
    signs = np.array([1, -1, -1, 1])
    assert result.values[0] == pytest.approx(corrected.weights @ signs / 1000)
    each = np.array([(inverse[0] - inverse[1])[int(a)] * (inverse[0] - inverse[1])[int(b)] for a, b, _ in bits])
    spread = counts @ each**2 / 1000 - result.values[0] ** 2
    assert result.standard_errors[0] == pytest.approx(np.sqrt(spread / 999), rel=0.01)
    assert result.standard_errors[0] > uncorrected.standard_errors[0]
    quasi = result.distribution.get_quasi()
    expected = {f"{int(b)}{int(a)}": weight / 1000 for (a, b, _), weight in zip(bits, corrected.weights, strict=True)}
    assert quasi == pytest.approx(expected)


# ---- sums as tasks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [None, 200])
def test_sums_over_many_terms_are_tasks_and_a_tree(monkeypatch, num_samples):
    planned = plan(chain(6, layers=2), ["ZIIIIZ", "XZIIXI"], 2, num_samples=num_samples, wires=False)
    results = [[run_circuit(each, 50, seed)] for seed, each in enumerate(planned.experiments())]
    here = planned.combine(results)
    monkeypatch.setattr(reconstruction, "PARALLEL_PRODUCTS", planned.num_terms // 2)  # so some 24 parts of the sum
    pilots = Pilots()
    there = planned.combine(results, manager=pilots)
    names = [function.__name__ for function in pilots.mapped]
    assert names.count("sums_of") > 8
    assert names.count("add_sums") > 2  # more than one level of eight at a time
    assert np.allclose(here.values, there.values, rtol=0, atol=1e-12)
    assert np.allclose(here.standard_errors, there.standard_errors, rtol=0, atol=1e-12)


def test_a_failed_sum_fails_the_result(monkeypatch):
    planned = plan(chain(4, layers=2), "ZIIZ", 2, wires=False)
    results = [[run_circuit(each, 50, seed)] for seed, each in enumerate(planned.experiments())]
    monkeypatch.setattr(reconstruction, "PARALLEL_PRODUCTS", 16)

    class Broken(Pilots):
        def _call(self, function, arguments):
            return super()._call(self._fail if len(self.mapped) == 2 else function, arguments)

        def _fail(self, *_):
            raise RuntimeError("the third part broke")

    with pytest.raises(RuntimeError, match="the third part broke"):
        planned.combine(results, manager=Broken())
