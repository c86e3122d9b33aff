"""What Qiskit's backends and primitives answer, as `Outcomes`: counts, single shots, and arrays a register.

Neither has classical bits outside registers, and backends mix up registers that share bits or have them in another
order than the circuit. Such circuits are sent in another form, `in_registers`; the bits of both have the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.errors import QPUError
from pilot.quantum.outcomes import Outcomes, registers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit


def in_registers(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit in a form whose results have all of its classical bits.

    Registers that hold each bit once, in the circuit's order, stay. Otherwise all bits are in one register; where
    blocks or variables may refer to the registers, these stay, and the bits outside are in a register of their own.
    """
    from qiskit import QuantumCircuit
    from qiskit.circuit import ClassicalRegister, ControlFlowOp

    from pilot.quantum.expectation import free_name
    from pilot.quantum.programs.definitions import append

    if tells_all_bits(circuit):
        return circuit
    if any(isinstance(entry.operation, ControlFlowOp) for entry in circuit.data) or circuit.num_identifiers:
        inside = {bit for register in circuit.cregs for bit in register}
        result = circuit.copy()
        if loose := [bit for bit in circuit.clbits if bit not in inside]:
            result.add_register(ClassicalRegister(bits=loose, name=free_name(circuit, "loose")))
        return result
    result = QuantumCircuit(
        circuit.qubits, name=circuit.name, global_phase=circuit.global_phase, metadata=circuit.metadata
    )
    register = ClassicalRegister(circuit.num_clbits, free_name(circuit, "c"))
    result.add_register(*circuit.qregs, register)
    new = dict(zip(circuit.clbits, register, strict=True))
    return append(result, (entry.replace(clbits=[new[bit] for bit in entry.clbits]) for entry in circuit.data))


def tells_all_bits(circuit: QuantumCircuit) -> bool:
    """Each classical bit is in one register, and the registers one after the other are in the bits' order."""
    return bool([bit for register in circuit.cregs for bit in register] == list(circuit.clbits))


def as_of(circuits: Sequence[QuantumCircuit], outcomes: Sequence[Outcomes]) -> list[Outcomes]:
    """Outcomes of `in_registers` of each circuit, as those of the circuit itself."""
    return [replace(each, registers=registers_of(circuit)) for circuit, each in zip(circuits, outcomes, strict=True)]


def from_result(circuit: QuantumCircuit, result: Any, number: int, shots: int) -> Outcomes:
    """Outcomes of one circuit from a backend's `Result`."""
    counts = result.get_counts(number)
    if not tells_all_bits(circuit):  # its text has the registers in the places of others
        raw = result.data(number).get("counts") or {}
        counts = raw if all(text.startswith("0x") for text in raw) and raw else counts
    return Outcomes.from_counts(circuit, counts, shots)


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
