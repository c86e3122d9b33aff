"""Expectation values agree with the state vector, and their standard errors with their scatter."""

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import PauliList, SparsePauliOp, Statevector, random_pauli_list

from pilot.errors import DescriptionError
from pilot.quantum.aer import run_circuit
from pilot.quantum.expectation import Expectation, plan
from pilot.quantum.outcomes import Outcomes, Register

ORIGIN = (
    '"": -1.0534210769165204,"Z0": 0.394844363355904,"Z1": -0.39484436335590417,'
    '"Z0 Z1": -0.01124615715082114,"X0 X1": 0.18121046201519694'
)


def bell():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return circuit


def run(planned, shots, seed=0):
    numbers = planned.shots(shots)
    return [run_circuit(c, n, seed + k) for k, (c, n) in enumerate(zip(planned.circuits, numbers, strict=True))]


def test_origins_example():
    planned = plan(bell(), ORIGIN)
    result = planned.combine(run(planned, None))
    assert result.values == pytest.approx([-0.88345677205214], abs=1e-14)
    assert result.standard_errors == [0]
    assert {term.pauli: round(term.value, 12) for term in result.terms} == {"IZ": 0, "ZI": 0, "ZZ": 1, "XX": 1}
    assert planned.constants == pytest.approx([-1.0534210769165204])


@pytest.mark.parametrize("seed", range(15))
def test_values_are_the_state_vectors(seed):
    rng = np.random.default_rng(seed)
    circuit = random_circuit(4, 5, max_operands=2, seed=seed)
    observables = [
        SparsePauliOp(random_pauli_list(4, 7, seed=rng, phase=False), rng.normal(size=7)) for _ in range(3)
    ] + ["ZZZZ", "IIII"]
    planned = plan(circuit, observables)
    state = Statevector(circuit)
    exact = [state.expectation_value(SparsePauliOp(observable)).real for observable in observables]
    result = planned.combine(run(planned, None))
    assert result.values == pytest.approx(exact, abs=1e-12)
    for term in result.terms:
        assert term.value == pytest.approx(state.expectation_value(SparsePauliOp(term.pauli)).real, abs=1e-12)


def test_every_term_is_measured_once_in_a_commuting_group():
    observables = [{"ZZI": 1.0, "XXI": 0.1}, {"ZZI": -0.5, "IIZ": 2.0}, "XIX", "YII"]
    planned = plan(QuantumCircuit(3), observables)
    assert sorted(planned.paulis) == ["IIZ", "XIX", "XXI", "YII", "ZZI"]
    assert len(planned.circuits) == 3
    members = [planned.paulis[term] for group in planned.groups for term in group.terms]
    assert sorted(members) == sorted(planned.paulis)
    for group in planned.groups:
        paulis = PauliList([planned.paulis[term] for term in group.terms])
        assert len(paulis.group_commuting(qubit_wise=True)) == 1


def test_about_as_many_groups_as_by_colouring():
    paulis = random_pauli_list(8, 300, seed=3, phase=False).unique()
    planned = plan(QuantumCircuit(8), SparsePauliOp(paulis))
    assert len(planned.circuits) <= 1.05 * len(paulis.group_commuting(qubit_wise=True))


def test_errors_contain_the_covariance_of_terms_of_one_circuit():
    """In a Bell state Z0 and Z1 are equal: Z0 - Z1 is 0 without scatter, Z0 + Z1 has variance 4."""
    planned = plan(bell(), [{"IZ": 1.0, "ZI": -1.0}, {"IZ": 1.0, "ZI": 1.0}, {"IZ": 1.0, "XX": 1.0}])
    shots = 4000
    result = planned.combine(run(planned, shots))
    assert result.values[0] == 0
    assert 0 < result.standard_errors[0] < 0.002  # no shot told them apart: rarely, not never
    assert result.standard_errors[1] == pytest.approx((4 / shots) ** 0.5, rel=0.01)
    assert result.standard_errors[2] == pytest.approx((1 / shots) ** 0.5, rel=0.01)


def test_errors_are_the_scatter_of_values():
    rng = np.random.default_rng(5)
    circuit = random_circuit(3, 5, max_operands=2, seed=11)
    observables = [SparsePauliOp(random_pauli_list(3, 6, seed=rng, phase=False), rng.normal(size=6)) for _ in range(2)]
    planned = plan(circuit, observables)
    exact = planned.combine(run(planned, None)).values
    results = [planned.combine(run(planned, 100, seed=1000 * k)) for k in range(150)]
    deviations = np.array([(result.values - exact) / result.standard_errors for result in results])
    assert np.abs(deviations.mean(axis=0)).max() < 3 / 150**0.5
    assert np.abs(deviations.std(axis=0) - 1).max() < 3 / 300**0.5


def test_one_shot_has_the_largest_error():
    planned = plan(bell(), {"ZZ": 0.5, "XX": 2.0})
    assert planned.combine(run(planned, 1)).standard_errors == pytest.approx([(0.25 + 4) ** 0.5])


def counted(planned, ones, shots):
    """One qubit that was read 1 so often."""
    bits = np.array([[False], [True]])
    registers = (Register(planned.register, (0,)),)
    return Outcomes.from_bits(bits, np.array([shots - ones, ones]), registers=registers, shots=shots)


@pytest.mark.parametrize(("shots", "rate"), [(10, 0.005), (10, 0.1), (100, 0.005), (100, 0.02), (1000, 0.004)])
def test_few_shots_near_a_pole_have_an_interval(shots, rate):
    planned = plan(QuantumCircuit(1), "Z")
    rng = np.random.default_rng(2)
    found = [planned.combine([counted(planned, ones, shots)]) for ones in rng.binomial(shots, rate, size=400)]
    deviations = np.array([(one.values[0] - (1 - 2 * rate)) / one.standard_errors[0] for one in found])
    assert min(one.standard_errors[0] for one in found) > 0
    assert deviations.std() < 1.25
    assert (np.abs(deviations) < 1.96).mean() > 0.93 - 3 * (0.93 * 0.07 / 400) ** 0.5


@pytest.mark.parametrize("letters", ["ZZZZZZ", "IIIIIZ"])
@pytest.mark.parametrize("shots", [10, 100])
def test_wide_circuits_near_a_pole_have_an_interval(letters, shots):
    circuit = QuantumCircuit(6)
    circuit.ry(0.15, range(6))
    planned = plan(circuit, [letters, {f"Z{qubit}": 1 / 6 for qubit in range(6)}])
    exact = planned.combine(run(planned, None))
    state = run(planned, None)[0]
    rng = np.random.default_rng(3)
    deviations = []
    for _ in range(400):
        counts = rng.multinomial(shots, state.weights / state.weights.sum())
        bits = state.bits().astype(bool)
        one = planned.combine([Outcomes.from_bits(bits, counts, registers=state.registers, shots=shots)])
        deviations.append((one.values - exact.values) / one.standard_errors)
    assert np.std(deviations, axis=0).max() < 1.25
    assert (np.abs(deviations) < 1.96).mean(axis=0).min() > 0.89


def test_agresti_and_coull():
    planned = plan(QuantumCircuit(1), "Z")
    for ones, shots in [(0, 50), (3, 50), (25, 50), (200, 1000)]:
        rate = (ones + 2) / (shots + 4)
        expected = 4 * rate * (1 - rate) / shots * (1 + 2 / shots)
        assert planned.combine([counted(planned, ones, shots)]).standard_errors[0] == pytest.approx(expected**0.5)


def test_shots_by_weight():
    planned = plan(QuantumCircuit(2), {"ZZ": 3.0, "XX": 1.0, "YY": 1e-6})
    assert planned.shots(1000) == (1000,) * 3
    assert planned.shots(None, by_weight=True) == (None,) * 3
    paulis = [planned.paulis[group.terms[0]] for group in planned.groups]
    shots = dict(zip(paulis, planned.shots(1000, by_weight=True), strict=True))
    assert sum(shots.values()) == 3000
    assert shots["ZZ"] == pytest.approx(3 * shots["XX"], rel=0.01)
    assert shots["YY"] == 2


def test_weights_may_be_negative():
    """Quasi-probabilities 0.8 and -0.1 and 0.3: sampled with sizes of sum 1.2, each of 1.2 times its sign."""
    planned = plan(QuantumCircuit(2), "ZZ")
    outcome = Outcomes.from_bits(
        np.array([[0, 0], [0, 1], [1, 0]], dtype=bool),
        np.array([800.0, -100.0, 300.0]),
        registers=(Register(planned.register, (0, 1)),),
        shots=1000,
    )
    result = planned.combine([outcome])
    assert result.values == pytest.approx([0.8 + 0.1 - 0.3])
    assert result.standard_errors == pytest.approx([((1.2**2 - 0.6**2) / 999) ** 0.5], rel=0.01)


def test_parameters_stay_free():
    angle = Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    planned = plan(circuit, ["Z", "Y", "X"])
    assert all(set(measured.parameters) == {angle} for measured in planned.circuits)
    outcomes = [run_circuit(measured.assign_parameters({angle: 0.7}), None, 0) for measured in planned.circuits]
    assert planned.combine(outcomes).values == pytest.approx([np.cos(0.7), -np.sin(0.7), 0.0], abs=1e-12)


def test_measurements_at_the_end_are_left_out_those_in_the_middle_stay():
    circuit = QuantumCircuit(1)
    circuit.add_register(ClassicalRegister(1, "pauli"))
    circuit.h(0)
    circuit.measure(0, 0)
    final = plan(circuit, "X")
    assert final.combine(run(final, None)).values == pytest.approx([1.0])
    circuit.x(0)
    middle = plan(circuit, "X")
    assert middle.register == "pauli1"
    assert middle.combine(run(middle, None)).values == pytest.approx([0.0], abs=1e-12)


def test_constants_need_no_circuit():
    planned = plan(bell(), [{"II": 2.0}, {"ZZ": 0.0, "II": 1.0}])
    assert planned.circuits == ()
    assert planned.combine([]).values.tolist() == [2.0, 1.0]


def test_the_number_of_outcomes_is_checked():
    planned = plan(bell(), ["ZZ", "XX"])
    with pytest.raises(ValueError, match="shorter"):
        planned.combine(run(planned, 10)[:1])


def test_no_observable_is_refused():
    with pytest.raises(DescriptionError, match="observables: none given"):
        plan(bell(), [])


def test_notebooks_show_values_of_one_set_and_of_several():
    def shown(values):
        return Expectation(values=values, standard_errors=np.zeros_like(values), terms=())._repr_html_()

    assert "<td>1</td><td>-0.5</td><td>0</td>" in shown(np.array([0.25, -0.5]))
    assert "<td>1</td><td>0</td><td>0.125</td><td>0</td>" in shown(np.array([[0.25, -0.5], [0.125, 1.0]]))
