"""What circuits of nine families are expected to do on snapshots of devices. Workers compute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.qos.asking import ask
from pilot.qos.families import FAMILIES, circuit
from pilot.quantum.compilation import Compiler
from pilot.quantum.fidelities import ideal_of
from pilot.quantum.targets import Reported

#: Seconds between two shots where a snapshot says nothing.
DELAY = 250e-6
#: Qiskit's optimization level, and compilations of each circuit, of which the best is taken.
LEVEL, TRIES = 3, 5


class Row(msgspec.Struct, frozen=True):
    """A circuit on a QPU."""

    #: The fidelity of its outcomes.
    fidelity: float
    #: The probability that nothing goes wrong.
    success: float
    #: Seconds of one shot, with the device's pause after it.
    shot_seconds: float


def estimate(snapshot: str, widths: Sequence[int]) -> dict[str, Row]:
    """The circuits of each family and width on one snapshot ("kolkata"), by "family-qubits"."""
    info = ask(f"fake:{snapshot}")
    compiler = Compiler(Reported(info.name, info))
    found = {}
    for width in widths:
        for family in FAMILIES:
            made = circuit(family, width)
            compiled, ideal = compiler.compile(made, LEVEL, TRIES), ideal_of(made)
            fidelities = compiler.fidelities
            assert fidelities is not None  # a snapshot has errors
            found[made.name] = Row(
                fidelities.estimate(compiled, ideal).value,
                fidelities.success(compiled).probability(ideal),
                fidelities.duration(compiled) + (DELAY if info.rep_delay is None else info.rep_delay),
            )
    return found


class Estimates(msgspec.Struct, frozen=True):
    """All circuits on all QPUs.

    Attributes:
        circuits: their names.
        qpus: their names.
        fidelity: `(n_circuits, n_qpus)`.
        success: `(n_circuits, n_qpus)`: the probability that nothing goes wrong.
        shot_seconds: `(n_circuits, n_qpus)`.
    """

    circuits: list[str]
    qpus: list[str]
    fidelity: list[list[float]]
    success: list[list[float]]
    shot_seconds: list[list[float]]

    def array(self, name: str) -> NDArray[np.float64]:
        """One of the tables."""
        return np.array(getattr(self, name))


def joined(by_qpu: Mapping[str, Mapping[str, Row]]) -> Estimates:
    """One table of the results of `estimate`, by snapshot."""
    names = list(next(iter(by_qpu.values())))
    columns = list(by_qpu.values())

    def table(field: str) -> list[list[float]]:
        return [[getattr(column[name], field) for column in columns] for name in names]

    return Estimates(names, list(by_qpu), table("fidelity"), table("success"), table("shot_seconds"))
