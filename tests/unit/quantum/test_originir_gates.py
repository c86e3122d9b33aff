"""The matrices of OriginIR's gates, as pyqpanda3 has them, and blocks against Qiskit's own inverse and control."""

import random
from math import pi

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator

from pilot.quantum.programs.originir import dumps, loads
from pilot.quantum.programs.originir.gates import GATES

A, B, G, D = 0.3, -0.8, 1.1, 2.3


def exp(angle):
    return np.exp(1j * angle)


def rx(t):
    return np.array([[np.cos(t / 2), -1j * np.sin(t / 2)], [-1j * np.sin(t / 2), np.cos(t / 2)]])


def ry(t):
    return np.array([[np.cos(t / 2), -np.sin(t / 2)], [np.sin(t / 2), np.cos(t / 2)]])


def rz(t):
    return np.diag([exp(-t / 2), exp(t / 2)])


def u3(t, p, m):
    return np.array([[np.cos(t / 2), -exp(m) * np.sin(t / 2)], [exp(p) * np.sin(t / 2), exp(p + m) * np.cos(t / 2)]])


def u4(a, b, g, d):
    return exp(a) * rz(b) @ ry(g) @ rz(d)


def rphi(t, p):
    return np.array([[np.cos(t / 2), -1j * exp(-p) * np.sin(t / 2)], [-1j * exp(p) * np.sin(t / 2), np.cos(t / 2)]])


def middle(cosine, sine):
    """Acts on |01> and |10> alone."""
    return np.array([[1, 0, 0, 0], [0, cosine, sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])


def controlled(matrix):
    """By q[0], the least significant bit; `matrix` acts on q[1]."""
    result = np.eye(4, dtype=complex)
    result[np.ix_([1, 3], [1, 3])] = matrix
    return result


X, Y, Z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])


def pauli_rotation(first, second, t):
    """exp(-i t/2 second (x) first), `first` on q[0]."""
    return np.cos(t / 2) * np.eye(4) - 1j * np.sin(t / 2) * np.kron(second, first)


def permutation(*places):
    return np.eye(len(places))[list(places)]


UU15 = [0.1 * k - 0.7 for k in range(15)]


def uu15(a):
    pairs = pauli_rotation(Z, Z, a[8]) @ pauli_rotation(Y, Y, a[7]) @ pauli_rotation(X, X, a[6])
    return np.kron(u3(*a[12:15]), u3(*a[9:12])) @ pairs @ np.kron(u3(*a[3:6]), u3(*a[0:3]))


MATRICES = {
    "H": ((), np.array([[1, 1], [1, -1]]) / np.sqrt(2)),
    "X": ((), X),
    "Y": ((), Y),
    "Z": ((), Z),
    "S": ((), np.diag([1, 1j])),
    "T": ((), np.diag([1, exp(pi / 4)])),
    "SX": ((), exp(pi / 4) * rx(pi / 2)),
    "X1": ((), rx(pi / 2)),
    "Y1": ((), ry(pi / 2)),
    "Z1": ((), rz(pi / 2)),
    "I": ((), np.eye(2)),
    "ECHO": ((), np.eye(2)),
    "IDLE": ((20,), np.eye(2)),
    "RX": ((A,), rx(A)),
    "RY": ((A,), ry(A)),
    "RZ": ((A,), rz(A)),
    "U1": ((A,), np.diag([1, exp(A)])),
    "P": ((A,), np.diag([1, exp(A)])),
    "U2": ((A, B), np.array([[1, -exp(B)], [exp(A), exp(A + B)]]) / np.sqrt(2)),
    "U3": ((A, B, G), u3(A, B, G)),
    "U4": ((A, B, G, D), u4(A, B, G, D)),
    "RPHI": ((A, B), rphi(A, B)),
    "RPhi": ((A, B), rphi(A, B)),
    "RPHI90": ((B,), rphi(pi / 2, B)),
    "RPhi180": ((B,), rphi(pi, B)),
    "RPHI180": ((B,), rphi(pi, B)),
    "CNOT": ((), controlled(X)),
    "CZ": ((), controlled(Z)),
    "SWAP": ((), permutation(0, 2, 1, 3)),
    "ISWAP": ((), middle(0, 1j)),
    "SQISWAP": ((), middle(1 / np.sqrt(2), 1j / np.sqrt(2))),  # pyqpanda3's; QPanda 2 has -1j
    "ISWAPTHETA": ((A,), middle(np.cos(A), -1j * np.sin(A))),  # QPanda 2's, the only one
    "CR": ((A,), controlled(np.diag([1, exp(A)]))),
    "CP": ((A,), controlled(np.diag([1, exp(A)]))),
    "CU": ((A, B, G, D), controlled(u4(A, B, G, D))),
    "CRX": ((A,), controlled(rx(A))),
    "CRY": ((A,), controlled(ry(A))),
    "CRZ": ((A,), controlled(rz(A))),
    "RXX": ((A,), pauli_rotation(X, X, A)),
    "RYY": ((A,), pauli_rotation(Y, Y, A)),
    "RZZ": ((A,), pauli_rotation(Z, Z, A)),
    "RZX": ((A,), pauli_rotation(Z, X, A)),
    "MS": ((), pauli_rotation(X, X, pi / 2)),
    "XX": ((A,), pauli_rotation(X, X, A)),
    "YY": ((A,), pauli_rotation(Y, Y, A)),
    "ZZ": ((A,), pauli_rotation(Z, Z, A)),
    "XY": ((A,), middle(np.cos(A / 2), -1j * np.sin(A / 2))),
    "PHASE2Q": (
        (A, B, G),
        pauli_rotation(Z, Z, G) @ np.kron(np.diag([1, exp(B)]), np.diag([1, exp(A)])),
    ),
    "UU15": (tuple(UU15), uu15(UU15)),
    "TOFFOLI": ((), permutation(0, 1, 2, 7, 4, 5, 6, 3)),
    "CSWAP": ((), permutation(0, 1, 2, 5, 4, 3, 6, 7)),
}


def program(name, angles):
    gate = GATES[name.upper()]
    operands = ",".join(f"q[{number}]" for number in range(gate.num_qubits))
    parameters = f",({','.join(map(repr, angles))})" if angles else ""
    return f"QINIT {gate.num_qubits}\n{name} {operands}{parameters}"


def test_every_gate_has_its_matrix_here():
    assert {name.upper() for name in MATRICES} == set(GATES)


@pytest.mark.parametrize("name", MATRICES)
def test_matrix(name):
    angles, matrix = MATRICES[name]
    assert np.allclose(Operator(loads(program(name, angles))).data, matrix, atol=1e-12)


@pytest.mark.parametrize("name", ["U4", "Z1", "SX", "RPHI", "ISWAP", "UU15", "U2"])
def test_global_phases_count_inside_control(name):
    angles, matrix = MATRICES[name]
    gate = GATES[name]
    _, line = program(name, angles).split("\n")
    control = gate.num_qubits
    text = f"QINIT {control + 1}\nCONTROL q[{control}]\n{line}\nENDCONTROL"
    expected = np.kron(np.diag([1, 0]), np.eye(len(matrix))) + np.kron(np.diag([0, 1]), matrix)
    assert np.allclose(Operator(loads(text)).data, expected, atol=1e-9)


@pytest.mark.parametrize("name", MATRICES)
def test_written_and_read_again(name):
    angles, matrix = MATRICES[name]
    again = Operator(loads(dumps(loads(program(name, angles))))).data
    overlap = np.trace(again.conj().T @ matrix) / len(matrix)
    assert abs(abs(overlap) - 1) < 1e-12


def block(chance, depth, free):
    """Lines of OriginIR, and the same by Qiskit's own `inverse` and `control`."""
    circuit = QuantumCircuit(4)
    lines = []
    for _ in range(chance.randint(1, 3)):
        kind = chance.random()
        if depth and kind < 0.3:
            inner, body = block(chance, depth - 1, free)
            lines += ["DAGGER", *inner, "ENDDAGGER"]
            circuit.compose(body.inverse(), inplace=True)
        elif depth and kind < 0.6 and len(free) > 1:
            controls = chance.sample(free, chance.randint(1, min(2, len(free) - 1)))
            rest = [each for each in free if each not in controls]
            inner, body = block(chance, depth - 1, rest)
            operands = ",".join(f"q[{each}]" for each in controls)
            lines += [f"CONTROL {operands}", *inner, chance.choice(["ENDCONTROL", f"ENDCONTROL {operands}"])]
            small = QuantumCircuit(len(rest), global_phase=body.global_phase)
            for each in body.data:
                small.append(each.operation, [rest.index(body.find_bit(qubit).index) for qubit in each.qubits])
            circuit.append(small.to_gate().control(len(controls), annotated=False), controls + rest)
        else:
            name = chance.choice(["H", "T", "U4", "Z1", "RPHI"] + ["CU", "SQISWAP", "CNOT"] * (len(free) > 1))
            gate = GATES[name]
            qubits = chance.sample(free, gate.num_qubits)
            angles = [round(chance.uniform(-3, 3), 3) for _ in range(gate.num_parameters)]
            parameters = f",({','.join(map(str, angles))})" if angles else ""
            lines.append(f"{name} {','.join(f'q[{each}]' for each in qubits)}{parameters}")
            circuit.compose(loads(program(name, angles)), qubits, inplace=True)
    return lines, circuit


@pytest.mark.parametrize("seed", range(25))
def test_nested_blocks_are_qiskits_inverse_and_control(seed):
    lines, circuit = block(random.Random(seed), 3, [0, 1, 2, 3])
    read = loads("\n".join(["QINIT 4", *lines]))
    assert np.allclose(Operator(read).data, Operator(circuit).data, atol=1e-8)


def test_dagger_of_control_is_control_of_dagger():
    inner = "U4 q[0],(0.3,-0.8,1.1,2.3)\nCNOT q[0],q[1]\nT q[1]"
    first = f"QINIT 3\nDAGGER\nCONTROL q[2]\n{inner}\nENDCONTROL\nENDDAGGER"
    second = f"QINIT 3\nCONTROL q[2]\nDAGGER\n{inner}\nENDDAGGER\nENDCONTROL"
    assert np.allclose(Operator(loads(first)).data, Operator(loads(second)).data)
