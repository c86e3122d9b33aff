"""Estimates of small circuits beside Aer's density matrices, on one device. Workers run it."""

from __future__ import annotations

import msgspec
import numpy as np

from pilot.qos.asking import ask
from pilot.qos.families import FAMILIES, circuit
from pilot.quantum.compilation import Compiler, tries_for
from pilot.quantum.fidelities import fidelities_of, ideal_of
from pilot.quantum.targets import Reported, target_of
from pilot_miniapps.qos_estimator.devices import jittered
from pilot_miniapps.qos_estimator.reference import reference

#: Qiskit's optimization level.
LEVEL = 3


class Case(msgspec.Struct, frozen=True):
    """One circuit on one device.

    Attributes:
        snapshot: the device.
        family: of the circuit.
        active: qubits of the compiled circuit.
        truth: the fidelity by Aer's density matrix.
        estimate: the estimator's.
        exact: it was computed, not by the formula.
        formula: the formula's.
        jittered: the fidelity with other errors than those that the device reports, for each seed.
    """

    snapshot: str
    family: str
    active: int
    truth: float
    estimate: float
    exact: bool
    formula: float
    jittered: list[float]


def cases(snapshot: str, qubits: int, seed: int, seeds: int) -> list[Case]:
    """All families on one device; the truth of the first kind is Aer's.

    Args:
        snapshot: of the device.
        qubits: of the circuits.
        seed: of the circuits.
        seeds: numbers of devices with other errors.
    """
    info = ask(f"fake:{snapshot}")
    compiler = Compiler(Reported(info.name, info))
    exact, formula = compiler.fidelities, fidelities_of(info, target_of(info), most_exact=0)
    draws = [np.random.default_rng([number, *snapshot.encode()]) for number in range(seeds)]
    others = [fidelities_of(its, target_of(its)) for its in (jittered(info, random) for random in draws)]
    found = []
    for family in FAMILIES:
        made = circuit(family, qubits, seed)
        ideal = ideal_of(made)
        compiled = compiler.compile(made, LEVEL, tries_for(made))
        assert ideal is not None and exact is not None and formula is not None
        estimate = exact.estimate(compiled, ideal)
        found.append(
            Case(
                snapshot,
                family,
                len({qubit for entry in compiled.data for qubit in entry.qubits if entry.name != "barrier"}),
                reference(snapshot).fidelity(compiled, ideal),
                estimate.value,
                estimate.is_exact,
                formula.estimate(compiled, ideal).value,
                [other.estimate(compiled, ideal).value for other in others if other is not None],
            )
        )
    return found
