"""The device that the studies place circuits on. Workers keep it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from qiskit import QuantumCircuit

from pilot.qos.asking import ask
from pilot.qos.crosstalk import with_crosstalk
from pilot.qos.families import FAMILIES, circuit
from pilot.qos.placement import QUICK, THOROUGH, Known, Placement
from pilot.quantum.bundles import Member
from pilot.quantum.compilation import Compiler
from pilot.quantum.targets import Reported

if TYPE_CHECKING:
    from pilot.resources import QPUInfo

#: Qiskit's optimization level.
LEVEL = 3


class Snapshot(NamedTuple):
    """A device as it reports itself, and a compiler for it."""

    info: QPUInfo
    compiler: Compiler

    def placement(self, buffer: int, enough: float = 1.0, tries: int | None = None) -> Placement:
        """What places circuits on it; arguments as of `Placement`. ``tries``: it searches long, with so many seeds."""
        search = QUICK if tries is None else THOROUGH._replace(tries=tries)
        return Placement(self.compiler, buffer, enough, search)

    def known(self, placement: Placement, made: QuantumCircuit) -> Known:
        """What is known of a circuit on it."""
        return placement.know(Member(made, self.compiler.compile(made, LEVEL)), LEVEL)


@cache
def snapshot(name: str, crosstalk: float = 0.0) -> Snapshot:
    """A device; with declared crosstalk between any two gates on pairs of qubits that are one step apart."""
    info = ask(f"fake:{name}")
    if crosstalk:
        info = with_crosstalk(info, crosstalk)
    return Snapshot(info, Compiler(Reported(info.name, info)))


def pairs(width: int) -> list[tuple[QuantumCircuit, QuantumCircuit]]:
    """Each family with the next one, the last with the first."""
    made = [circuit(family, width) for family in FAMILIES]
    return list(zip(made, made[1:] + made[:1], strict=True))
