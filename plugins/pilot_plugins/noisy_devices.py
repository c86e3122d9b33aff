"""A device's snapshot as a simulator with noise: what a circuit does to the qubits that it uses, and nothing else.

A circuit that is compiled for 127 qubits and uses 5 is run on 5: the noise of its own gates, measurements and idle
times is taken from the snapshot and put on the small circuit. A noise model of the whole device takes Aer seconds to
build and half a second a run to hand over; the small one takes milliseconds.

The model is Aer's for devices (`qiskit_aer.noise.NoiseModel.from_backend`): depolarizing and thermal relaxation after
each gate so that its error is the calibrated one, and thermal relaxation in each delay; readout errors are taken as
they were calibrated, not the same for 0 and 1. What has no calibrated duration takes no time, there as here. Circuits
are scheduled as late as possible first, so that idle times are delays. Crosstalk, leakage and drift are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilot.errors import QPUError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target
    from qiskit_aer.noise import NoiseModel, QuantumError

    from pilot.quantum.outcomes import Outcomes

#: Shots that are followed one by one are run in parts that are predicted to take so many seconds.
_PART = 0.5
#: Seconds before the first gate of a qubit do nothing to it: it is in its ground state.
_UNTOUCHED = frozenset({"delay", "barrier", "reset"})

Place = tuple[str, tuple[int, ...]]


class NoisyDevice:
    """Simulates compiled circuits with the noise of a target.

    Args:
        target: of the device, with durations, errors and qubit properties.
        readout: probabilities of reading 1 in state 0, and 0 in state 1, for each qubit; None: the target's error.
    """

    def __init__(self, target: Target, readout: Sequence[tuple[float, float] | None] = ()) -> None:
        self.target = target
        self.readout = readout
        self._errors: dict[Place, QuantumError | None] = {}

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
        import numpy as np
        from qiskit_aer import AerSimulator

        from pilot.quantum.simulation import choose, facts, predict
        from pilot_plugins.qiskit_results import from_counts, in_registers

        small, active = self.reduce(in_registers(circuit))  # scheduling loses bits outside registers
        scheduled = self.schedule(small, active)
        about = facts(scheduled)
        about = replace(about, gates=about.gates + scheduled.count_ops().get("delay", 0))
        estimates = predict(about, shots, noisy=True)
        best = choose(estimates)
        assert best is not None  # trajectories need least, and always can
        parts = 1
        if best.method == "statevector":
            parts = min(shots, max(1, round(best.seconds / _PART)))
        simulator = AerSimulator(method=best.method, noise_model=self.noise(scheduled, active), max_parallel_threads=1)
        counts: dict[str, int] = {}
        for part, part_seed in enumerate(np.random.SeedSequence(seed).generate_state(parts)):
            going_on()
            part_shots = shots // parts + (part < shots % parts)
            result = simulator.run(scheduled, shots=part_shots, seed_simulator=int(part_seed >> 1)).result()
            if not result.success:
                raise QPUError(f"circuit {circuit.name!r}: {result.status}")
            for outcome, count in result.data(0)["counts"].items():
                counts[outcome] = counts.get(outcome, 0) + count
        return from_counts(circuit, counts, shots)

    def reduce(self, circuit: QuantumCircuit) -> tuple[QuantumCircuit, tuple[int, ...]]:
        """The circuit on the qubits that it uses alone, and which of the device these are.

        Raises:
            QPUError: an instruction that the target has not, or not on these qubits.
        """
        from qiskit import QuantumCircuit, QuantumRegister
        from qiskit.circuit import ControlFlowOp

        place = {qubit: index for index, qubit in enumerate(circuit.qubits)}
        used: set[int] = set()
        for instruction in circuit.data:
            if instruction.name in ("barrier", "delay"):
                continue
            qubits = tuple(place[qubit] for qubit in instruction.qubits)
            if not isinstance(instruction.operation, ControlFlowOp):
                if not self.target.instruction_supported(instruction.name, qubits):
                    raise QPUError(
                        f"circuit {circuit.name!r} has {instruction.name} on {list(qubits)}, which the device has not: "
                        "compile it for the target"
                    )
            elif instruction.name not in self.target.operation_names:
                raise QPUError(f"circuit {circuit.name!r} has {instruction.name}, which the device has not")
            used.update(qubits)
        active = tuple(sorted(used))
        register_of_all = QuantumRegister(len(active), "q")  # the name by which Qiskit's scheduling knows a device's
        small_qubit = {circuit.qubits[index]: qubit for index, qubit in zip(active, register_of_all, strict=True)}
        small = QuantumCircuit(register_of_all, circuit.clbits, global_phase=circuit.global_phase)
        for register in circuit.cregs:
            small.add_register(register)
        begun: set[Any] = set()
        for instruction in circuit.data:
            kept = [small_qubit[qubit] for qubit in instruction.qubits if qubit in small_qubit]
            if instruction.name in _UNTOUCHED - {"barrier"} and kept and kept[0] not in begun:
                continue
            if instruction.name == "barrier":
                if kept:
                    small.barrier(kept)
                continue
            if len(kept) == len(instruction.qubits):
                begun.update(kept)
                small.append(instruction.operation, kept, instruction.clbits, copy=False)
        return small, active

    def schedule(self, small: QuantumCircuit, active: Sequence[int]) -> QuantumCircuit:
        """As late as possible, with idle times as delays but those before a qubit's first gate. A circuit whose gates
        depend on outcomes has no schedule before it runs: its delays are those that it has itself."""
        from qiskit.circuit import ControlFlowOp
        from qiskit.transpiler import PassManager
        from qiskit.transpiler.passes import ALAPScheduleAnalysis, PadDelay, TimeUnitConversion

        from pilot.quantum.durations import timed

        if any(isinstance(instruction.operation, ControlFlowOp) for instruction in small.data):
            return small
        target = timed(self.target, active)
        passes = [TimeUnitConversion(target=target), ALAPScheduleAnalysis(target=target)]
        padded = PassManager([*passes, PadDelay(target=target, fill_very_end=False)]).run(small)
        scheduled = padded.copy_empty_like()
        begun: set[Any] = set()
        for instruction in padded.data:
            if instruction.name == "delay" and instruction.qubits[0] not in begun:
                continue
            if instruction.name != "barrier":
                begun.update(instruction.qubits)
            scheduled._append(instruction)
        return scheduled

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
        known = self.target.qubit_properties
        t1s, t2s = zip(*(_times(known[qubit] if known else None) for qubit in active), strict=True)
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

    def _gate_error(self, name: str, qubits: tuple[int, ...]) -> QuantumError | None:
        """The error of one gate on these qubits; built once."""
        from qiskit_aer.noise.device import basic_device_gate_errors

        from pilot.quantum.durations import timed

        place = (name, qubits)
        if place not in self._errors:
            small = timed(self.target, qubits)
            only = type(small)(num_qubits=len(qubits), dt=small.dt, qubit_properties=small.qubit_properties)
            numbers = tuple(range(len(qubits)))
            properties = self.target[name].get(qubits) if name in self.target.operation_names else None
            self._errors[place] = None
            if properties is not None:
                only.add_instruction(self.target.operation_from_name(name), {numbers: properties}, name=name)
                for _, _, error in basic_device_gate_errors(target=only):
                    self._errors[place] = error
        return self._errors[place]


def _places(circuit: QuantumCircuit, active: Sequence[int], wires: dict[Any, int] | None = None) -> set[Place]:
    """Instructions on the device's qubits, those in blocks of control flow included."""
    from qiskit.circuit import ControlFlowOp

    wires = wires or {qubit: active[index] for index, qubit in enumerate(circuit.qubits)}
    found: set[Place] = set()
    for instruction in circuit.data:
        if isinstance(instruction.operation, ControlFlowOp):
            outer = [wires[qubit] for qubit in instruction.qubits]
            for block in instruction.operation.blocks:
                found |= _places(block, active, dict(zip(block.qubits, outer, strict=True)))
        elif instruction.name not in ("barrier", "delay"):
            found.add((instruction.name, tuple(wires[qubit] for qubit in instruction.qubits)))
    return found


def _times(properties: Any) -> tuple[float, float]:
    """T1 and T2, the second within its physical bound; infinite where they are not known."""
    t1 = getattr(properties, "t1", None) or float("inf")
    t2 = getattr(properties, "t2", None) or float("inf")
    return t1, min(t2, 2 * t1)
