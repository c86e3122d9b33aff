"""Every form of an observable is the same operator; what is none is refused in words."""

import numpy as np
import pytest
from qiskit.circuit import Parameter
from qiskit.quantum_info import Pauli, PauliList, SparseObservable, SparsePauliOp

from pilot.errors import DescriptionError
from pilot.quantum.observables import hamiltonian, operators

OPERATOR = SparsePauliOp(["ZZI", "IIX"], [0.5, -2.0])


@pytest.mark.parametrize(
    "given",
    [
        OPERATOR,
        {"ZZI": 0.5, "IIX": -2.0},
        [("ZZI", 0.5), ("IIX", -2)],
        {"ZZI": np.float64(0.5), "-IIX": 2.0},
        {"Z1 Z2": 0.5, "X0": -2.0},
        '"Z2 Z1": 0.5, "X0": -2.0',
        '{"Z1 Z2": 0.25, "Z2 Z1": 0.25, "X0": -2.0}',
        SparseObservable.from_sparse_pauli_op(OPERATOR),
    ],
    ids=["SparsePauliOp", "mapping", "pairs", "signs", "numbered", "members", "JSON", "SparseObservable"],
)
def test_forms_are_the_same_operator(given):
    (operator,) = operators(given, 3)
    assert operator.simplify().equiv(OPERATOR)
    assert [entry.simplify() for entry in operators([given, "ZZZ"], 3)][1].equiv(SparsePauliOp("ZZZ"))


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ("XYZ", ["XYZ"]),
        (Pauli("-XYZ"), ["XYZ"]),
        (["XII", "IIX"], ["XII", "IIX"]),
        (PauliList(["XII", "IIX"]), ["XII", "IIX"]),
        (("Z0", "X2 Z0"), ["IIZ", "XIZ"]),
        ("", ["III"]),
    ],
)
def test_one_or_several(given, labels):
    assert [operator.paulis[0].to_label().lstrip("-") for operator in operators(given, 3)] == labels
    assert operators(Pauli("-XYZ"), 3)[0].coeffs[0] == -1


def test_projectors_are_sums_of_paulis():
    (operator,) = operators(SparseObservable("0I"), 2)
    assert operator.simplify().equiv(SparsePauliOp(["II", "ZI"], [0.5, 0.5]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ZZ", "'ZZ' is on 2 qubits, the circuit has 3"),
        (SparsePauliOp("ZZ"), "on 2 qubits, the circuit has 3"),
        ("ZZz", "'ZZz' is not valid; expected a Pauli string"),
        ("iZZZ", "expected a Pauli string"),
        ("Z0 Z0", "names qubit 0 twice"),
        ("Z3", "qubits 0 to 2"),
        ("Z99999999999999999999", "qubits 0 to 2"),
        ({"Z0 Q1": 1.0}, "expected a Pauli string"),
        ({"ZZZ": 1j}, "real, finite number"),
        ({"ZZZ": float("nan")}, "real, finite number"),
        ({"ZZZ": True}, "real, finite number"),
        ({"ZZZ": 10**400}, "real, finite number"),
        ({"ZZZ": "1"}, "real, finite number"),
        (SparsePauliOp("ZZZ", [1j]), "Hermitian"),
        (SparsePauliOp("ZZZ", [Parameter("a")]), "parameters without values"),
        (3, "3 is not valid; expected"),
        ({"ZZZ", "XXX"}, "is not valid; expected one, or a list of them"),
        ([3], "3 is not valid; expected"),
        ({0: 1.0}, "0 is not valid; expected"),
    ],
)
def test_what_is_no_observable_is_refused(given, words):
    with pytest.raises(DescriptionError, match=words):
        operators(given, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"Z0": 0.39,', "not a list of JSON members"),
        ("[" * 100_000, "not a list of JSON members"),
        ('"Z0": [1]', "real, finite number"),
        ('"Z0": true', "real, finite number"),
        ('"Z0": NaN', "real, finite number"),
        (f'"Z0": 1{"0" * 400}', "real, finite number"),
        (f'"Z0": 1{"0" * 5000}', "not a list of JSON members"),
        ('"0Z": 1', "'0Z' in '0Z'; a factor is I, X, Y or Z"),
        ('"z0": 1', "'z0' in 'z0'; a factor is I, X, Y or Z"),
        ('"Z0 X0": 1', "names qubit 0 twice"),
        ('"Z٣": 1', "a factor is"),
        ('"Z2": 1', "qubits 0 to 1"),
    ],
)
def test_what_is_no_hamiltonian_is_refused(text, words):
    with pytest.raises(DescriptionError, match=words):
        hamiltonian(text, 2)


def test_equal_terms_of_a_hamiltonian_add_up():
    assert hamiltonian('"Z0": 1, "Z0": 2, "": 0.5', 2).simplify().equiv(SparsePauliOp(["IZ", "II"], [3, 0.5]))
