"""Bundles: circuits of several tasks that a device runs at the same time, on qubits of their own, as one circuit.

What puts circuits together is a `Bundler`; `joined` makes one circuit of theirs, and `split` gives each its outcomes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ClassicalRegister, QuantumRegister

from pilot.quantum.outcomes import Outcomes, QuasiOutcomes, Register, registers_of

if TYPE_CHECKING:
    from pilot.quantum.compilation import Compiler

#: The one classical register of a bundle.
REGISTER = "bundle"


class Member(NamedTuple):
    """A circuit that may share a device."""

    #: As it was given, without free parameters.
    circuit: QuantumCircuit
    #: Compiled for the whole device.
    compiled: QuantumCircuit


class Bundle(NamedTuple):
    """Circuits that run at the same time."""

    #: Their numbers among those that were given.
    members: tuple[int, ...]
    #: Compiled for the device; no two of them use the same qubit.
    circuits: tuple[QuantumCircuit, ...]
    #: What is expected of each: its probability that nothing goes wrong, over that which it has alone.
    relative: tuple[float, ...]

    @classmethod
    def alone(cls, number: int, compiled: QuantumCircuit) -> Bundle:
        """A circuit that shares with none."""
        return cls((number,), (compiled,), (1.0,))


class Bundler(ABC):
    """Decides which circuits run at the same time. It is a value: frozen, compared by its settings, and pickled.

    A package adds one with an entry point of the group ``pilot.bundlers``; that of the name "circuit" stands for
    ``TaskDescription(share_qpu=True)``.
    """

    @abstractmethod
    def bundles(self, members: Sequence[Member], compiler: Compiler, level: int, floor: float) -> list[Bundle]:
        """Which circuits run together, by the device's calibration as it is now.

        It is called just before they run, so no bundle outlasts the calibration that it was made for.

        Args:
            members: those that share, in the order in which they are to run.
            compiler: of the device, which has a target.
            level: Qiskit's optimization level.
            floor: the fidelity that is expected of each at least, in a bundle as well.

        Returns:
            Each member once, in a bundle or alone.
        """


def joined(circuits: Sequence[QuantumCircuit]) -> QuantumCircuit:
    """One circuit that does what these do, side by side: no instruction of one waits for another's.

    Args:
        circuits: compiled for one device, on different qubits, without control flow. The bits of the first are the
            lowest of the result.
    """
    if len(circuits) == 1:
        return circuits[0]
    bits = ClassicalRegister(sum(one.num_clbits for one in circuits), REGISTER)
    whole = QuantumCircuit(
        QuantumRegister(circuits[0].num_qubits, "q"), bits, name=" | ".join(c.name for c in circuits)
    )
    first = 0
    for one in circuits:
        last = first + one.num_clbits
        whole.compose(one, range(one.num_qubits), range(first, last), inplace=True)
        first = last
    return whole


def split(outcomes: Outcomes, circuits: Sequence[QuantumCircuit]) -> list[Outcomes]:
    """What each circuit gave, of the outcomes of `joined(circuits)`: the counts of its own bits.

    A sample of the whole is a sample of each, so each has all shots.
    """
    if len(circuits) == 1:
        return [outcomes]
    found, first = [], 0
    for one in circuits:
        last = first + one.num_clbits
        found.append(_part(outcomes, first, last, registers_of(one)))
        first = last
    return found


class Ended(NamedTuple):
    """What the circuits of a task gave."""

    found: list[Outcomes]
    #: With what it shared the device; "": with nothing.
    note: str


def by_task(
    bundles: Sequence[Bundle], found: Sequence[Outcomes], factors: int, sizes: Sequence[int], qpu: str
) -> Iterator[Ended]:
    """What the circuits of each task gave.

    Args:
        bundles: that ran; the numbers of their members count the circuits of all tasks in order.
        found: for each bundle so many as there are factors.
        factors: how often each ran, with noise of another strength.
        sizes: circuits of each task.
        qpu: its name.
    """
    by_circuit: dict[int, list[Outcomes]] = {}
    shared: dict[int, tuple[int, float]] = {}
    for first, bundle in zip(range(0, len(found), factors), bundles, strict=True):
        parts = [split(one, bundle.circuits) for one in found[first : first + factors]]
        for at, number in enumerate(bundle.members):
            by_circuit[number] = [part[at] for part in parts]
            if len(bundle.members) > 1:
                shared[number] = len(bundle.members) - 1, bundle.relative[at]
    first = 0
    for size in sizes:
        numbers = range(first, first + size)
        first = numbers.stop
        its = [shared[number] for number in numbers if number in shared]
        yield Ended([one for number in numbers for one in by_circuit[number]], _note(its, size, qpu))


def _note(shared: Sequence[tuple[int, float]], circuits: int, qpu: str) -> str:
    if not shared:
        return ""
    most, least = max(others for others, _ in shared), min(relative for _, relative in shared)
    what = "it" if circuits == 1 else f"{len(shared)} of its {circuits} circuits"
    return (
        f"{what} shared {qpu} with {most} other circuit{'s' * (most != 1)} in one run, expected to keep "
        f"{least:.1%} of the success alone"
    )


def _part(outcomes: Outcomes, first: int, last: int, registers: tuple[Register, ...]) -> Outcomes:
    """Those of the bits from ``first`` to before ``last``, whatever the others are."""
    bits, place = np.unique(outcomes.bits()[:, first:last], axis=0, return_inverse=True)
    weights: Any = np.zeros_like(outcomes.weights, shape=len(bits))
    np.add.at(weights, place.reshape(-1), outcomes.weights)
    part = Outcomes.from_bits(bits.astype(bool), weights, registers=registers, shots=outcomes.shots)
    copies = tuple(_part(one, first, last, registers) for one in outcomes.copies)
    if not isinstance(outcomes, QuasiOutcomes):
        return replace(part, copies=copies, noise_factor=outcomes.noise_factor)
    return QuasiOutcomes(
        registers=registers,
        num_bits=part.num_bits,
        packed=part.packed,
        weights=part.weights,
        shots=part.shots,
        copies=copies,
        noise_factor=outcomes.noise_factor,
        measured=_part(outcomes.measured, first, last, registers),
        inverses=outcomes.inverses[first:last],
        deviations=outcomes.deviations[first:last],
        qubits=outcomes.qubits[first:last],
    )
