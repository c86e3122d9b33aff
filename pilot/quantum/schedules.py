"""When the instructions of a compiled circuit run: each as late as it can, and qubits idle in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilot.errors import QPUError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import Bit, CircuitInstruction, Delay
    from qiskit.transpiler import Target

#: Where a device has no unit of time, times are counted in picoseconds.
_PICOSECOND = 1e-12


class Scheduler:
    """Schedules circuits that are compiled for a target. What has no duration there takes no time."""

    def __init__(self, target: Target) -> None:
        """Make it; durations are looked up once each."""
        self._target = target
        self._unit = "ps" if target.dt is None else "dt"
        self._tick: float = _PICOSECOND if target.dt is None else target.dt
        self._durations: dict[tuple[str, tuple[int, ...]], int] = {}

    def schedule(self, circuit: QuantumCircuit, places: Sequence[int]) -> QuantumCircuit:
        """The circuit with idle times as delays, and without barriers.

        Times are those of Qiskit's ``ALAPScheduleAnalysis``: a barrier makes its qubits wait for each other, and two
        measurements into one bit follow one another. There is no delay before a qubit's first instruction, none after
        its last, and none where the target has no delays. A circuit whose gates depend on outcomes has no schedule
        before it runs: it stays as it is.

        Args:
            circuit: without free parameters.
            places: which qubits of the target those of the circuit are.

        Raises:
            QPUError: a delay has no fixed length, or is in "dt" and the target has no such unit.
        """
        from qiskit.circuit import Delay

        from pilot.quantum.programs.definitions import append

        if circuit.has_control_flow_op():
            return circuit
        place: dict[Bit, int] = dict(zip(circuit.qubits, places, strict=True))
        supported = {qubit: self._target.instruction_supported("delay", (place[qubit],)) for qubit in place}
        scheduled = circuit.copy_empty_like()
        left: dict[Bit, int] = {}  # when its last instruction so far ends, in ticks before the circuit's end
        for entry, begin, end in self.times(circuit, places):
            if entry.name in ("barrier", "delay"):
                continue
            for qubit in entry.qubits:
                idle = left.get(qubit, begin) - begin
                if idle and supported[qubit]:
                    scheduled.append(Delay(idle, self._unit), [qubit], copy=False)
                left[qubit] = end
            append(scheduled, [entry])
        return scheduled

    def seconds(self, delay: Delay) -> float:
        """The length of a delay.

        Raises:
            QPUError: as `schedule`.
        """
        from qiskit.circuit.classical import expr
        from qiskit.utils import apply_prefix

        if isinstance(delay.duration, expr.Expr):
            raise QPUError("a delay is an expression, not a number: give its length in seconds or dt")
        if delay.unit != "dt":
            return float(apply_prefix(float(delay.duration), delay.unit))
        if self._target.dt is None:
            raise QPUError("a delay is in dt, a unit of time that this device has not: give it in seconds")
        return float(delay.duration) * self._tick

    def times(self, circuit: QuantumCircuit, places: Sequence[int]) -> list[tuple[CircuitInstruction, int, int]]:
        """Each instruction with its begin and its end, in ticks before the circuit's end; arguments as `schedule`."""
        place: dict[Bit, int] = dict(zip(circuit.qubits, places, strict=True))
        free: dict[Bit, int] = {}  # since when nothing comes after, counted from the end
        found = []
        for entry in reversed(circuit.data):
            end = max(free.get(bit, 0) for bit in (*entry.qubits, *entry.clbits))
            begin = end + self._length(entry, place)
            free.update(dict.fromkeys((*entry.qubits, *entry.clbits), begin))
            found.append((entry, begin, end))
        return found[::-1]

    def duration(self, circuit: QuantumCircuit, places: Sequence[int]) -> float:
        """Seconds of one shot, without what the device does between two; arguments as `schedule`."""
        return max((begin for _, begin, _ in self.times(circuit, places)), default=0) * self._tick

    def _length(self, entry: CircuitInstruction, place: dict[Bit, int]) -> int:
        """In ticks."""
        if entry.name == "barrier":
            return 0
        if entry.name == "delay":
            return round(self.seconds(entry.operation) / self._tick)
        key = (entry.name, tuple(place[qubit] for qubit in entry.qubits))
        if key not in self._durations:
            known = self._target[entry.name] or {}
            properties = known.get(key[1]) or known.get(None)
            self._durations[key] = round((getattr(properties, "duration", None) or 0.0) / self._tick)
        return self._durations[key]
