"""What QPUs answer to a job, checked: a plugin's mistake, or a vendor's, is no result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.errors import QPUError
from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.interfaces import QPU, Run

#: Probabilities add up to 1 by this much.
ROUNDING = 1e-4


def run_on(qpu: QPU, run: Run) -> list[Outcomes]:
    """What the QPU gives for a job, one for each circuit.

    Raises:
        QPUError: it gave another number of results or shots, or counts that cannot be those of its circuit; or as
            `QPU.run`.
    """
    found: Any = qpu.run(run)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise QPUError(f"{qpu.name} gave {type(found).__name__}; expected a list of results", qpu=qpu.name)
    if len(found) != len(run.circuits):
        raise QPUError(f"{qpu.name} gave {len(found)} results for {len(run.circuits)} circuits", qpu=qpu.name)
    return [_checked(qpu, one, circuit, run.shots) for one, circuit in zip(found, run.circuits, strict=True)]


def _checked(qpu: QPU, given: Any, circuit: QuantumCircuit, shots: int | None) -> Outcomes:
    """The answer for one circuit."""
    if not isinstance(given, Mapping) and not hasattr(given, "get_counts"):
        raise QPUError(f"{qpu.name} gave {given!r} for a circuit; expected counts by bit string", qpu=qpu.name)
    if isinstance(given, Outcomes):
        outcomes = given
    else:
        counts = given if isinstance(given, Mapping) else given.get_counts()
        outcomes = Outcomes.from_counts(circuit, counts, shots)
    if (wrong := _fault(outcomes, circuit, shots)) is not None:
        raise QPUError(f"{qpu.name}, circuit {circuit.name!r}: {wrong}", qpu=qpu.name)
    return outcomes if outcomes.shots == shots else replace(outcomes, shots=shots)


def _fault(given: Outcomes, circuit: QuantumCircuit, shots: int | None) -> str | None:
    """Why these cannot be the outcomes of the circuit with so many shots; None: they can."""
    if given.num_bits != circuit.num_clbits:
        return f"the outcomes have {given.num_bits} bits, the circuit has {circuit.num_clbits}"
    total = given.weights.sum()
    if shots is None:
        if given.weights.min(initial=0.0) >= 0 and abs(total - 1) <= ROUNDING:
            return None
        return f"it gave probabilities that add up to {total:.6g} or are negative; expected a sum of 1"
    if given.weights.min(initial=0) < 0 or (np.asarray(given.weights) % 1).any():
        return "it gave counts that are not whole numbers of at least 0"
    if total == shots and given.shots in (shots, None):
        return None
    return (
        f"it gave the counts of {total:g} shots, but {shots} were asked for: give a number of shots that it takes as "
        "it is, or correct its plugin (values and their errors are computed with this number)"
    )
