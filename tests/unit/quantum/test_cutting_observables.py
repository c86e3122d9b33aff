"""Cutting gives one value and its error for every form of observable."""

from types import SimpleNamespace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import Pauli, PauliList, SparseObservable, SparsePauliOp, Statevector

from pilot.errors import DescriptionError
from pilot.quantum.cutting import plan
from pilot.quantum.cutting.contraction import variance_of_draws
from pilot.quantum.observables import operators


def chain(num_qubits=4, seed=7):
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.u(*rng.uniform(0, 2 * np.pi, 3), qubit)
    for qubit in range(num_qubits - 1):
        circuit.cx(qubit, qubit + 1)
        circuit.ry(rng.uniform(0, 2), qubit + 1)
    return circuit


def exact(circuit, observables):
    state = Statevector(circuit)
    return np.array([state.expectation_value(each).real for each in operators(observables, circuit.num_qubits)])


FORMS = {
    "mapping": {"ZZII": 0.5, "IIZZ": -2.0},
    "one operator": SparsePauliOp.from_list([("ZZII", 0.5), ("IXYZ", -2.0), ("IIII", 0.25)]),
    "several": [{"ZZII": 0.5, "X0": 0.1}, SparsePauliOp("YIIY", 3), "ZIZI", "-ZZZZ"],
    "pairs": [("ZZII", 0.5), ("Z0 X3", 2.0)],
    "numbered": "Z0 Z1",
    "text": '"": -1.05, "Z0": 0.39, "Z0 Z1": -0.01',
    "signed": "-ZZII",
    "pauli": Pauli("-ZIXI"),
    "rows": PauliList(["ZZII", "-IXXI"]),
    "sparse": SparseObservable.from_list([("ZZII", 0.5), ("IXYZ", -2.0)]),
    "projectors": SparseObservable("01+I"),
    "twice": [("ZZII", 0.5), ("ZZII", 0.25), ("Z3 Z2", 1.0)],
    "the same one twice": ["ZZII", "ZZII"],
    "identity": ["IIII", {"": 2.0, "ZIII": 1.0}],
    "identity alone": {"IIII": -1.5},
    "nothing": {"ZZII": 0.0},
    "cancelled": [("ZZII", 1.0), ("ZZII", -1.0)],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["gates", "wires", "whole"])
def test_every_form(here, form, kind):
    circuit = chain()
    planned = plan(circuit, FORMS[form], 4 if kind == "whole" else 2 if kind == "gates" else 3, wires=kind == "wires")
    result = planned.run(here, shots=None)
    assert result.values == pytest.approx(exact(circuit, FORMS[form]), abs=1e-9)
    assert not result.standard_errors.any()


def test_idle_qubits_have_their_share(here):
    circuit = QuantumCircuit(5).compose(chain(3), [0, 1, 3])
    observables = [{"ZIIZZ": 0.5, "IZZII": 2.0}, {"X2": 1.0, "Z0": 3.0}, {"Y4 X0": 1.0}]
    for samples in (None, 50):
        result = plan(circuit, observables, 2, num_samples=samples, distribution=True).run(here, shots=None)
        if samples is None:
            assert result.values == pytest.approx(exact(circuit, observables), abs=1e-9)
        assert result.values[2] == result.standard_errors[2] == 0


HAMILTONIANS = [
    {"ZZII": 1.0, "IIZZ": -1.2, "ZIIZ": 0.7, "Z0": 0.5, "XXII": -0.8, "X3": 0.4},
    {"ZZZZ": 1.0, "ZZII": 1.0, "IIZZ": 1.0},
]


@pytest.mark.parametrize(
    ("num_samples", "shots", "seeds"), [(None, 200, 25), (20, 200, 25)], ids=["all terms", "drawn terms"]
)
def test_the_error_of_a_sum_has_its_covariances(here, num_samples, shots, seeds):
    """The spread of deviation / error over seeds is 1, give or take 1 / sqrt(2 seeds): 0.14."""
    circuit = chain(seed=3)
    circuit.cx(1, 2)
    true = exact(circuit, HAMILTONIANS)
    deviations = []
    planned = None
    for seed in range(seeds):
        if planned is None or num_samples is not None:
            planned = plan(circuit, HAMILTONIANS, 2, num_samples=num_samples, wires=False, seed=seed)
        result = planned.run(here, shots=shots, seed=seed)
        deviations.append((result.values - true) / result.standard_errors)
    assert np.all(np.abs(np.mean(deviations, axis=0)) < 3.5 / np.sqrt(seeds))
    assert np.all(np.abs(np.std(deviations, axis=0) - 1) < 0.45), np.std(deviations, axis=0)


def test_what_is_measured_together_is_not_independent(here):
    """Twice the same string with other coefficients has no error where they cancel, and twice the error of one."""
    circuit, plus, minus = chain(), {"ZZII": 1.0, "ZIII": 1.0}, {"ZZII": 1.0, "ZIII": -1.0}
    result = plan(circuit, ["ZZII", "ZIII", plus, minus], 2, wires=False).run(here, shots=300, seed=2)
    one, other, both, difference = result.standard_errors**2
    # var(a+b) + var(a-b); the shots that are added to those taken are not the same ones for each
    assert both + difference == pytest.approx(2 * (one + other), rel=0.02)
    assert abs(both - difference) > 0.05 * both


@pytest.mark.parametrize("name", ["h", "id", "cu3", "u", "measure", "barrier", "reset", "delay"])
def test_own_gates_with_names_of_others(here, name):
    definition = QuantumCircuit(2, name=name)
    definition.ry(0.7, 0)
    definition.cx(0, 1)
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.append(definition.to_gate(), [0, 1])
    circuit.append(definition.to_gate(), [1, 2])
    result = plan(circuit, ["ZZZ", "XIY", "IIZ"], 2).run(here, shots=None)
    assert result.values == pytest.approx(exact(circuit, ["ZZZ", "XIY", "IIZ"]), abs=1e-9)


def test_own_gates_with_bound_parameters(here):
    angle = Parameter("p")
    definition = QuantumCircuit(2, name="cu3")
    definition.rx(angle, 0)
    definition.cx(0, 1)
    circuit = QuantumCircuit(2)
    circuit.append(definition.to_gate({angle: 0.3}), [0, 1])
    result = plan(circuit, ["ZZ", "XX"], 1).run(here, shots=None)
    assert result.values == pytest.approx(exact(circuit, ["ZZ", "XX"]), abs=1e-9)


@pytest.mark.parametrize("max_qubits", [np.int64(2), range(1, 3), np.arange(1, 3), (2,)])
def test_whole_numbers_of_every_kind(here, max_qubits):
    assert plan(chain(), "ZZII", max_qubits).width <= 2


def test_an_observable_of_another_width_is_refused():
    with pytest.raises(DescriptionError, match="is on 3 qubits, the circuit has 4"):
        plan(chain(), SparsePauliOp("ZZZ"), 2)


@pytest.mark.parametrize("number", [4, 12])
def test_intervals_of_few_drawn_terms_hold_the_truth(number):
    """A spread that few draws tell needs Student's interval: the normal one holds 86 % of the truths with 4 draws."""
    rng, repetitions = np.random.default_rng(2), 4000
    terms = rng.normal(0.3, 1.0, size=(number, repetitions))
    draws = SimpleNamespace(draws=np.ones(number, dtype=int), draw_weight=1 / number)
    variance = variance_of_draws(draws, terms.sum(axis=0), (terms**2).sum(axis=0), np.zeros(repetitions))
    held = np.abs(terms.mean(axis=0) - 0.3) <= 1.96 * np.sqrt(variance)
    assert 0.94 < held.mean() < 0.96
