"""A device's snapshot as a simulator with noise: what a circuit does to the qubits that it uses, and nothing else.

A circuit that is compiled for 127 qubits and uses 5 is run on 5: the noise of its own gates, measurements and idle
times is taken from the snapshot and put on the small circuit.

The model is that of `pilot.quantum.device_noise`; readout errors are taken as they were calibrated, not the same for 0
and 1.

Counts are drawn from the exact probabilities of all outcomes, which `NoisyState` finds, where that is predicted to be
faster than a run of Aer: this takes tens of milliseconds to hand a noise model over, and circuits cannot share a run,
since each has a seed of its own. Wide circuits are sampled from a `NoisyChain`, where that takes a quarter of what
anything else would. Aer follows single shots, of other circuits of many qubits or where gates depend on outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pilot.errors import QPUError
from pilot.quantum.device_noise import QUICK, DeviceNoise, Place, exact_seconds
from pilot.quantum.noisy_chains import TooEntangled

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target
    from qiskit_aer.noise import NoiseModel, QuantumError

    from pilot.quantum.costs import Estimate
    from pilot.quantum.outcomes import Outcomes

#: Shots that are followed one by one are run in parts that are predicted to take so many seconds.
_PART = 0.5
#: Seconds that a chain is predicted to take at most, whatever else would take.
_LONGEST = 1800.0
#: Seconds that Aer takes for the error of a gate, or of a delay. Measured with Aer 0.18.2.
_TOLD = 1e-3


class _Sampling(NamedTuple):
    """What is sampled."""

    circuit: QuantumCircuit
    #: The same on the qubits that it uses, with its idle times; and which qubits of the device these are.
    scheduled: QuantumCircuit
    active: Sequence[int]
    shots: int
    seed: int
    #: Called again and again; what it raises ends the simulation.
    going_on: Callable[[], None]


class NoisyDevice(DeviceNoise):
    """Simulates compiled circuits with the noise of a target."""

    def __init__(self, target: Target, readout: Sequence[tuple[float, float] | None] = ()) -> None:
        super().__init__(target, readout)
        self._aer_errors: dict[Place, QuantumError | None] = {}

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
        from pilot.quantum.outcomes import draw_seeds
        from pilot_plugins.qpus._parts import joint, parts_of
        from pilot_plugins.qpus._results import in_registers

        going_on()
        small, active = self.reduce(in_registers(circuit))  # Aer's noise passes lose bits outside registers
        wanted = _Sampling(circuit, self.schedule(small, active), active, shots, seed, going_on)
        seconds = exact_seconds(wanted.scheduled)
        if seconds <= QUICK:
            return self._drawn(wanted)
        if len(parts := parts_of(circuit)) > 1:  # such as circuits that share the device
            seeds = draw_seeds(seed, len(parts))
            return joint([self.run(one, shots, its, going_on) for one, its in zip(parts, seeds, strict=True)], seed)
        best = self._estimate(wanted)
        chained = self._chained(wanted, min(seconds / 4, best.seconds / 4, _LONGEST))
        if chained is not None:
            return chained
        if best.seconds >= seconds:
            return self._drawn(wanted)
        _check_room(circuit, len(active), best)
        return self._sampled(wanted, best)

    def _estimate(self, wanted: _Sampling) -> Estimate:
        """What Aer would take, with the noise model that it has to be given."""
        from pilot.quantum.costs import choose, estimate, facts

        scheduled = wanted.scheduled
        delays = scheduled.count_ops().get("delay", 0)
        about = facts(scheduled, bonds=False)
        best = choose(estimate(replace(about, gates=about.gates + delays), wanted.shots, noisy=True))
        assert best is not None  # single shots need least; whether there is room is looked at where they are followed
        return replace(best, seconds=best.seconds + _TOLD * (delays + len(_places(scheduled, wanted.active))))

    def _chained(self, wanted: _Sampling, seconds: float) -> Outcomes | None:
        """Counts from a chain of the qubits; None: that would take more than these seconds."""
        from pilot.quantum.outcomes import Outcomes, registers_of

        circuit, scheduled = wanted.circuit, wanted.scheduled
        if any(entry.is_control_flow() or len(entry.qubits) > 2 for entry in scheduled.data):
            return None
        try:
            bits, chain = self.chain(scheduled, wanted.active, seconds, wanted.going_on)
        except TooEntangled:
            return None
        random = np.random.default_rng(wanted.seed)
        found, counts = chain.sample(bits, wanted.shots, random, wanted.going_on)
        table = np.zeros((len(counts), circuit.num_clbits), dtype=bool)
        table[:, [scheduled.find_bit(bit).index for bit in bits]] = found
        return Outcomes.from_bits(table, counts, registers=registers_of(circuit), shots=wanted.shots)

    def _drawn(self, wanted: _Sampling) -> Outcomes:
        """Counts from the exact probabilities of all outcomes."""
        from pilot.quantum.aer import drawn

        bits, probabilities = self.probabilities(wanted.scheduled, wanted.active, wanted.going_on)
        own = [wanted.circuit.clbits[wanted.scheduled.find_bit(bit).index] for bit in bits]
        return drawn(wanted.circuit, own, probabilities, wanted.shots, wanted.seed)

    def _sampled(self, wanted: _Sampling, estimate: Estimate) -> Outcomes:
        """Counts from Aer, by the method of the estimate."""
        from qiskit_aer import AerSimulator

        from pilot.quantum.aer_simulators import run_to_end
        from pilot.quantum.outcomes import Outcomes, draw_seeds

        circuit, shots, parts = wanted.circuit, wanted.shots, 1
        if estimate.method == "statevector":
            parts = min(shots, max(1, round(estimate.seconds / _PART)))
        model = self.noise(wanted.scheduled, wanted.active)
        simulator = AerSimulator(method=estimate.method, noise_model=model, max_parallel_threads=1)
        counts: dict[str, int] = {}
        for part, part_seed in enumerate(draw_seeds(wanted.seed, parts)):
            wanted.going_on()
            part_shots = shots // parts + (part < shots % parts)
            result = run_to_end(simulator, wanted.scheduled, shots=part_shots, seed_simulator=part_seed)
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
                error = self.readout_of(qubits[0])
                if any(error):
                    model.add_readout_error(ReadoutError([[1 - error[0], error[0]], [error[1], 1 - error[1]]]), numbers)
            elif (gate_error := self._gate_error(name, qubits)) is not None:
                model.add_quantum_error(gate_error, name, numbers)
        t1s, t2s = zip(*(self.times(qubit) for qubit in active), strict=True)
        idle = RelaxationNoisePass(t1s=list(t1s), t2s=list(t2s), dt=self.target.dt, op_types=Delay)
        model._custom_noise_passes.append(idle)  # as NoiseModel.from_backend does; there is no public way
        return model

    def _gate_error(self, name: str, qubits: tuple[int, ...]) -> QuantumError | None:
        """The error of one gate on these qubits; built once."""
        from qiskit_aer.noise.device import basic_device_gate_errors

        place = (name, qubits)
        if place not in self._aer_errors:
            known = self.target.qubit_properties
            own = None if known is None else [known[qubit] for qubit in qubits]
            only = type(self.target)(num_qubits=len(qubits), dt=self.target.dt, qubit_properties=own)
            numbers = tuple(range(len(qubits)))
            properties = self.target[name].get(qubits) if name in self.target.operation_names else None
            self._aer_errors[place] = None
            if properties is not None:
                only.add_instruction(self.target.operation_from_name(name), {numbers: properties}, name=name)
                for _, _, error in basic_device_gate_errors(target=only):
                    self._aer_errors[place] = error
        return self._aer_errors[place]


def _check_room(circuit: QuantumCircuit, active: int, best: Estimate) -> None:
    """Refuse what does not fit into this machine's memory.

    Raises:
        QPUError: it does not.
    """
    from pilot.quantum.costs import machine_memory

    if best.bytes > (memory := machine_memory()):
        takes, here = (f"{some / 2**30:.3g} GiB" for some in (best.bytes, memory))
        raise QPUError(
            f"circuit {circuit.name!r}: to follow {active} qubits with noise shot by shot takes {takes}, this machine "
            f"has {here}: cut it (pilot.quantum.cutting.plan)"
        )


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
