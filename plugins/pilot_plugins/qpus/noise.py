"""A device's snapshot as a simulator with noise: what a circuit does to the qubits that it uses, and nothing else.

A circuit that is compiled for 127 qubits and uses 5 is run on 5: the noise of its own gates, measurements and idle
times is taken from the snapshot and put on the small circuit.

The model is Aer's for devices (`qiskit_aer.noise.NoiseModel.from_backend`): depolarizing and thermal relaxation after
each gate so that its error is the calibrated one, and thermal relaxation in each delay; readout errors are taken as
they were calibrated, not the same for 0 and 1. What has no calibrated duration takes no time, there as here. Circuits
are scheduled as late as possible first, so that idle times are delays. Crosstalk, leakage and drift are not in it.

Counts are drawn from the exact probabilities of all outcomes, which `NoisyState` finds, where that is predicted to be
faster than a run of Aer: this takes tens of milliseconds to hand a noise model over, and circuits cannot share a run,
since each has a seed of its own. Aer follows single shots, of many qubits or where gates depend on outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from pilot.errors import QPUError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.circuit import CircuitInstruction
    from qiskit.transpiler import Target
    from qiskit_aer.noise import NoiseModel, QuantumError

    from pilot.quantum.costs import Estimate
    from pilot.quantum.outcomes import Outcomes

#: Shots that are followed one by one are run in parts that are predicted to take so many seconds.
_PART = 0.5
#: Before the first gate of a qubit these do nothing to it: it is in its ground state.
_UNTOUCHED = frozenset({"delay", "reset"})
#: Exact probabilities of outcomes are for up to so many measured bits.
_MAX_BITS = 14
#: A state has so many values at most: 256 MB, and two more of that size while it changes.
_MAX_VALUES = 1 << 25
#: Seconds of a step of `NoisyState` on several qubits, and for each value. Measured with numpy 2.2 on one core.
_STEP = 5e-5
_VALUE = 5e-9
#: Seconds that Aer takes for the error of a gate, or of a delay. Measured with Aer 0.18.2.
_TOLD = 1e-3
#: Steps of a state with more values take more than a millisecond.
_SLOW_VALUES = 1 << 17
#: Exact probabilities that are predicted to take less are not compared with anything.
_QUICK = 5e-3

Place = tuple[str, tuple[int, ...]]


class NoisyDevice:
    """Simulates compiled circuits with the noise of a target.

    Args:
        target: of the device, with durations, errors and qubit properties.
        readout: probabilities of reading 1 in state 0, and 0 in state 1, for each qubit; None: the target's error.
    """

    def __init__(self, target: Target, readout: Sequence[tuple[float, float] | None] = ()) -> None:
        from pilot_plugins.qpus.schedules import Scheduler

        self.target = target
        self.readout = readout
        self._scheduler = Scheduler(target)
        self._errors: dict[Place, QuantumError | None] = {}
        #: The same as Pauli transfer matrices; and gates without angles with their errors, by place and matrix.
        self._error_transfers: dict[Place, NDArray[np.float64] | None] = {}
        self._transfers: dict[tuple[str, tuple[int, ...], bytes], NDArray[np.float64]] = {}

    def run(self, circuit: QuantumCircuit, shots: int, seed: int, going_on: Callable[[], None]) -> Outcomes:
        """Simulate a circuit.

        Args:
            circuit: compiled for the target: its qubits are the device's.
            shots: samples.
            seed: of the sampling.
            going_on: called again and again; what it raises ends the simulation.

        Raises:
            QPUError: the circuit is not compiled for this target.
        """
        from pilot_plugins.qpus._results import in_registers

        going_on()
        small, active = self.reduce(in_registers(circuit))  # Aer's noise passes lose bits outside registers
        scheduled = self.schedule(small, active)
        seconds = _exact_seconds(scheduled)
        if seconds > _QUICK:
            best = self._estimate(scheduled, active, shots)
            if best.seconds < seconds:
                return self._sampled(circuit, scheduled, active, shots, seed, best, going_on)
        return self._drawn(circuit, scheduled, active, shots, seed, going_on)

    def reduce(self, circuit: QuantumCircuit) -> tuple[QuantumCircuit, tuple[int, ...]]:
        """The circuit on the qubits that it uses alone, and which of the device these are.

        Raises:
            QPUError: an instruction that the target has not, or not on these qubits.
        """
        from qiskit import QuantumCircuit
        from qiskit.circuit import Qubit

        from pilot.quantum.programs.definitions import append

        place = {qubit: index for index, qubit in enumerate(circuit.qubits)}
        used: set[int] = set()
        for instruction in circuit.data:
            if instruction.name in ("barrier", "delay"):
                continue
            qubits = tuple(place[qubit] for qubit in instruction.qubits)
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
        return self._scheduler.schedule(small, active)

    def _estimate(self, scheduled: QuantumCircuit, active: Sequence[int], shots: int) -> Estimate:
        """What Aer would take, with the noise model that it has to be given."""
        from pilot.quantum.costs import choose, estimate, facts

        delays = scheduled.count_ops().get("delay", 0)
        about = facts(scheduled, bonds=False)
        best = choose(estimate(replace(about, gates=about.gates + delays), shots, noisy=True))
        assert best is not None  # trajectories need least, and always can
        return replace(best, seconds=best.seconds + _TOLD * (delays + len(_places(scheduled, active))))

    def _drawn(
        self,
        circuit: QuantumCircuit,
        scheduled: QuantumCircuit,
        active: Sequence[int],
        shots: int,
        seed: int,
        going_on: Callable[[], None],
    ) -> Outcomes:
        """Counts from the exact probabilities of all outcomes."""
        from pilot.quantum.aer import drawn
        from pilot_plugins.qpus.noisy_states import NoisyState, relaxation

        place = dict(zip(scheduled.qubits, active, strict=True))
        last = {qubit: number for number, entry in enumerate(scheduled.data) for qubit in entry.qubits}
        state = NoisyState()
        for number, entry in enumerate(scheduled.data):
            if state.size > _SLOW_VALUES:
                going_on()
            if entry.name == "measure":
                (qubit,), (bit,) = entry.qubits, entry.clbits
                state.measure(qubit, bit, self._confusion(place[qubit]), keep=last[qubit] > number)
            elif entry.name == "delay":
                t1, t2 = self._times(place[entry.qubits[0]])
                state.apply(relaxation(self._scheduler.seconds(entry.operation), t1, t2), entry.qubits)
            else:
                state.apply(self._transfer(entry, tuple(place[qubit] for qubit in entry.qubits)), entry.qubits)
        measured = {bit for entry in scheduled.data for bit in entry.clbits}
        bits = [bit for bit in scheduled.clbits if bit in measured]
        own = [circuit.clbits[scheduled.find_bit(bit).index] for bit in bits]
        return drawn(circuit, own, state.probabilities(bits), shots, seed)

    def _sampled(
        self,
        circuit: QuantumCircuit,
        scheduled: QuantumCircuit,
        active: Sequence[int],
        shots: int,
        seed: int,
        estimate: Estimate,
        going_on: Callable[[], None],
    ) -> Outcomes:
        """Counts from Aer, by the method of the estimate."""
        from qiskit_aer import AerSimulator

        from pilot.quantum.outcomes import Outcomes, draw_seeds

        parts = 1
        if estimate.method == "statevector":
            parts = min(shots, max(1, round(estimate.seconds / _PART)))
        model = self.noise(scheduled, active)
        simulator = AerSimulator(method=estimate.method, noise_model=model, max_parallel_threads=1)
        counts: dict[str, int] = {}
        for part, part_seed in enumerate(draw_seeds(seed, parts)):
            going_on()
            part_shots = shots // parts + (part < shots % parts)
            result = simulator.run(scheduled, shots=part_shots, seed_simulator=part_seed).result()
            if not result.success:
                raise QPUError(f"circuit {circuit.name!r}: {result.status}")
            for outcome, count in result.data(0)["counts"].items():
                counts[outcome] = counts.get(outcome, 0) + count
        return Outcomes.from_counts(circuit, counts, shots)

    def noise(self, scheduled: QuantumCircuit, active: Sequence[int]) -> NoiseModel:
        """What the circuit's instructions do wrong, on its own qubit numbers."""
        from qiskit.circuit import Delay
        from qiskit_aer.noise import NoiseModel, ReadoutError, RelaxationNoisePass

        model = NoiseModel(basis_gates=list(self.target.operation_names))
        number = {qubit: index for index, qubit in enumerate(active)}
        for name, qubits in sorted(_places(scheduled, active)):
            numbers = [number[qubit] for qubit in qubits]
            if name == "measure":
                error = self._readout(qubits[0])
                if any(error):
                    model.add_readout_error(ReadoutError([[1 - error[0], error[0]], [error[1], 1 - error[1]]]), numbers)
            elif (gate_error := self._gate_error(name, qubits)) is not None:
                model.add_quantum_error(gate_error, name, numbers)
        t1s, t2s = zip(*(self._times(qubit) for qubit in active), strict=True)
        idle = RelaxationNoisePass(t1s=list(t1s), t2s=list(t2s), dt=self.target.dt, op_types=Delay)
        model._custom_noise_passes.append(idle)  # as NoiseModel.from_backend does; there is no public way
        return model

    def _readout(self, qubit: int) -> tuple[float, float]:
        known = self.readout[qubit] if qubit < len(self.readout) else None
        if known is not None:
            return known
        properties = self.target["measure"].get((qubit,))
        error = (properties and properties.error) or 0.0
        return error, error

    def _times(self, qubit: int) -> tuple[float, float]:
        """T1 and T2 in seconds, the second within its physical bound; infinite where they are not known."""
        known = self.target.qubit_properties
        properties = known[qubit] if known else None
        t1 = getattr(properties, "t1", None) or inf
        t2 = getattr(properties, "t2", None) or inf
        return t1, min(t2, 2 * t1)

    def _confusion(self, qubit: int) -> NDArray[np.float64]:
        """`(2, 2)`: the probability of reading `i` where the qubit is in `j`."""
        import numpy as np

        ones_in_0, zeros_in_1 = self._readout(qubit)
        return np.array([[1 - ones_in_0, zeros_in_1], [ones_in_0, 1 - zeros_in_1]])

    def _gate_error(self, name: str, qubits: tuple[int, ...]) -> QuantumError | None:
        """The error of one gate on these qubits; built once."""
        from qiskit_aer.noise.device import basic_device_gate_errors

        place = (name, qubits)
        if place not in self._errors:
            known = self.target.qubit_properties
            own = None if known is None else [known[qubit] for qubit in qubits]
            only = type(self.target)(num_qubits=len(qubits), dt=self.target.dt, qubit_properties=own)
            numbers = tuple(range(len(qubits)))
            properties = self.target[name].get(qubits) if name in self.target.operation_names else None
            self._errors[place] = None
            if properties is not None:
                only.add_instruction(self.target.operation_from_name(name), {numbers: properties}, name=name)
                for _, _, error in basic_device_gate_errors(target=only):
                    self._errors[place] = error
        return self._errors[place]

    def _transfer(self, entry: CircuitInstruction, qubits: tuple[int, ...]) -> NDArray[np.float64]:
        """What a gate or a reset does on these qubits, its error included."""
        from qiskit.quantum_info import Operator

        from pilot_plugins.qpus.noisy_states import RESET, transfer_of

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

    def _with_error(self, ideal: NDArray[np.float64], place: Place) -> NDArray[np.float64]:
        from qiskit.quantum_info import PTM, SuperOp

        if place not in self._error_transfers:
            error = self._gate_error(*place)
            self._error_transfers[place] = None if error is None else PTM(SuperOp(error)).data.real
        transfer = self._error_transfers[place]
        return ideal if transfer is None else transfer @ ideal


def _exact_seconds(scheduled: QuantumCircuit) -> float:
    """What the exact probabilities are predicted to take; infinite where gates depend on outcomes, or without room."""
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
        if values > _MAX_VALUES or len(bits) > _MAX_BITS:
            return inf
        seconds += _STEP + _VALUE * values
        if entry.name == "measure" and last[entry.qubits[0]] == number:
            joined.remove(entry.qubits[0])
    return seconds


def _places(circuit: QuantumCircuit, active: Sequence[int], wires: dict[Any, int] | None = None) -> set[Place]:
    """Instructions on the device's qubits, those in blocks of control flow included."""
    wires = wires or {qubit: active[index] for index, qubit in enumerate(circuit.qubits)}
    found: set[Place] = set()
    for instruction in circuit.data:
        if instruction.is_control_flow():
            outer = [wires[qubit] for qubit in instruction.qubits]
            for block in instruction.operation.blocks:
                found |= _places(block, active, dict(zip(block.qubits, outer, strict=True)))
        elif instruction.name not in ("barrier", "delay"):
            found.add((instruction.name, tuple(wires[qubit] for qubit in instruction.qubits)))
    return found
