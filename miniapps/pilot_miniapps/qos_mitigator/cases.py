"""Circuits of the studies."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from pilot.qos.families import FAMILIES, circuit
from pilot.qos.mitigator import Ising
from pilot.qos.mitigator.phases import couplings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qiskit import QuantumCircuit

#: Families whose circuits are of random graphs.
GRAPHS = ("qaoa-r", "qaoa-p")


def cases(graphs: int, families: Iterable[str] = FAMILIES) -> list[tuple[str, int]]:
    """Each family with its seeds: one, and so many of those with graphs."""
    return [(family, seed) for family in families for seed in range(graphs if family in GRAPHS else 1)]


def problem_of(family: str, made: QuantumCircuit) -> Ising | None:
    """The greatest cut of the graph that a circuit was made of; None: it was made of none."""
    if family not in GRAPHS:
        return None
    return Ising(fields=(0.0,) * made.num_qubits, couplings=dict.fromkeys(couplings_of(made), 1.0))


def by_family(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of each family."""
    found: dict[str, list[float]] = {}
    for family, value in values:
        found.setdefault(family, []).append(value)
    return {family: fmean(its) for family, its in found.items()}


def round_robin(count: int, first: int, families: Sequence[str] = tuple(FAMILIES)) -> list[tuple[str, int]]:
    """So many circuits: each family once with a seed, then with the next one."""
    return [(families[number % len(families)], first + number // len(families)) for number in range(count)]


def without_measurements(family: str, qubits: int, seed: int) -> QuantumCircuit:
    """The circuit of a family for observables."""
    made: QuantumCircuit = circuit(family, qubits, seed).remove_final_measurements(inplace=False)
    return made


def neighbours(qubits: int) -> list[Mapping[str, float]]:
    """ZZ of each qubit and the next one."""
    return [{f"Z{one} Z{one + 1}": 1.0} for one in range(qubits - 1)]
