"""How well a device is expected to run a compiled circuit: the fidelity of the distribution of its outcomes.

The fidelity is Hellinger's, between the outcomes without noise and those with the noise of the calibration:
``(Σ sqrt(p_x q_x))²``. With up to `MAX_EXACT` active qubits it is computed (`device_noise`), which takes no longer than
compiling. Beyond, the probability that nothing goes wrong is computed,

    Π_gates f · Π_idle f · Π_pairs (1 - e) · Σ_x p_x Π_i P(x_i | x_i),

with the process fidelity f of each gate, and of the relaxation in each idle time of the schedule,
``(1 + exp(-t/T1) + 2 exp(-t/T2)) / 4``; declared crosstalk e of each pair of gates that run at the same time; and the
probability that the outcome is read as it is. The estimate is the fidelity of outcomes that are right with this
probability, to the power of `HARMFUL`, and uniform else. Of circuits with many measured bits the outcomes without noise
are not known, and the estimate is that probability itself.
"""

from __future__ import annotations

from math import exp, inf, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector

from pilot.quantum.deferral import defer_measurements
from pilot.quantum.device_noise import DeviceNoise, Place
from pilot.quantum.targets import readout_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from qiskit.circuit import CircuitInstruction
    from qiskit.transpiler import Target

    from pilot.resources import QPUInfo

    Pair = frozenset[tuple[int, ...]]

#: Active qubits of circuits whose noisy outcomes are computed.
MAX_EXACT = 9
#: Measured bits of circuits whose outcomes without noise are computed, and qubits that this may take.
MAX_BITS, MAX_QUBITS = 14, 16
#: Standard deviation of a calibrated error from one day to the next, as a share of it.
DRIFT = 0.3
#: The share of errors that change an outcome: others change phases that nothing measures. Fitted to what is computed
#: for eight qubits of eleven devices (`pilot run qos-estimator`); it changes no order.
HARMFUL = 0.65
#: Standard deviation of the formula's estimates from trajectories, for ten to fourteen qubits (the same program).
FORMULA_ERROR = 0.12


class Ideal(NamedTuple):
    """What a circuit gives without noise."""

    #: Places of its measured bits among its classical bits, in ascending order.
    bits: tuple[int, ...]
    #: `(2**n_bits,)`: of all outcomes; the first bit is the lowest digit of an index.
    probabilities: NDArray[np.float64]


class Fidelity(NamedTuple):
    """An estimate, between 0 and 1, and its standard deviation."""

    value: float
    spread: float
    #: Computed, not by the formula.
    is_exact: bool


class Success(NamedTuple):
    """The probability that nothing goes wrong."""

    #: In gates and idle times.
    gates: float
    #: By place of the classical bit, the probability that 0 and 1 are read as they are.
    readout: dict[int, tuple[float, float]]
    #: Standard deviation of the logarithm of the whole, from errors that drift independently.
    deviation: float

    def probability(self, ideal: Ideal | None = None) -> float:
        """Of the whole; without ``ideal`` as if 0 and 1 were equally frequent in each bit."""
        if ideal is None:
            return float(self.gates * np.prod([sum(each) / 2 for each in self.readout.values()]))
        right = ideal.probabilities
        for bit in reversed(ideal.bits):  # the highest digit
            right = np.asarray(self.readout[bit]) @ right.reshape(2, -1)
        return float(self.gates * right[0])


class _Timed(NamedTuple):
    """A compiled circuit on the qubits that it uses."""

    scheduled: QuantumCircuit
    #: Its qubits' numbers on the device.
    active: tuple[int, ...]
    #: The probability that no crosstalk goes wrong.
    quiet: float


class Fidelities:
    """Estimates for one device with one calibration.

    Args:
        noise: of the device.
        crosstalk: the error that two gates add when they run at the same time, by the qubits of both.
        most_exact: active qubits of circuits whose noisy outcomes are computed; 0: all by the formula.
    """

    def __init__(
        self, noise: DeviceNoise, crosstalk: Mapping[Pair, float] | None = None, most_exact: int = MAX_EXACT
    ) -> None:
        self._noise = noise
        self._most_exact = most_exact
        self._crosstalk = dict(crosstalk or {})
        #: True where gates that run at the same time disturb each other.
        self.has_crosstalk = bool(crosstalk)
        self._gates: dict[Place, float] = {}

    def success(self, compiled: QuantumCircuit) -> Success:
        """The probability that nothing goes wrong. Quick: a few milliseconds.

        Raises:
            QPUError: the circuit is not compiled for this target.
        """
        return self._success(self._timed(compiled))

    def estimate(self, compiled: QuantumCircuit, ideal: Ideal | None) -> Fidelity:
        """The fidelity of a circuit.

        Args:
            compiled: for the device, without free parameters.
            ideal: from `ideal_of` the circuit that was compiled.

        Raises:
            QPUError: the circuit is not compiled for this target.
        """
        timed = self._timed(compiled)
        success = self._success(timed)
        chance = success.probability(ideal) ** HARMFUL
        value, slope = (chance, 1.0) if ideal is None else _mixed(ideal.probabilities, chance)
        drift = slope * chance * success.deviation  # as if all errors changed outcomes
        if ideal is None or _size(timed.scheduled) > self._most_exact:
            return Fidelity(value, sqrt(drift**2 + FORMULA_ERROR**2), False)
        found = self._noise.probabilities(timed.scheduled, timed.active)[1]
        found = timed.quiet * found + (1 - timed.quiet) / len(found)
        return Fidelity(hellinger(ideal.probabilities, found), drift, True)

    def duration(self, compiled: QuantumCircuit) -> float:
        """Seconds of one shot, without what the device does between two.

        Raises:
            QPUError: the circuit is not compiled for this target.
        """
        small, active = self._noise.reduce(compiled)
        return self._noise.scheduler.duration(small, active)

    def _timed(self, compiled: QuantumCircuit) -> _Timed:
        small, active = self._noise.reduce(compiled)
        return _Timed(self._noise.schedule(small, active), active, self._quiet(small, active))

    def _success(self, timed: _Timed) -> Success:
        scheduled, active, fidelity = timed
        place = dict(zip(scheduled.qubits, active, strict=True))
        readout: dict[int, tuple[float, float]] = {}
        errors: dict[Place, float] = {}  # what drifts, and what it costs in all
        for entry in scheduled.data:
            qubits = tuple(place[qubit] for qubit in entry.qubits)
            if entry.name == "measure":
                ones_in_0, zeros_in_1 = self._noise.readout_of(qubits[0])
                readout[scheduled.find_bit(entry.clbits[0]).index] = (1 - ones_in_0, 1 - zeros_in_1)
                errors["measure", qubits] = (ones_in_0 + zeros_in_1) / 2
                continue
            its = self._step(entry, qubits)
            fidelity *= its
            errors[entry.name, qubits] = errors.get((entry.name, qubits), 0.0) + 1 - its
        return Success(fidelity, readout, DRIFT * sqrt(sum(error**2 for error in errors.values())))

    def _step(self, entry: CircuitInstruction, qubits: tuple[int, ...]) -> float:
        """Of alternatives, as after a condition, that with the least."""
        if entry.name == "delay":
            return self._idle(entry, qubits[0])
        if entry.is_control_flow():
            return min((self._block(block, qubits) for block in entry.operation.blocks), default=1.0)
        return self._gate(entry.name, qubits)

    def _block(self, block: QuantumCircuit, qubits: tuple[int, ...]) -> float:
        fidelity = 1.0
        for entry in block.data:
            its = tuple(qubits[block.find_bit(qubit).index] for qubit in entry.qubits)
            if entry.name == "measure":
                fidelity *= 1 - sum(self._noise.readout_of(its[0])) / 2
            elif entry.name != "barrier":
                fidelity *= self._step(entry, its)
        return fidelity

    def _gate(self, name: str, qubits: tuple[int, ...]) -> float:
        """The process fidelity: the calibrated error is 1 - the average fidelity."""
        if (name, qubits) not in self._gates:
            target = self._noise.target
            properties = target[name].get(qubits) if name in target.operation_names else None
            size = 2 ** len(qubits)
            error = min(getattr(properties, "error", None) or 0.0, size / (size + 1))
            self._gates[name, qubits] = 1 - error * (size + 1) / size
        return self._gates[name, qubits]

    def _idle(self, entry: CircuitInstruction, qubit: int) -> float:
        seconds = self._noise.scheduler.seconds(entry.operation)
        t1, t2 = self._noise.times(qubit)
        return (1 + exp(-seconds / t1) + 2 * exp(-seconds / t2)) / 4

    def _quiet(self, small: QuantumCircuit, active: tuple[int, ...]) -> float:
        """The probability that no crosstalk goes wrong; each pair of gates that overlap in time counts once."""
        if not self._crosstalk or small.has_control_flow_op():
            return 1.0
        running = [
            (tuple(active[small.find_bit(qubit).index] for qubit in entry.qubits), begin, end)
            for entry, begin, end in self._noise.scheduler.times(small, active)
            if len(entry.qubits) == 2 and entry.name != "barrier"
        ]
        quiet = 1.0
        for number, (one, begin, end) in enumerate(running):
            for other, its_begin, its_end in running[:number]:
                if begin > its_end and its_begin > end:  # times are counted from the circuit's end
                    quiet *= 1 - self._crosstalk.get(frozenset({one, other}), 0.0)
        return quiet


def ideal_of(circuit: QuantumCircuit) -> Ideal | None:
    """What a circuit gives without noise; None where that takes too many qubits, gates depend on outcomes, or nothing
    is measured.

    Args:
        circuit: without free parameters.
    """
    deferred = defer_measurements(circuit)
    if deferred is None or not 0 < len(deferred.holder) <= MAX_BITS:
        return None
    used = {qubit for entry in deferred.gates.data for qubit in entry.qubits} | set(deferred.holder.values())
    if len(used) > MAX_QUBITS:
        return None
    wires = {qubit: number for number, qubit in enumerate(used)}
    small = QuantumCircuit(len(used))
    for entry in deferred.gates.data:
        small.append(entry.operation, [wires[qubit] for qubit in entry.qubits], copy=False)
    bits = sorted(deferred.holder, key=lambda bit: circuit.find_bit(bit).index)
    probabilities = Statevector(small).probabilities([wires[deferred.holder[bit]] for bit in bits])
    return Ideal(tuple(circuit.find_bit(bit).index for bit in bits), np.asarray(probabilities))


def hellinger(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The Hellinger fidelity of two distributions over the same outcomes; rounding below 0 counts as 0."""
    return float(np.sqrt(one.clip(min=0.0) * other.clip(min=0.0)).sum() ** 2)


def _mixed(ideal: NDArray[np.float64], chance: float) -> tuple[float, float]:
    """The fidelity of outcomes that are right with this probability and uniform else; and its derivative."""
    uniform = 1 / len(ideal)
    mixed = chance * ideal + (1 - chance) * uniform
    root = np.sqrt(ideal)
    overlap = float(root @ np.sqrt(mixed))
    slope = float(np.divide(root * (ideal - uniform), np.sqrt(mixed), where=mixed > 0, out=np.zeros_like(root)).sum())
    return overlap**2, max(0.0, overlap * slope)


def _size(scheduled: QuantumCircuit) -> float:
    """Qubits; a bit that is measured in the middle is half a qubit more. Infinite where gates depend on outcomes."""
    last = {qubit: number for number, entry in enumerate(scheduled.data) for qubit in entry.qubits}
    middle = 0
    for number, entry in enumerate(scheduled.data):
        if entry.is_control_flow():
            return inf
        middle += entry.name == "measure" and last[entry.qubits[0]] > number
    return float(scheduled.num_qubits + middle / 2)


def fidelities_of(info: QPUInfo, target: Target, most_exact: int = MAX_EXACT) -> Fidelities | None:
    """Those of a device as it reported itself; None: it reports no errors.

    Args:
        info: of the device.
        target: of the same calibration.
        most_exact: as of `Fidelities`.
    """
    properties = (one for name in target.operation_names for one in (target[name] or {}).values())
    if not any(getattr(one, "error", None) is not None for one in properties):
        return None
    declared = info.calibration.crosstalk if info.calibration is not None else ()
    crosstalk = {frozenset({one.first, one.second}): one.error for one in declared}
    return Fidelities(DeviceNoise(target, readout_of(info)), crosstalk, most_exact)
