"""Cutting against physics: pieces must add up to the uncut circuit, errors must be as large as they say."""

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.random import random_circuit
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, SamplerPubResult
from qiskit.quantum_info import Operator, Pauli, PauliList, SparsePauliOp, Statevector
from qiskit_addon_cutting import (
    find_cuts,
    generate_cutting_experiments,
    partition_problem,
    reconstruct_expectation_values,
)
from qiskit_addon_cutting.automated_cut_finding import DeviceConstraints, OptimizationParameters
from qiskit_addon_cutting.instructions import CutWire

from pilot.errors import DescriptionError
from pilot.quantum.cutting import plan
from pilot.quantum.cutting.subexperiments import CUT_REGISTER, OBSERVABLE_REGISTER
from pilot.quantum.deferral import defer_measurements

SEARCH = OptimizationParameters(seed=111, wire_lo=False)


def expectation_values(circuit, observables):
    state = Statevector(circuit)
    return np.array([state.expectation_value(SparsePauliOp(label)).real for label in observables])


def chain(num_qubits, seed, layers=1):
    """Random rotations and controlled NOTs along a line: two halves share one gate a layer."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(num_qubits)
    for _ in range(layers):
        for qubit in range(num_qubits):
            circuit.u(*rng.uniform(0, 2 * np.pi, 3), qubit)
        for qubit in range(num_qubits - 1):
            circuit.cx(qubit, qubit + 1)
    return circuit


def random_observables(num_qubits, seed, number=3):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("IXYZ"), num_qubits)) for _ in range(number)]


@pytest.mark.parametrize("seed", range(10))
def test_cut_gates_add_up_to_the_uncut_circuit(here, seed):
    num_qubits = 4 + seed % 3
    circuit = chain(num_qubits, seed, layers=1 + seed % 2)
    observables = random_observables(num_qubits, seed)
    planned = plan(circuit, observables, max_qubits=(num_qubits + 1) // 2, wires=False)
    result = planned.run(here, shots=None)
    assert {cut.kind for cut in planned.cuts} == {"gate"}
    assert np.allclose(result.values, expectation_values(circuit, observables), atol=1e-9)
    assert not result.standard_errors.any()


@pytest.mark.parametrize("seed", range(10))
def test_cut_wires_add_up_to_the_uncut_circuit(here, seed):
    num_qubits, circuit = 4 + seed % 3, QuantumCircuit(4 + seed % 3)
    first, second = chain(3, seed), chain(num_qubits - 2, seed + 100)
    circuit.compose(first, [0, 1, 2], inplace=True)
    uncut = circuit.compose(second, range(2, num_qubits))
    circuit.append(CutWire(), [2])
    circuit.compose(second, range(2, num_qubits), inplace=True)
    observables = random_observables(num_qubits, seed)
    planned = plan(circuit, observables, max_qubits=max(3, num_qubits - 2))
    assert [(cut.kind, cut.qubits) for cut in planned.cuts] == [("wire", (2,))]
    result = planned.run(here, shots=None)
    assert np.allclose(result.values, expectation_values(uncut, observables), atol=1e-9)


def test_cuts_of_one_wire_between_cuts_of_another(here):
    circuit, uncut = QuantumCircuit(3), QuantumCircuit(3)
    for step, (control, target, cut) in enumerate([(0, 1, 0), (1, 2, 1), (0, 1, 0), (0, 2, None)]):
        for each in (circuit, uncut):
            each.u(0.3 + step, 0.7, 1.1 * step, control)
            each.cx(control, target)
        if cut is not None:
            circuit.append(CutWire(), [cut])
    result = plan(circuit, ["ZZZ", "XIZ", "IIY"], max_qubits=6).run(here, shots=None)
    assert np.allclose(result.values, expectation_values(uncut, ["ZZZ", "XIZ", "IIY"]), atol=1e-9)


def test_wires_are_cut_where_that_costs_less(here):
    circuit = QuantumCircuit(3)
    for layer in range(3):
        circuit.ry(0.3 + layer, [0, 1])
        circuit.cx(0, 1)
    for layer in range(3):
        circuit.ry(0.4 + layer, [1, 2])
        circuit.cx(1, 2)
    planned = plan(circuit, "ZZZ", max_qubits=2)
    assert [cut.kind for cut in planned.cuts] == ["wire"]
    assert planned.overhead == pytest.approx(16)
    assert np.allclose(planned.run(here, shots=None).values, expectation_values(circuit, ["ZZZ"]), atol=1e-9)


@pytest.mark.parametrize("gate", ["swap", "iswap", "rzz", "cp", "ecr", "ch", "unitary"])
def test_gates_of_every_kind_are_cut(here, gate):
    circuit = QuantumCircuit(2)
    circuit.u(0.3, 0.5, 0.7, 0)
    circuit.u(1.3, 0.2, 0.1, 1)
    if gate == "unitary":
        circuit.unitary(Operator(random_circuit(2, 3, max_operands=2, seed=4)), [0, 1])
    else:
        getattr(circuit, gate)(*((0.6,) if gate in {"rzz", "cp"} else ()), 0, 1)
    result = plan(circuit, ["XY", "ZZ"], max_qubits=1, wires=False).run(here, shots=None)
    assert np.allclose(result.values, expectation_values(circuit, ["XY", "ZZ"]), atol=1e-9)


def test_three_qubit_gates_idle_qubits_and_final_measurements(here):
    circuit = QuantumCircuit(5)
    circuit.h([0, 1])
    circuit.barrier()
    circuit.ccx(0, 1, 2)
    circuit.ry(0.4, 2)
    observables = ["ZIZXI", "IZIIX", "XIIII", "IIZZZ"]
    expected = expectation_values(circuit, observables)
    circuit.measure_all()
    assert np.allclose(plan(circuit, observables, max_qubits=2).run(here, shots=None).values, expected, atol=1e-9)


def test_a_narrow_circuit_is_not_cut(here):
    circuit = chain(3, seed=1)
    planned = plan(circuit, "ZZZ", max_qubits=3)
    assert (planned.cuts, planned.overhead, planned.num_subexperiments, planned.num_distinct) == ((), 1, 1, 1)
    assert np.allclose(planned.run(here, shots=None).values, expectation_values(circuit, ["ZZZ"]), atol=1e-9)


def anonymous(circuit):
    """The circuit on qubits without names or registers, so that equal means the same operations."""
    bare = QuantumCircuit(circuit.num_qubits)
    bare.add_register(*circuit.cregs)
    return bare.compose(circuit)


def addons_results(planned, outcomes):
    """The counts as the add-on wants them: a result for each term and group, every shot a row."""
    remaining, results = iter(outcomes), {}
    for label, fragment in enumerate(planned.fragments):
        distinct = [next(remaining) for _ in range(fragment.num_experiments)]
        width = len(fragment.groups)
        results[label] = PrimitiveResult(
            [
                sampler_result(distinct[choice * width + group])
                for choice in fragment.choice_of_term
                for group in range(width)
            ]
        )
    return results


def sampler_result(outcomes):
    rows = np.repeat(np.arange(len(outcomes.weights)), outcomes.weights)
    registers = {
        name: BitArray.from_bool_array(outcomes.bits(name)[rows].astype(bool), order="little")
        for name in (OBSERVABLE_REGISTER, CUT_REGISTER)
    }
    return SamplerPubResult(DataBin(**registers, shape=()))


@pytest.mark.parametrize("num_samples", [None, 30])
def test_values_are_the_addons_on_the_same_counts(here, num_samples):
    circuit, observables = chain(6, seed=3, layers=2), ["ZZIIZZ", "XIIYIZ", "IIXXII", "IIIIIZ"]
    planned = plan(circuit, observables, max_qubits=3, num_samples=num_samples, wires=False)
    outcomes = [future.result() for future in planned.submit(here.map, shots=50, seed=4)]
    marked, _ = find_cuts(circuit, SEARCH, DeviceConstraints(3))
    problem = partition_problem(marked, observables=PauliList(planned.paulis))
    np.random.seed(111)
    experiments, coefficients = generate_cutting_experiments(
        problem.subcircuits, problem.subobservables, np.inf if num_samples is None else num_samples
    )

    # The add-on's subexperiments, in its order, are ours, each made once.
    order = sorted(range(planned.num_terms), key=lambda term: -round(abs(planned.decomposition.coefficients[term]), 12))
    assert order == list(range(planned.num_terms))
    assert np.allclose(planned.decomposition.coefficients, [value for value, _ in coefficients], atol=1e-15)
    for label, fragment in enumerate(planned.fragments):
        ours, width = list(fragment.experiments()), len(fragment.groups)
        expanded = [ours[choice * width + group] for choice in fragment.choice_of_term for group in range(width)]
        assert [anonymous(experiment) for experiment in expanded] == [anonymous(each) for each in experiments[label]]
    assert planned.num_subexperiments == sum(map(len, experiments.values()))

    addons = reconstruct_expectation_values(addons_results(planned, outcomes), coefficients, problem.subobservables)
    assert np.allclose(planned.combine(outcomes).values, planned.coefficients @ addons, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_samples", "shots"), [(None, 64), (None, 1024), (20, 4096), (20, 64)])
def test_standard_errors_are_as_large_as_the_spread(here, num_samples, shots):
    """Over runs with other seeds, the mean of (deviation / error)² is 1, give or take."""
    circuit, observables = chain(4, seed=7, layers=2), ["ZIIZ", "IXZI"]
    exact = expectation_values(circuit, observables)
    deviations = []
    for seed in range(40):
        planned = plan(circuit, observables, max_qubits=2, num_samples=num_samples, wires=False, seed=seed)
        result = planned.run(here, shots=shots, seed=seed)
        deviations.append((result.values - exact) / result.standard_errors)
    spread = np.mean(np.square(deviations), axis=0)  # 1, give or take sqrt(2 / 40) = 0.22
    assert np.all((spread > 0.45) & (spread < 1.75)), spread
    assert np.all(np.abs(np.mean(deviations, axis=0)) < 0.55)  # 0, give or take 1 / sqrt(40) = 0.16


def test_the_seed_decides_the_value(here):
    planned = plan(chain(4, seed=7), "ZIIZ", max_qubits=2)
    one, again, other = (planned.run(here, shots=100, seed=seed).values[0] for seed in (1, 1, 2))
    assert one == again != other


def test_planning_leaves_numpys_random_numbers_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    plan(chain(4, seed=7, layers=2), "ZIIZ", max_qubits=2, num_samples=10)
    assert np.random.random() == expected


def test_a_failed_subexperiment_fails_the_value(here):
    planned = plan(chain(4, seed=7), "ZIIZ", max_qubits=2)
    calls = []

    class Flaky(type(here)):
        def call(self, fn, arguments):
            calls.append(arguments)
            return super().call(self.fail if len(calls) == 3 else fn, arguments)

        def fail(self, *_):
            raise RuntimeError("the third one broke")

    with pytest.raises(RuntimeError, match="the third one broke"):
        planned.run(Flaky(), shots=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observables": "ZZ"}, "'ZZ' is on 2 qubits, the circuit has 4"),
        ({"observables": "ZQZZ"}, "'ZQZZ' is not valid; expected a Pauli string"),
        ({"observables": []}, "observables: none given"),
        ({"observables": {"ZZZZ": 1j}}, "coefficient 1j of 'ZZZZ'"),
        ({"observables": SparsePauliOp("ZZZZ", 1j)}, "not real and finite"),
        ({"observables": Pauli("iZZZZ")}, "not real and finite"),
        ({"observables": 3}, "observables: 3 is not valid"),
        ({"max_qubits": 0}, "max_qubits: 0 is not valid"),
        ({"max_qubits": "3"}, "max_qubits: '3' is not valid; expected a whole number"),
        ({"max_qubits": 2.5}, "max_qubits: 2.5 is not valid"),
        ({"max_qubits": True}, "max_qubits: True is not valid"),
        ({"max_qubits": [2, None]}, "max_qubits: .2, None. is not valid"),
        ({"max_qubits": np.float64(2)}, "max_qubits: np.float64.2.0. is not valid"),
        ({"num_samples": 0}, "num_samples: 0 is not valid"),
        ({"num_samples": 2.5}, "num_samples: 2.5 is not valid"),
        ({"circuit": QuantumCircuit(4)}, "no gates"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_wrong_input_says_what_is_wrong(change, message):
    arguments = {"circuit": chain(4, seed=7), "observables": "ZIIZ", "max_qubits": 2} | change
    with pytest.raises(DescriptionError, match=message):
        plan(**arguments)


def test_circuits_that_cannot_be_cut_are_refused():
    free, measured = QuantumCircuit(2), QuantumCircuit(2, 1)
    free.rx(Parameter("theta"), 0)
    measured.measure(0, 0)
    measured.cx(0, 1)
    for circuit, message in ((free, "'theta'"), (measured, "'measure'")):
        with pytest.raises(DescriptionError, match=message):
            plan(circuit, "ZZ", max_qubits=1)


def test_too_many_terms_and_too_few_shots_are_refused(here):
    deep = chain(4, seed=7, layers=8)
    with pytest.raises(DescriptionError, match="1,679,616 terms"):
        plan(deep, "ZIIZ", max_qubits=2, wires=False)
    with pytest.raises(DescriptionError, match="shots: 1 is not valid"):
        plan(chain(4, seed=7), "ZIIZ", max_qubits=2).run(here, shots=1)


@pytest.mark.parametrize(("size", "wires"), [(3, False), (4, True)])
def test_those_that_take_longest_are_handed_out_first_and_results_are_in_the_plans_order(here, size, wires):
    planned = plan(chain(7, seed=5, layers=2), ["ZIXIIYZ"], max_qubits=size, wires=wires)
    qubits = []

    def submit(function, *columns):
        calls = list(zip(*columns, strict=True))
        for fragment, choice, group, *_ in calls:
            gates = defer_measurements(planned.fragments[fragment].template.circuit(choice, group)).gates
            qubits.append(gates.num_qubits)
        return here.map(function, *zip(*calls, strict=True))

    outcomes = [future.result() for future in planned.submit(submit, shots=None)]
    assert len(outcomes) == planned.num_distinct
    assert qubits[0] == max(qubits) > qubits[-1]
    later = [max(qubits[place:]) - wide for place, wide in enumerate(qubits)]
    assert max(later) <= 1  # where the choice at a later cut is to do nothing, a measurement needs no qubit after all
    assert [one.num_bits for one in outcomes] == [made.num_clbits for made in planned.experiments()]
    expected = expectation_values(chain(7, seed=5, layers=2), ["ZIXIIYZ"])
    assert np.allclose(planned.combine(outcomes).values, expected, atol=1e-9)


def test_equal_plans_are_one_function_to_workers():
    made = []
    for _ in range(2):  # Qiskit numbers circuits and registers, so that the two have different names
        planned = plan(chain(6, seed=1), ["ZZIIZZ"], max_qubits=3, wires=False)
        planned.submit(lambda function, *columns: made.append(function) or [None] * len(list(columns[0])), shots=10)
    assert made[0] == made[1]
    assert hash(made[0]) == hash(made[1])
