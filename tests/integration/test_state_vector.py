"""The distributed state vector on real ranks of a real MPI, against a dense simulation from the gates' definitions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pilot_miniapps.state_vector.layers import random_weights, strongly_entangling
from pilot_miniapps.state_vector.memory import bytes_predicted

pytest.importorskip("mpi4py")

MPIEXEC = Path(sys.executable).parent / "mpiexec"
PROGRAM = Path(__file__).parent / "state_vector_ranks.py"
X, Y, Z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])

Circuit = list[tuple[Any, list[tuple[int, int]]]]


def on_ranks(ranks: int, circuits: list[Circuit], folder: Path) -> list[dict[str, Any]]:
    if not MPIEXEC.exists():
        pytest.skip("there is no mpiexec beside this Python")
    path = folder / "circuits.json"
    path.write_text(json.dumps([[[np.array(angles).tolist(), cnots] for angles, cnots in one] for one in circuits]))
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, "-m", "mpi4py", str(PROGRAM), str(path)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def random_circuits() -> list[Circuit]:
    """From 4 to 7 qubits, with CNOTs anywhere, between any two qubits, and layers without any."""
    rng = np.random.default_rng(3)
    circuits = []
    for qubits, layers, cnots in ((4, 2, 12), (5, 1, 4), (6, 3, 5), (7, 2, 0), (7, 3, 9)):
        circuits.append(
            [
                (
                    rng.uniform(-7, 7, (qubits, 3)),
                    [tuple(rng.choice(qubits, 2, replace=False).tolist()) for _ in range(cnots)],
                )
                for _ in range(layers)
            ]
        )
    return circuits


def entangling(qubits: int, layers: int) -> Circuit:
    return [(one.angles, list(one.cnots)) for one in strongly_entangling(random_weights(layers, qubits, 5))]


def dense(circuit: Circuit) -> Any:
    """The values of Z on each qubit, gate by gate on a tensor with an axis for each qubit."""
    qubits = len(circuit[0][0])
    state = np.zeros((2,) * qubits, complex)
    state[(0,) * qubits] = 1

    def turned(state: Any, qubit: int, matrix: Any) -> Any:
        return np.moveaxis(np.einsum("ab,b...->a...", matrix, np.moveaxis(state, qubit, 0)), 0, qubit)

    for angles, cnots in circuit:
        for qubit, (phi, theta, omega) in enumerate(np.array(angles)):
            for angle, pauli in ((phi, Z), (theta, Y), (omega, Z)):
                state = turned(state, qubit, np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * pauli)
        for control, target in cnots:
            on = turned(turned(state, target, X), control, np.diag([0, 1]))
            state = turned(state, control, np.diag([1, 0])) + on
    return np.array([np.sum(state.conj() * turned(state, qubit, Z)).real for qubit in range(qubits)])


def shifted(circuit: Circuit, place: tuple[int, int, int]) -> Any:
    """The derivative of the values by one angle, by the parameter-shift rule, which is exact for rotations."""
    layer, qubit, angle = place
    ends = []
    for sign in (1, -1):
        angles = np.array(circuit[layer][0])
        angles[qubit, angle] += sign * np.pi / 2
        ends.append(dense([*circuit[:layer], (angles, circuit[layer][1]), *circuit[layer + 1 :]]))
    return (ends[0] - ends[1]) / 2


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_random_circuits(ranks: int, tmp_path: Path) -> None:
    circuits = random_circuits()
    rng = np.random.default_rng(ranks)
    for circuit, found in zip(circuits, on_ranks(ranks, circuits, tmp_path), strict=True):
        np.testing.assert_allclose(found["values"], dense(circuit), atol=1e-12)
        qubits, gradient = len(circuit[0][0]), np.array(found["gradient"])
        assert gradient.shape == (qubits, len(circuit), qubits, 3)
        for _ in range(4):
            place = (int(rng.integers(len(circuit))), int(rng.integers(qubits)), int(rng.integers(3)))
            np.testing.assert_allclose(gradient[(slice(None), *place)], shifted(circuit, place), atol=1e-12)
        assert (found["bytes"] == [0, 0]) == (ranks == 1)


@pytest.mark.parametrize("ranks", [2, 4])
def test_as_many_bytes_are_sent_as_are_predicted(ranks: int, tmp_path: Path) -> None:
    sizes = ((10, 2), (11, 1), (12, 4))
    for number, found in enumerate(on_ranks(ranks, [entangling(*size) for size in sizes], tmp_path)):
        qubits, layers = sizes[number]
        predicted = bytes_predicted(layers, qubits, ranks), bytes_predicted(layers, qubits, ranks, 1 + number)
        assert tuple(found["bytes"]) == predicted


def test_ranks_and_circuits_that_are_refused(tmp_path: Path) -> None:
    wrong = entangling(4, 2)
    wrong[1][0][2, 1] = float("nan")
    (few,) = on_ranks(3, [entangling(6, 2)], tmp_path)
    assert few == {"error": "ranks: a power of two is needed, got 3"}
    small, nan = on_ranks(4, [entangling(1, 1), wrong], tmp_path)
    assert small["error"].startswith("ranks: 4 hold too few local qubits of 1")
    assert nan == {"error": "angles: finite numbers are needed, got nan on qubit 2"}
