"""Pauli twirling: coherent errors of two-qubit gates become random Pauli errors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from qiskit.circuit import pauli_twirl_2q_gates
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import Optimize1qGatesDecomposition

from pilot.errors import DescriptionError, invalid
from pilot.quantum.mitigation.stage import Device, Planned, Shots, Stage, each, merged
from pilot.quantum.outcomes import draw_seeds, is_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit import QuantumCircuit

    from pilot.quantum.outcomes import Outcomes

#: Gates that take Pauli operators to Pauli operators, so that those before them can be undone after them.
TWIRLED = frozenset({"cx", "cz", "ecr", "iswap"})


@dataclass(frozen=True)
class Twirling(Stage):
    """Each circuit as several: random Pauli operators before each two-qubit gate, and after it what undoes them.

    The circuit's own unitary stays. Over the copies an error that always turns the same way averages to one that
    turns at random, which shots and zero-noise extrapolation handle better (Wallman and Emerson, PRA 94 052325,
    2016). The Pauli operators are merged with the gates on one qubit around them. Gates other than cx, cz, ecr
    and iswap are left as they are. The shots of a circuit are split over its copies; outcomes are merged.
    """

    #: Copies of each circuit, fewer where it has fewer shots. Standard errors contain the scatter between copies, which
    #: few of them estimate badly.
    num: int = 32

    name = "twirling"

    def __post_init__(self) -> None:
        if not is_whole(self.num):
            raise invalid("twirling.num", self.num, "a whole number of at least 1")

    def plan(
        self, circuits: Sequence[QuantumCircuit], shots: Shots, device: Device, seed: int | None = None
    ) -> Planned:
        """`num` copies of each circuit; a circuit without two-qubit gates stays one.

        Raises:
            DescriptionError: a circuit has two-qubit gates, but none that can be twirled.
        """
        copies: list[QuantumCircuit] = []
        shares: list[int | None] = []
        numbers = []
        for circuit, its_shots, its_seed in zip(
            circuits, each(shots, len(circuits)), draw_seeds(seed, len(circuits)), strict=True
        ):
            number = self.num if its_shots is None else min(self.num, its_shots)
            twirls = _twirls(circuit, device, number, its_seed)
            copies += twirls
            shares += _split(its_shots, len(twirls))
            numbers.append(len(twirls))
        return Planned(circuits=tuple(copies), shots=tuple(shares), merge=partial(_merge, numbers))


def _twirls(circuit: QuantumCircuit, device: Device, number: int, seed: int) -> list[QuantumCircuit]:
    two_qubit = {entry.operation.name for entry in circuit.data if len(entry.qubits) == 2 and not entry.clbits}
    two_qubit -= {"barrier"}
    if not two_qubit:
        return [circuit]
    if not two_qubit & TWIRLED:
        raise DescriptionError(
            f"twirling: circuit {circuit.name!r} has the two-qubit gates {sorted(two_qubit)}; only {sorted(TWIRLED)} "
            "can be twirled: leave the stage out, or compile for a QPU with these",
            field="mitigation",
        )
    twirls = pauli_twirl_2q_gates(circuit, seed=seed, num_twirls=number, target=device.target)
    if device.target is not None:
        tidy = PassManager([Optimize1qGatesDecomposition(target=device.target)])
        twirls = [tidy.run(twirl) for twirl in twirls]
    for twirl in twirls:
        twirl.name = circuit.name
    return list(twirls)


def _split(shots: int | None, number: int) -> list[int | None]:
    """`shots` in `number` parts that differ by one at most."""
    if shots is None:
        return [None] * number
    return [shots // number + (part < shots % number) for part in range(number)]


def _merge(numbers: Sequence[int], outcomes: list[Outcomes]) -> list[Outcomes]:
    ends = list(itertools.accumulate(numbers))
    return [merged(outcomes[end - number : end]) for number, end in zip(numbers, ends, strict=True)]
