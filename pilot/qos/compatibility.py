"""How much of a QPU programs use together, and how well they go together.

After section 7 of the QOS paper (arXiv 2406.19120). The paper adds the entanglement ratio and the parallelism of the
merged circuit to its score, though both mean more crosstalk; here they count against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pilot.qos.features import Properties

#: Weights of the effective utilisation, of one minus the entanglement ratio, and of one minus the parallelism.
WEIGHTS = (0.25, 0.25, 0.5)


class Program(msgspec.Struct, frozen=True):
    """What is known of a program that may share a QPU."""

    qubits: int
    #: Seconds of one shot, as it is scheduled on the QPU.
    duration: float
    #: Operations without measurements at the end, those on two qubits among them, and layers.
    gates: int
    gates_2q: int
    depth: int

    @classmethod
    def of(cls, properties: Properties, duration: float) -> Program:
        """That of a circuit with these properties."""
        gates = properties.gates_1q + properties.gates_2q + properties.gates_more
        return cls(properties.qubits, duration, gates, properties.gates_2q, properties.depth)


def effective_utilisation(programs: Sequence[Program], qubits: int) -> float:
    """The share of a QPU's qubits that programs use while the longest of them runs: ``Σ_k (d_k / d_max) (n_k / N)``.

    Args:
        programs: that run at the same time, with n_k qubits and d_k seconds; each counts once.
        qubits: of the QPU, N.

    Returns:
        From 0 to 1, where the programs fit.
    """
    longest = max((one.duration for one in programs), default=0.0)
    if not longest:  # no time passes: only places count
        return sum(one.qubits for one in programs) / qubits
    return sum(one.duration / longest * one.qubits for one in programs) / qubits


def score(programs: Sequence[Program], qubits: int) -> float:
    """How well programs go together, from 0 to 1: ``.25 u + .25 (1 - ER) + .5 (1 - PA)``.

    u is the effective utilisation. ER and PA are the entanglement ratio and the parallelism (SupermarQ, arXiv
    2202.11045, section III) of the merged circuit.

    Args:
        programs: that would run at the same time.
        qubits: of the QPU.
    """
    gates = sum(one.gates for one in programs)
    depth = max(one.depth for one in programs)
    width = sum(one.qubits for one in programs)
    entangled = sum(one.gates_2q for one in programs) / gates if gates else 0.0
    parallel = max(0.0, (gates / depth - 1) / max(width - 1, 1)) if depth else 0.0
    used, local, serial = WEIGHTS
    return used * effective_utilisation(programs, qubits) + local * (1 - entangled) + serial * (1 - min(parallel, 1.0))
