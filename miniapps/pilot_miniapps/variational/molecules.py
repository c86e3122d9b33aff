"""Molecules on few qubits: Hamiltonians from PennyLane's own Hartree-Fock, and excitations of their electrons.

Integrals in the basis STO-3G come from PennyLane's differentiable Hartree-Fock. Spin orbitals are ordered by spin, and
mapped to qubits by parity: qubit ``n/2 - 1`` then holds the parity of the electrons with spin up, and qubit ``n - 1``
that of all. Both are conserved, so their Z are numbers, and the two qubits are left out (Bravyi et al.,
arXiv:1701.08213). H2 has two qubits then. Of LiH the inner electrons stay where they are, and of the outer orbitals
those without angular momentum along the axis are kept (Kandala et al., Nature 549, 242): four qubits.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import PauliEvolutionGate
from qiskit.quantum_info import SparsePauliOp

from pilot_miniapps.variational.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

#: With the others fixed the energy is a trigonometric polynomial of this degree in the angle of an excitation, since
#: the eigenvalues of its generator are -1, 0 and 1 (Kottmann et al., Chemical Science 12, 3497).
EXCITATION_DEGREE = 2


class Molecule(msgspec.Struct, frozen=True):
    """Two atoms on an axis.

    Attributes:
        atoms: their symbols.
        core: numbers of the orbitals whose electrons are not moved.
        active: those of the orbitals that are kept beside them.
        singles: excitations of single electrons are in the circuit. In H2 symmetry forbids them.
    """

    atoms: tuple[str, str]
    core: tuple[int, ...]
    active: tuple[int, ...]
    singles: bool


MOLECULES = {
    "h2": Molecule(("H", "H"), (), (0, 1), singles=False),
    "lih": Molecule(("Li", "H"), (0,), (1, 2, 5), singles=True),
}


def problem(name: str, length: float) -> Problem:
    """VQE for one of `MOLECULES`, with two electrons in its active orbitals. A worker runs it.

    Args:
        name: of the molecule.
        length: of the bond, in Å.
    """
    molecule = MOLECULES[name]
    wires = 2 * len(molecule.active)
    energy = _reduced(_fermions(molecule, length), wires)
    circuit = QuantumCircuit(wires - 2, name=f"{name}-{length:g}")
    circuit.x(_reference(wires))
    excitations = _excitations(molecule)
    angles = ParameterVector("t", len(excitations))
    for angle, excitation in zip(angles, excitations, strict=True):
        generator = _reduced(excitation, wires)  # i times real numbers: exp(angle · generator) is exp(-i t · Pauli)
        for pauli, coefficient in zip(generator.paulis, generator.coeffs, strict=True):
            circuit.append(PauliEvolutionGate(pauli, -coefficient.imag * angle), circuit.qubits)
    known = transpile(circuit, basis_gates=["cx", "rz", "sx", "x", "h"], optimization_level=1, seed_transpiler=0)
    number = len(excitations)
    return Problem(f"{name} {length:g} Å", known, _real(energy), (EXCITATION_DEGREE,) * number, (0.0,) * number)


def _fermions(molecule: Molecule, length: float) -> Any:
    """The energy in creation and annihilation operators, orbitals ordered by spin."""
    from pennylane import numpy, qchem

    places = numpy.array([[0.0, 0.0, 0.0], [0.0, 0.0, length]], requires_grad=False)
    described = qchem.Molecule(list(molecule.atoms), places, unit="angstrom")
    core = list(molecule.core) or None
    active = list(molecule.active) if core else None
    return _by_spin(qchem.fermionic_hamiltonian(described, core=core, active=active)(), len(molecule.active))


def _by_spin(sentence: Any, orbitals: int) -> Any:
    """PennyLane has spin up at 0, 2, 4, …; here it comes first."""
    from pennylane.fermi import FermiSentence, FermiWord

    return FermiSentence(
        {
            FermiWord({(place, wire // 2 + orbitals * (wire % 2)): sign for (place, wire), sign in word.items()}): value
            for word, value in sentence.items()
        }
    )


def _excitations(molecule: Molecule) -> list[Any]:
    """T - T† of each excitation from the lowest orbital: of both electrons, then of single ones."""
    from pennylane.fermi import FermiA as Annihilate
    from pennylane.fermi import FermiC as Create

    orbitals = len(molecule.active)
    empty = range(1, orbitals)
    found = [
        Create(up) * Create(orbitals + down) * Annihilate(orbitals) * Annihilate(0)
        for up, down in product(empty, empty)
    ]
    if molecule.singles:
        found += [Create(spin + to) * Annihilate(spin) for spin in (0, orbitals) for to in empty]
    return [one - one.adjoint() for one in found]


def _reduced(sentence: Any, wires: int) -> SparsePauliOp:
    """In Pauli strings, without the two qubits whose Z are known: one electron has spin up, one down."""
    from pennylane import parity_transform

    signs = {wires // 2 - 1: -1.0, wires - 1: 1.0}
    kept = [wire for wire in range(wires) if wire not in signs]
    terms: dict[str, complex] = {}
    for word, value in parity_transform(sentence, wires, ps=True).items():
        letters, sign = _letters(word, signs)
        label = "".join(letters.get(wire, "I") for wire in reversed(kept))
        terms[label] = terms.get(label, 0.0) + sign * complex(value)
    wanted = [(label, value) for label, value in terms.items() if abs(value) > 1e-10]
    return SparsePauliOp.from_list(wanted, num_qubits=len(kept))


def _letters(word: Mapping[int, str], signs: Mapping[int, float]) -> tuple[dict[int, str], float]:
    """The operators on the qubits that stay, and the sign of those that go."""
    sign = 1.0
    letters = {}
    for wire, letter in word.items():
        if wire not in signs:
            letters[wire] = letter
        elif letter == "Z":
            sign *= signs[wire]
        elif letter != "I":
            raise ValueError(f"{word} changes the parity of wire {wire}, which is conserved")
    return letters, sign


def _reference(wires: int) -> list[int]:
    """The qubits that are 1 where both electrons are in the lowest orbital."""
    occupied = np.zeros(wires, dtype=int)
    occupied[[0, wires // 2]] = 1
    parities = np.cumsum(occupied) % 2
    kept = [wire for wire in range(wires) if wire not in (wires // 2 - 1, wires - 1)]
    return [place for place, wire in enumerate(kept) if parities[wire]]


def _real(operator: SparsePauliOp) -> SparsePauliOp:
    return SparsePauliOp(operator.paulis, operator.coeffs.real)
