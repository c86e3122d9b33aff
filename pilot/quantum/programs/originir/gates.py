"""The gates of OriginIR as Qiskit's, phases included: they matter inside CONTROL.

The matrices are those of pyqpanda3; where only another SDK has the gate, that one's: ISWAPTHETA is QPanda 2's
(so that ISWAPTHETA(pi/4) is the inverse of SQISWAP, which is +i here and in pyqpanda3, and -i in QPanda 2);
SX, XX, YY, ZZ, XY, CSWAP, PHASE2Q, UU15, RPhi90 and RPhi180 are QPanda-lite's.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, NamedTuple

from qiskit.circuit import library

if TYPE_CHECKING:
    from collections.abc import Callable

    from qiskit.circuit import Gate


class Parts(NamedTuple):
    """What a gate is made of: Qiskit's gates, each with its places among the operands, and a global phase."""

    steps: list[tuple[Gate, tuple[int, ...]]]
    phase: float = 0.0


class OriginGate(NamedTuple):
    """A gate of the language."""

    num_qubits: int
    num_parameters: int
    parts: Callable[..., Parts]
    #: Parameters that may be left out; not counted in `num_parameters`.
    num_optional: int = 0


def _one(num_qubits: int, num_parameters: int, gate: Callable[..., Gate]) -> OriginGate:
    places = tuple(range(num_qubits))
    return OriginGate(num_qubits, num_parameters, lambda *angles: Parts([(gate(*angles), places)]))


def _u4(alpha: float, beta: float, gamma: float, delta: float) -> Parts:
    """e^(i alpha) RZ(beta) RY(gamma) RZ(delta)."""
    return Parts([(library.UGate(gamma, beta, delta), (0,))], alpha - (beta + delta) / 2)


def _cu(alpha: float, beta: float, gamma: float, delta: float) -> Gate:
    """U4 controlled: its phase becomes one of the control's states."""
    return library.CUGate(gamma, beta, delta, alpha - (beta + delta) / 2)


def _phase2q(first: float, second: float, zz: float) -> Parts:
    return Parts([(library.PhaseGate(first), (0,)), (library.PhaseGate(second), (1,)), (library.RZZGate(zz), (0, 1))])


def _uu15(*angles: float) -> Parts:
    """Any two-qubit gate by its KAK decomposition: U3, U3, XX, YY, ZZ, U3, U3."""
    return Parts(
        [
            (library.UGate(*angles[0:3]), (0,)),
            (library.UGate(*angles[3:6]), (1,)),
            (library.RXXGate(angles[6]), (0, 1)),
            (library.RYYGate(angles[7]), (0, 1)),
            (library.RZZGate(angles[8]), (0, 1)),
            (library.UGate(*angles[9:12]), (0,)),
            (library.UGate(*angles[12:15]), (1,)),
        ]
    )


def _idle(_: float = 0.0) -> Gate:
    return library.IGate()


def _ms() -> Gate:
    """Mølmer–Sørensen's gate, which pyqpanda3 writes."""
    return library.RXXGate(pi / 2)


#: By the name in capitals; the language has RPhi beside RPHI.
GATES: dict[str, OriginGate] = {
    "H": _one(1, 0, library.HGate),
    "X": _one(1, 0, library.XGate),
    "Y": _one(1, 0, library.YGate),
    "Z": _one(1, 0, library.ZGate),
    "S": _one(1, 0, library.SGate),
    "T": _one(1, 0, library.TGate),
    "SX": _one(1, 0, library.SXGate),
    "X1": _one(1, 0, lambda: library.RXGate(pi / 2)),
    "Y1": _one(1, 0, lambda: library.RYGate(pi / 2)),
    "Z1": _one(1, 0, lambda: library.RZGate(pi / 2)),
    "I": _one(1, 0, library.IGate),
    "ECHO": _one(1, 0, _idle)._replace(num_optional=1),
    "IDLE": _one(1, 1, _idle),
    "RX": _one(1, 1, library.RXGate),
    "RY": _one(1, 1, library.RYGate),
    "RZ": _one(1, 1, library.RZGate),
    "U1": _one(1, 1, library.PhaseGate),
    "P": _one(1, 1, library.PhaseGate),
    "U2": _one(1, 2, lambda phi, lam: library.UGate(pi / 2, phi, lam)),
    "U3": _one(1, 3, library.UGate),
    "U4": OriginGate(1, 4, _u4),
    "RPHI": _one(1, 2, library.RGate),
    "RPHI90": _one(1, 1, lambda phi: library.RGate(pi / 2, phi)),
    "RPHI180": _one(1, 1, lambda phi: library.RGate(pi, phi)),
    "CNOT": _one(2, 0, library.CXGate),
    "CZ": _one(2, 0, library.CZGate),
    "SWAP": _one(2, 0, library.SwapGate),
    "ISWAP": _one(2, 0, library.iSwapGate),
    "SQISWAP": _one(2, 0, lambda: library.XXPlusYYGate(-pi / 2)),
    "ISWAPTHETA": _one(2, 1, lambda theta: library.XXPlusYYGate(2 * theta)),
    "CR": _one(2, 1, library.CPhaseGate),
    "CP": _one(2, 1, library.CPhaseGate),
    "CU": _one(2, 4, _cu),
    "CRX": _one(2, 1, library.CRXGate),
    "CRY": _one(2, 1, library.CRYGate),
    "CRZ": _one(2, 1, library.CRZGate),
    "RXX": _one(2, 1, library.RXXGate),
    "RYY": _one(2, 1, library.RYYGate),
    "RZZ": _one(2, 1, library.RZZGate),
    "RZX": _one(2, 1, library.RZXGate),
    "MS": _one(2, 0, _ms),
    "XX": _one(2, 1, library.RXXGate),
    "YY": _one(2, 1, library.RYYGate),
    "ZZ": _one(2, 1, library.RZZGate),
    "XY": _one(2, 1, library.XXPlusYYGate),
    "PHASE2Q": OriginGate(2, 3, _phase2q),
    "UU15": OriginGate(2, 15, _uu15),
    "TOFFOLI": _one(3, 0, library.CCXGate),
    "CSWAP": _one(3, 0, library.CSwapGate),
}

#: Names that are written with small letters.
SPELLINGS = {"RPhi": "RPHI", "RPhi90": "RPHI90", "RPhi180": "RPHI180"}
#: What OriginIR has for a gate that other languages call so.
ELSEWHERE = {
    "CX": "CNOT",
    "CCX": "TOFFOLI",
    "CY": "Y q[...] controlled_by (q[...])",
    "CH": "H q[...] controlled_by (q[...])",
    "SDG": "S q[...] dagger",
    "TDG": "T q[...] dagger",
    "SXDG": "SX q[...] dagger",
    "ID": "I",
    "U": "U3",
    "CU1": "CR",
    "CPHASE": "CR",
}


def find(name: str) -> OriginGate | None:
    """The gate of that name, capitals and all; None if there is none."""
    return GATES.get(SPELLINGS.get(name, name))
