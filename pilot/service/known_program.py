"""`KnownProgram`: a parsed text. Loads Qiskit, so it is imported when the first one is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilot.quantum.programs import Program

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


class KnownProgram(Program):
    """A program that is known by the hash of its text.

    The manager compares what has the same key by its pickle. For this one that is the hash: to pickle a circuit takes
    longer than all else that a submission does.
    """

    __slots__ = ("_hash",)

    def __init__(self, circuit: QuantumCircuit, hash: str) -> None:
        """Make it of a circuit, which nobody changes, and the hash of the text that it was read from."""
        super().__init__(circuit)
        self._hash = hash

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (self._hash,)
