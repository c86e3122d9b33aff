"""Circuits written in a device's own gates, each structure once for each calibration.

What a worker has compiled it keeps. A circuit whose parameters are free is compiled with them, and bound for each set
of values afterwards: that takes a hundredth of the time.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from numbers import Real
from typing import TYPE_CHECKING, Protocol

from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import ClassicalRegister, Delay
from qiskit.utils import apply_prefix

from pilot.errors import DescriptionError, QPUError
from pilot.quantum.blocks import without_boxes
from pilot.quantum.expectation import free_name
from pilot.quantum.fidelities import fidelities_of
from pilot.quantum.packing import pack
from pilot.quantum.programs.definitions import Change, append, changed

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from qiskit.circuit import Operation
    from qiskit.transpiler import PassManager, Target

    from pilot.quantum.fidelities import Fidelities
    from pilot.resources import QPUInfo

#: Of the layout and the routing: a circuit is compiled the same way each time.
SEED = 0
#: Compiled circuits are kept up to so many instructions in all: some hundred megabytes.
KEPT_INSTRUCTIONS = 1_000_000
#: Shares of a delay's smallest step that seconds are rounded by.
_ROUNDING = 1e-6
#: Circuits whose fidelity is estimated are compiled so often, if they have at most so many qubits; the best is taken.
TRIES, MOST_TRIED_QUBITS = 3, 10


class Compiled(Protocol):
    """What is compiled for: a QPU, or what is known of one."""

    @property
    def name(self) -> str:
        """As in ``PilotDescription.qpus``."""

    def info(self) -> QPUInfo:
        """Its properties now."""

    def target(self) -> Target | None:
        """Its gates and their errors; None: it takes circuits as they are."""


class Compiler:
    """Compiles for one device. `hits` and `misses` count what was found and what was compiled."""

    def __init__(self, qpu: Compiled) -> None:
        """Make it for a QPU that is open."""
        self._qpu = qpu
        self._calibrated: float | None = None
        self._target: Target | None = None
        self._looked = False
        self._kept: OrderedDict[Hashable, QuantumCircuit] = OrderedDict()
        self._instructions = 0
        self._managers: dict[tuple[int, bool, int], PassManager] = {}
        self._fidelities: Fidelities | None = None
        self.hits = self.misses = 0

    @property
    def name(self) -> str:
        """The device's."""
        return self._qpu.name

    @property
    def target(self) -> Target | None:
        """What is compiled for; None: circuits are taken as they are."""
        self._look()
        return self._target

    @property
    def calibrated(self) -> float | None:
        """When the calibration was taken that is compiled for."""
        self._look()
        return self._calibrated

    def refresh(self) -> None:
        """Look at the device's calibration again, the next time that something is compiled."""
        self._looked = False

    @property
    def fidelities(self) -> Fidelities | None:
        """How well it is expected to run circuits; None: no errors are known."""
        self._look()
        if self._fidelities is None and self._target is not None:
            self._fidelities = fidelities_of(self._qpu.info(), self._target)
        return self._fidelities

    @property
    def has_medians(self) -> bool:
        """True for a device that reports medians of its errors: circuits were judged by these before they came here."""
        info = self._qpu.info()
        return info.error_2q is not None or info.error_readout is not None

    def compile(self, circuit: QuantumCircuit, level: int, tries: int = 1) -> QuantumCircuit:
        """`circuit` in the device's gates on its qubits; classical registers stay as they are.

        Args:
            circuit: parameters may be free.
            level: Qiskit's optimization level, 0 to 3.
            tries: of so many seeds, the compiled circuit that is most likely to run without an error is taken.

        Raises:
            DescriptionError: it has more qubits than the device.
            QPUError: it has what the device cannot do, such as a loop or a channel.
        """
        self._look()
        if self._target is None:
            return circuit
        if circuit.num_qubits > self._target.num_qubits:
            raise DescriptionError(
                f"circuit {circuit.name!r} has {circuit.num_qubits} qubits, {self._qpu.name} has "
                f"{self._target.num_qubits}: cut it (pilot.quantum.cutting), or name a wider QPU"
            )
        key = (structure(circuit), level, tries)
        found = self._kept.get(key)
        if found is not None:
            self.hits += 1
            self._kept.move_to_end(key)
            return found
        self.misses += 1
        if "box" not in self._target.operation_names:
            circuit = without_boxes(circuit, barriers=True)
        # Qiskit schedules no circuits with control flow: their delays stay, and the device sets all other times
        branches = circuit.has_control_flow_op()
        scheduled = "delay" in circuit.count_ops() and not branches
        if branches:
            circuit = changed(circuit, _AlignedDelays(self._target))
        given = _with_all_bits_in_registers(circuit) if scheduled else circuit
        found = self._best([self._run(self._manager(level, scheduled, SEED + one), given) for one in range(tries)])
        if given is not circuit:
            found = _with_bits_of(circuit, found)
        self._keep(key, found)
        return found

    def _best(self, compiled: Sequence[QuantumCircuit]) -> QuantumCircuit:
        if len(compiled) == 1 or (fidelities := self.fidelities) is None:
            return compiled[0]
        return max(compiled, key=lambda one: fidelities.success(one).probability())

    def _run(self, manager: PassManager, circuit: QuantumCircuit) -> QuantumCircuit:
        try:
            compiled: QuantumCircuit = manager.run(circuit)
        except Exception as error:  # of many kinds, by the pass that ends there
            cause = getattr(error, "message", None) or str(error)
            raise QPUError(
                f"circuit {circuit.name!r} cannot be compiled for {self._qpu.name}: {cause}; write it as gates, "
                "measurements and conditions that the device has, or take qpu='aer'",
                qpu=self._qpu.name,
            ) from error
        return compiled

    def _keep(self, key: Hashable, compiled: QuantumCircuit) -> None:
        """Those that were not used for the longest time make room."""
        self._kept[key] = compiled
        self._instructions += len(compiled.data)
        while self._instructions > KEPT_INSTRUCTIONS and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._instructions -= len(oldest.data)

    def _look(self) -> None:
        if self._looked:
            return
        calibrated = self._qpu.info().calibrated
        if self._target is None or calibrated != self._calibrated:
            self._target, self._calibrated = self._qpu.target(), calibrated
            self._kept.clear()
            self._instructions = 0
            self._managers.clear()
            self._fidelities = None
        self._looked = True

    def _manager(self, level: int, delays: bool, seed: int) -> PassManager:
        """``delays``: the circuit has some of its own, and all other times follow from them."""
        key = (level, delays, seed)
        if key not in self._managers:
            self._managers[key] = generate_preset_pass_manager(
                optimization_level=level,
                target=self._target,
                seed_transpiler=seed,
                scheduling_method="alap" if delays else None,
                translation_method="synthesis" if is_mixed(self._target) else "translator",
            )
        return self._managers[key]


class _AlignedDelays(Change):
    """Delays that end where the device can begin something, the next such time. Qiskit would schedule for that."""

    def __init__(self, target: Target) -> None:
        self._tick = target.dt
        self._alignment = math.lcm(target.pulse_alignment, target.acquire_alignment)

    def change(self, operation: Operation) -> Operation:
        if not isinstance(operation, Delay) or not isinstance(operation.duration, Real):
            return operation
        ticks = float(operation.duration)
        if operation.unit != "dt":
            if self._tick is None:
                return operation
            ticks = apply_prefix(ticks, operation.unit) / self._tick
        aligned = self._alignment * math.ceil(ticks / self._alignment - _ROUNDING)
        return Delay(aligned, "dt")


def _with_all_bits_in_registers(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with a further register of the bits outside every register; the circuit itself where there are none.

    Qiskit's pass that fills pauses with delays (2.6) loses such bits.
    """
    loose = [bit for bit in circuit.clbits if not circuit.find_bit(bit).registers]
    if not loose:
        return circuit
    whole = circuit.copy()
    whole.add_register(ClassicalRegister(name=free_name(circuit, "loose"), bits=loose))
    return whole


def _with_bits_of(circuit: QuantumCircuit, compiled: QuantumCircuit) -> QuantumCircuit:
    """What a circuit was compiled to, with the circuit's own classical bits and registers in their order."""
    result = QuantumCircuit(
        *compiled.qregs, circuit.clbits, *circuit.cregs, name=circuit.name, global_phase=compiled.global_phase
    )
    result.metadata = circuit.metadata
    return append(result, compiled.data)


def expected_fidelity(circuit: QuantumCircuit, target: Target | None) -> float | None:
    """The product of the success probabilities of all instructions, each on its own qubits; None: no errors are known.

    Of alternatives, as after a condition, that with the least counts.

    Args:
        circuit: compiled for `target`.
        target: of a device.
    """
    if target is None or not any(
        getattr(properties, "error", None) is not None
        for name in target.operation_names
        for properties in (target[name] or {}).values()
    ):
        return None
    return _successes(circuit, range(circuit.num_qubits), target)


def _successes(circuit: QuantumCircuit, qubits: Sequence[int], target: Target) -> float:
    """That of a circuit on these qubits of the device."""
    fidelity = 1.0
    for entry in circuit.data:
        places = tuple(qubits[circuit.find_bit(qubit).index] for qubit in entry.qubits)
        blocks = getattr(entry.operation, "blocks", ())
        if blocks:
            fidelity *= min(_successes(block, places, target) for block in blocks)
        elif entry.name in target.operation_names:
            error = getattr((target[entry.name] or {}).get(places), "error", None)
            fidelity *= 1 - min(1.0, error or 0.0)
    return fidelity


def is_mixed(target: Target | None) -> bool:
    """True when pairs of qubits differ in their gates: there Qiskit's translator (2.6) writes gates that a pair does
    not have, and synthesis for each pair does not."""
    if target is None or target.num_qubits is None or target.num_qubits < 2:
        return False
    names = {name for name in target.operation_names if target.operation_from_name(name).num_qubits == 2}
    pairs = {frozenset((target[name] or {}).keys()) for name in names if hasattr(target[name], "keys")}
    return len(pairs) > 1


def tries_for(circuit: QuantumCircuit) -> int:
    """How often a circuit is compiled whose fidelity is estimated."""
    return TRIES if circuit.num_qubits <= MOST_TRIED_QUBITS else 1


def structure(circuit: QuantumCircuit) -> bytes:
    """What two circuits share that compile to the same one: all but name and metadata."""
    bare = circuit.copy()  # not the user's own: another thread may look at it now
    bare.name, bare.metadata = "", {}
    return hashlib.blake2b(pack(bare), digest_size=16).digest()
