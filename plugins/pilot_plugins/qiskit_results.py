"""What Qiskit's backends and primitives answer, as `Outcomes`: counts, single shots, and arrays a register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.errors import QPUError
from pilot.quantum.outcomes import Outcomes, registers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit


def from_counts(circuit: QuantumCircuit, counts: Mapping[str, float], shots: int | None) -> Outcomes:
    """Outcomes from bit strings as Qiskit writes them (bit 0 rightmost, registers set apart by spaces) or from
    hexadecimal numbers (``0x1f``), with their counts; or with their probabilities, when ``shots`` is None."""
    bits = np.zeros((len(counts), circuit.num_clbits), dtype=bool)
    order = _written_order(circuit)
    for row, text in zip(bits, counts, strict=True):
        if text.startswith("0x"):
            number = int(text, 16)
            row[:] = [number >> bit & 1 for bit in range(circuit.num_clbits)]
        else:
            digits = text.replace(" ", "")[::-1]
            places = order if " " in text else range(circuit.num_clbits)
            for place, digit in zip(places, digits, strict=False):
                row[place] = digit == "1"
    weights: NDArray[np.int64] | NDArray[np.float64]
    weights = (
        np.array(list(counts.values()), np.float64) if shots is None else np.array(list(counts.values()), np.int64)
    )
    return Outcomes.from_bits(bits, weights, registers=registers_of(circuit), shots=shots)


def from_samples(circuit: QuantumCircuit, samples: NDArray[Any]) -> Outcomes:
    """Outcomes from single shots, ``(shots, num_clbits)`` zeros and ones, one column a classical bit."""
    rows, counts = np.unique(np.asarray(samples, dtype=bool), axis=0, return_counts=True)
    return Outcomes.from_bits(
        rows, counts.astype(np.int64), registers=registers_of(circuit), shots=int(samples.shape[0])
    )


def from_registers(circuit: QuantumCircuit, data: Mapping[str, Any]) -> Outcomes:
    """Outcomes from a sampler's `BitArray` for each register, as a `SamplerPubResult`'s ``data`` holds them.

    Raises:
        QPUError: a register is missing, or there are no shots.
    """
    missing = [register.name for register in circuit.cregs if register.name not in data]
    if missing or not circuit.cregs:
        raise QPUError(f"the sampler gave {sorted(data)}, without the registers {missing} of {circuit.name!r}")
    place = {clbit: index for index, clbit in enumerate(circuit.clbits)}
    shots = data[circuit.cregs[0].name].num_shots
    samples = np.zeros((shots, circuit.num_clbits), dtype=bool)
    for register in circuit.cregs:
        array = data[register.name].array.reshape(shots, -1)
        bits = np.unpackbits(array, axis=1, bitorder="big")[:, ::-1][:, : register.size]
        samples[:, [place[bit] for bit in register]] = bits
    return from_samples(circuit, samples)


def from_sampler(circuits: Sequence[QuantumCircuit], result: Any) -> list[Outcomes]:
    """Outcomes from a `PrimitiveResult` of one pub a circuit."""
    if len(result) != len(circuits):
        raise QPUError(f"the sampler gave {len(result)} results for {len(circuits)} circuits")
    return [from_registers(circuit, dict(pub.data.items())) for circuit, pub in zip(circuits, result, strict=True)]


def _written_order(circuit: QuantumCircuit) -> list[int]:
    """The classical bits from the right of a bit string with spaces to its left: register by register."""
    place = {clbit: index for index, clbit in enumerate(circuit.clbits)}
    return [place[bit] for register in circuit.cregs for bit in register] or list(range(circuit.num_clbits))
