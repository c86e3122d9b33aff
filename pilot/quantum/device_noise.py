"""What a device does to a compiled circuit, by its calibration: the exact probabilities of all outcomes, or a state
that samples them.

The model is Aer's for devices (`qiskit_aer.noise.NoiseModel.from_backend`): after each gate depolarization and thermal
relaxation, so that the average error is the calibrated one, and thermal relaxation in each delay. What has no
calibrated duration takes no time, there as here. Circuits are scheduled as late as possible first, so that idle times
are delays. Crosstalk, leakage and drift are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Qubit
from qiskit.quantum_info import Operator

from pilot.errors import QPUError
from pilot.quantum.noisy_chains import NoisyChain, in_line
from pilot.quantum.noisy_states import RESET, NoisyState, product, relaxation, transfer_of
from pilot.quantum.programs.definitions import append
from pilot.quantum.schedules import Scheduler

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit.circuit import CircuitInstruction, Clbit
    from qiskit.transpiler import Target

    Matrix = NDArray[np.float64]

#: Before the first gate of a qubit these do nothing to it: it is in its ground state.
_UNTOUCHED = frozenset({"delay", "reset"})
#: Steps of a state with more values take more than a millisecond.
_SLOW_VALUES = 1 << 17
#: Exact probabilities that are predicted to take less are not compared with anything.
QUICK = 5e-3
#: Exact probabilities of outcomes are for up to so many measured bits.
_MAX_BITS = 14
#: A state has so many values at most: 256 MB, and two more of that size while it changes.
_MAX_VALUES = 1 << 25
#: Seconds of a step of `NoisyState` on several qubits, and for each value. Measured with numpy 2.2 on one core.
_STEP = 5e-5
_VALUE = 5e-9

Place = tuple[str, tuple[int, ...]]


class DeviceNoise:
    """Circuits that are compiled for a target, with its noise, on the qubits that they use.

    Args:
        target: of the device, with durations, errors and qubit properties.
        readout: probabilities of reading 1 in state 0, and 0 in state 1, for each qubit; None: the target's error.
    """

    def __init__(self, target: Target, readout: Sequence[tuple[float, float] | None] = ()) -> None:
        self.target = target
        self.readout = readout
        self.scheduler = Scheduler(target)
        self._errors: dict[Place, Matrix | None] = {}
        #: Gates without angles with their errors, by place and matrix.
        self._transfers: dict[tuple[str, tuple[int, ...], bytes], Matrix] = {}

    def reduce(self, circuit: QuantumCircuit) -> tuple[QuantumCircuit, tuple[int, ...]]:
        """The circuit on the qubits that it uses alone, and which of the device these are.

        Raises:
            QPUError: an instruction that the target has not, or not on these qubits.
        """
        place = {qubit: index for index, qubit in enumerate(circuit.qubits)}
        used: set[int] = set()
        for instruction in circuit.data:
            if instruction.name in ("barrier", "delay"):
                continue
            qubits = tuple(place[qubit] for qubit in instruction.qubits)
            if instruction.name == "store":
                raise QPUError(f"circuit {circuit.name!r} sets a classical bit, which the device cannot; simulate it")
            if not instruction.is_control_flow():
                if not self.target.instruction_supported(instruction.name, qubits):
                    raise QPUError(
                        f"circuit {circuit.name!r} has {instruction.name} on {list(qubits)}, which the device has not: "
                        "compile it for the target"
                    )
            elif instruction.name not in self.target.operation_names:
                raise QPUError(f"circuit {circuit.name!r} has {instruction.name}, which the device has not")
            used.update(qubits)
        active = tuple(sorted(used))
        small = QuantumCircuit([Qubit() for _ in active], circuit.clbits, *circuit.cregs)
        small_qubit = {circuit.qubits[index]: qubit for index, qubit in zip(active, small.qubits, strict=True)}
        begun: set[Any] = set()
        for instruction in circuit.data:
            kept = [small_qubit[qubit] for qubit in instruction.qubits if qubit in small_qubit]
            if instruction.name == "barrier":
                if kept:
                    small.barrier(kept)
                continue
            if len(kept) < len(instruction.qubits) or (instruction.name in _UNTOUCHED and kept[0] not in begun):
                continue
            begun.update(kept)
            append(small, [instruction.replace(qubits=kept)])
        return small, active

    def schedule(self, small: QuantumCircuit, active: Sequence[int]) -> QuantumCircuit:
        """As late as possible, with idle times as delays but those before a qubit's first gate. A circuit whose gates
        depend on outcomes has no schedule before it runs: its delays are those that it has itself."""
        return self.scheduler.schedule(small, active)

    def probabilities(
        self, scheduled: QuantumCircuit, active: Sequence[int], going_on: Callable[[], None] = lambda: None
    ) -> tuple[list[Clbit], Matrix]:
        """The exact probabilities of all outcomes. Takes ``8 * 4**n`` bytes for n qubits, and three times that.

        Args:
            scheduled: from `schedule`, without control flow.
            active: from `reduce`.
            going_on: called again and again where it takes long; what it raises ends it.

        Returns:
            The measured bits, and the probabilities `(2**n_bits,)`; the first bit is the lowest digit of an index.
        """
        state = NoisyState()
        bits = self._follow(state, scheduled, active, going_on)
        return bits, state.probabilities(bits)

    def chain(
        self,
        scheduled: QuantumCircuit,
        active: Sequence[int],
        seconds: float,
        going_on: Callable[[], None] = lambda: None,
    ) -> tuple[list[Clbit], NoisyChain]:
        """The state after the circuit, of any number of qubits that are little entangled.

        Args:
            scheduled: from `schedule`, without control flow and gates on more than two qubits.
            active: from `reduce`.
            seconds: what it is predicted to take at most.
            going_on: as for `probabilities`.

        Returns:
            The measured bits, and the chain that samples them.

        Raises:
            TooEntangled: it would take more than that.
        """
        pairs = [(entry.qubits[0], entry.qubits[1]) for entry in scheduled.data if len(entry.qubits) == 2]
        chain = NoisyChain(in_line(scheduled.qubits, pairs), seconds)
        return self._follow(chain, scheduled, active, going_on), chain

    def _follow(
        self,
        state: NoisyState | NoisyChain,
        scheduled: QuantumCircuit,
        active: Sequence[int],
        going_on: Callable[[], None],
    ) -> list[Clbit]:
        """Let everything in the circuit happen to a state; returns the measured bits."""
        place = dict(zip(scheduled.qubits, active, strict=True))
        last = {qubit: number for number, entry in enumerate(scheduled.data) for qubit in entry.qubits}
        for number, entry in enumerate(scheduled.data):
            if state.size > _SLOW_VALUES:
                going_on()
            if entry.name == "measure":
                (qubit,), (bit,) = entry.qubits, entry.clbits
                state.measure(qubit, bit, self.confusion(place[qubit]), keep=last[qubit] > number)
            elif entry.name == "delay":
                state.apply(self._idle(entry, place[entry.qubits[0]]), entry.qubits)
            else:
                state.apply(self._transfer(entry, tuple(place[qubit] for qubit in entry.qubits)), entry.qubits)
        measured = {bit for entry in scheduled.data for bit in entry.clbits}
        return [bit for bit in scheduled.clbits if bit in measured]

    def readout_of(self, qubit: int) -> tuple[float, float]:
        """Probabilities of reading 1 in state 0, and 0 in state 1."""
        known = self.readout[qubit] if qubit < len(self.readout) else None
        if known is not None:
            return known
        properties = self.target["measure"].get((qubit,))
        error = (properties and properties.error) or 0.0
        return error, error

    def confusion(self, qubit: int) -> Matrix:
        """`(2, 2)`: the probability of reading `i` where the qubit is in `j`."""
        ones_in_0, zeros_in_1 = self.readout_of(qubit)
        return np.array([[1 - ones_in_0, zeros_in_1], [ones_in_0, 1 - zeros_in_1]])

    def times(self, qubit: int) -> tuple[float, float]:
        """T1 and T2 in seconds, the second within its physical bound; infinite where they are not known."""
        known = self.target.qubit_properties
        properties = known[qubit] if known else None
        t1 = getattr(properties, "t1", None) or inf
        t2 = getattr(properties, "t2", None) or inf
        return t1, min(t2, 2 * t1)

    def _idle(self, entry: CircuitInstruction, qubit: int) -> Matrix:
        return relaxation(self.scheduler.seconds(entry.operation), *self.times(qubit))

    def _transfer(self, entry: CircuitInstruction, qubits: tuple[int, ...]) -> Matrix:
        """What a gate or a reset does on these qubits, its error included."""
        place = (entry.name, qubits)
        if entry.name == "reset":
            return self._with_error(RESET, place)
        matrix = entry.matrix
        if matrix is None:
            matrix = Operator(entry.operation).data
        if entry.params:
            return self._with_error(transfer_of(matrix), place)
        key = (*place, matrix.tobytes())
        if key not in self._transfers:
            self._transfers[key] = self._with_error(transfer_of(matrix), place)
        return self._transfers[key]

    def _with_error(self, ideal: Matrix, place: Place) -> Matrix:
        if place not in self._errors:
            self._errors[place] = self._error(*place)
        error = self._errors[place]
        return ideal if error is None else error @ ideal

    def _error(self, name: str, qubits: tuple[int, ...]) -> Matrix | None:
        properties = self.target[name].get(qubits) if name in self.target.operation_names else None
        if properties is None:
            return None
        rate = properties.error if isinstance(self.target.operation_from_name(name), Gate) else None
        return gate_error(rate, properties.duration, [self.times(qubit) for qubit in qubits])


def exact_seconds(scheduled: QuantumCircuit, room: int | None = None) -> float:
    """What the exact probabilities are predicted to take; infinite where gates depend on outcomes, or without room.

    Args:
        scheduled: from `DeviceNoise.schedule`.
        room: a state has so many values at most, of 8 bytes, and three times that while it changes; None: 2**25.
    """
    room = _MAX_VALUES if room is None else room
    last = {qubit: number for number, entry in enumerate(scheduled.data) for qubit in entry.qubits}
    joined: set[Any] = set()
    bits: set[Any] = set()
    seconds = 0.0
    for number, entry in enumerate(scheduled.data):
        if entry.is_control_flow():
            return inf
        if entry.name != "measure" and len(entry.qubits) == 1:
            continue
        joined.update(entry.qubits)
        bits.update(entry.clbits)
        values = 4 ** len(joined) << len(bits)
        if values > room or len(bits) > _MAX_BITS:
            return inf
        seconds += _STEP + _VALUE * values
        if entry.name == "measure" and last[entry.qubits[0]] == number:
            joined.remove(entry.qubits[0])
    return seconds


def gate_error(
    rate: float | None, seconds: float | None, times: Sequence[tuple[float, float]]
) -> NDArray[np.float64] | None:
    """What a gate does wrong, as a Pauli transfer matrix: it depolarizes its qubits, and they relax.

    The depolarization is such that both together have the error of the calibration; there is none where the relaxation
    alone has more. For the depolarization with probability p of d dimensions after a channel of average fidelity F, the
    fidelity is ``F - p (d F - 1) / d`` (Nielsen, Phys. Lett. A 303, 249, for F of a channel).

    Args:
        rate: the average error, 1 - fidelity; None: not known.
        seconds: how long it takes; None: not known.
        times: T1 and T2 of its qubits in seconds, T2 at most twice T1; the first qubit's is the lowest digit.

    Returns:
        `(4**n, 4**n)`, as `NoisyState.apply` takes it; None: it does nothing.
    """
    size = 2 ** len(times)
    relaxed = np.eye(1)
    for t1, t2 in times:
        relaxed = product(relaxation(seconds or 0.0, t1, t2), relaxed)
    fidelity = (float(np.trace(relaxed)) / size + 1) / (size + 1)  # the trace over size**2 is the process fidelity
    depolarized = 0.0
    if rate is not None and rate > 1 - fidelity:
        wanted = 1 - min(rate, size / (size + 1))
        depolarized = min(size * (fidelity - wanted) / (size * fidelity - 1), size**2 / (size**2 - 1))
    elif not seconds:
        return None
    relaxed[:, 1:] *= 1 - depolarized
    return relaxed
