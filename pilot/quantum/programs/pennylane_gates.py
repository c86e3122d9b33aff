"""PennyLane's operations and Qiskit's gates that are the same, with the same parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qiskit.circuit import library
from qiskit.circuit.library import get_standard_gate_name_mapping

if TYPE_CHECKING:
    from collections.abc import Callable

    from qiskit.circuit import Gate

#: PennyLane's name → what makes Qiskit's gate of its parameters.
GATES: dict[str, Callable[..., Gate]] = {
    "Identity": library.IGate,
    "Hadamard": library.HGate,
    "PauliX": library.XGate,
    "PauliY": library.YGate,
    "PauliZ": library.ZGate,
    "S": library.SGate,
    "T": library.TGate,
    "SX": library.SXGate,
    "RX": library.RXGate,
    "RY": library.RYGate,
    "RZ": library.RZGate,
    "PhaseShift": library.PhaseGate,
    "U1": library.PhaseGate,
    "U2": lambda phi, lam: library.UGate(np.pi / 2, phi, lam),
    "U3": library.UGate,
    "CNOT": library.CXGate,
    "CY": library.CYGate,
    "CZ": library.CZGate,
    "CH": library.CHGate,
    "SWAP": library.SwapGate,
    "ISWAP": library.iSwapGate,
    "ECR": library.ECRGate,
    "CRX": library.CRXGate,
    "CRY": library.CRYGate,
    "CRZ": library.CRZGate,
    "ControlledPhaseShift": library.CPhaseGate,
    "IsingXX": library.RXXGate,
    "IsingYY": library.RYYGate,
    "IsingZZ": library.RZZGate,
    "Toffoli": library.CCXGate,
    "CCZ": library.CCZGate,
    "CSWAP": library.CSwapGate,
}
_CLASSES = {getattr(gate, "base_class", None): name for name, gate in get_standard_gate_name_mapping().items()}
#: Qiskit's name → PennyLane's; of several the first one above.
NAMES = {_CLASSES[make]: name for name, make in reversed(GATES.items()) if make in _CLASSES}
