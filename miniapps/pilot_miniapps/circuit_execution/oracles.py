"""What the values are compared with: calculations by other programs than those that ran the circuits.

- A simulator: Qiskit's `Statevector`, which is NumPy. Exact values agree to 1e-9; sampled ones within their errors.
- A snapshot of a device (``fake:``): Aer's density matrix with its own model of the device's noise
  (`NoiseModel.from_backend`, with the two calibrated readout errors of each qubit), of the circuit compiled and
  scheduled by Qiskit for the whole device. Values agree within their standard errors.
- Any other QPU has noise that nobody knows: the ideal value, within 3(1 - F) and the errors of the shots. F is the
  product of the success probabilities that the device reports for the compiled circuit. A gate of average error e
  changes a value between -1 and 1 by 2 · 3/2 · e at most, when its noise is a Pauli channel on one qubit (5/4 in the
  place of 3/2 for two); idle times and crosstalk are not in that.
"""

from __future__ import annotations

import re
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from qiskit.quantum_info import Statevector

from pilot.quantum.expectation import plan
from pilot.quantum.outcomes import Outcomes, registers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit import QuantumCircuit

    from pilot.resources import QPUInfo
    from pilot_miniapps.circuit_execution.workload import Workload

#: Rounding errors of exact values.
ROUNDING = 1e-9
#: The chance that a right program fails, over all values of a run.
FALSE_ALARM = 1e-6
#: Qiskit's level of optimization and its seed, with which the library compiles a task's circuit.
_LEVEL, _SEED = 2, 0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One value beside the one that is expected.

    Attributes:
        value: that was measured, and its standard error; 0: exact.
        expected: by the independent calculation.
        bound: how far the value may be from it besides the errors of the shots.
    """

    value: float
    standard_error: float
    expected: float
    bound: float = ROUNDING

    def deviation(self) -> float:
        """How far it is outside the bound, in standard errors; in bounds where the value is exact."""
        distance = abs(self.value - self.expected)
        if self.standard_error:
            return max(0.0, distance - self.bound) / self.standard_error
        return distance / self.bound

    def passes(self, allowed: float) -> bool:
        """Within ``allowed`` standard errors; within the bound where the value is exact."""
        return self.deviation() <= (allowed if self.standard_error else 1.0)


def allowed_errors(number: int) -> float:
    """Standard errors that the farthest of so many right values exceeds with the chance `FALSE_ALARM` (normal)."""
    return NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * max(number, 1)))


def ideal_values(workload: Workload, numbers: Sequence[int]) -> list[float]:
    """Exact values of these circuits without noise. A worker runs it."""
    found = []
    for number in numbers:
        circuit, observable = workload.case(number)
        found.append(float(Statevector(circuit).expectation_value(observable).real))
    return found


def noisy_values(workload: Workload, numbers: Sequence[int], snapshot: str) -> list[float]:
    """Exact values of these circuits with the noise of a snapshot of IBM's. A worker runs it.

    Args:
        workload: the circuits.
        numbers: which of them.
        snapshot: its short name, such as "sherbrooke".
    """
    from qiskit import generate_preset_pass_manager

    backend, simulator = _device(snapshot)
    compiler = generate_preset_pass_manager(
        _LEVEL, target=backend.target, seed_transpiler=_SEED, scheduling_method="alap"
    )
    found = []
    for number in numbers:
        planned = plan(*workload.case(number))
        outcomes = [_outcomes(one, compiler.run(one), simulator, backend) for one in planned.circuits]
        found.append(float(planned.combine(outcomes).values[0]))
    return found


@lru_cache(maxsize=4)
def _device(snapshot: str) -> tuple[Any, Any]:
    """The snapshot, and Aer with the noise of its gates and of its idle times; seconds for 127 qubits."""
    from qiskit.transpiler import InstructionProperties
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime import fake_provider

    known = {re.sub("^Fake|V2$", "", name).lower(): name for name in dir(fake_provider) if name.startswith("Fake")}
    backend = getattr(fake_provider, known[snapshot])()
    for name in backend.target.operation_names:
        for qubits, its in (backend.target[name] or {}).items():
            if its is not None and its.duration is None:  # some old snapshots leave durations out: they are taken as 0
                timed = InstructionProperties(duration=0.0, error=its.error)
                backend.target.update_instruction_properties(name, qubits, timed)
    model = NoiseModel.from_backend(backend, readout_error=False)
    return backend, AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)


def _outcomes(circuit: QuantumCircuit, compiled: QuantumCircuit, simulator: Any, backend: Any) -> Outcomes:
    """The probabilities of what the circuit measures at its end, the errors of its readout included."""
    gates = compiled.copy_empty_like()
    begun: set[Any] = set()
    qubits: dict[Any, Any] = {}
    for entry in compiled.data:
        if entry.name == "measure":
            qubits[entry.clbits[0]] = entry.qubits[0]
        elif entry.name != "barrier" and (entry.name != "delay" or entry.qubits[0] in begun):
            begun.update(entry.qubits)  # a qubit is in its ground state before its first gate: no delay counts there
            gates.append(entry)
    measured = [qubits[bit] for bit in compiled.clbits if bit in qubits]
    gates.save_probabilities(measured)
    state = np.asarray(simulator.run(gates, shots=1).result().data(0)["probabilities"])
    probabilities = state.reshape((2,) * len(measured))  # the first axis is the last qubit
    properties = backend.properties()
    for place, qubit in enumerate(reversed(measured)):
        known = properties.qubit_property(compiled.find_bit(qubit).index)
        wrong_0, wrong_1 = known["prob_meas1_prep0"][0], known["prob_meas0_prep1"][0]
        confusion = np.array([[1 - wrong_0, wrong_1], [wrong_0, 1 - wrong_1]])
        probabilities = np.moveaxis(np.tensordot(confusion, probabilities, axes=(1, place)), 0, place)
    bits = np.arange(len(state))[:, None] >> np.arange(len(measured)) & 1
    return Outcomes.from_bits(bits.astype(bool), probabilities.ravel(), registers=registers_of(circuit), shots=None)


def bound_of(fidelity: float) -> float:
    """How far noise is expected to move a value at most, where the device reports this fidelity."""
    return 3 * (1 - fidelity)


def fidelities(workload: Workload, numbers: Sequence[int], info: QPUInfo) -> list[float]:
    """What a device is expected to give for these circuits, the least over their Pauli strings; 0: it reports none."""
    from qiskit import generate_preset_pass_manager

    from pilot.quantum.compilation import expected_fidelity
    from pilot.quantum.targets import target_of

    target = target_of(info)
    compiler = generate_preset_pass_manager(_LEVEL, target=target, seed_transpiler=_SEED)
    found = []
    for number in numbers:
        circuit, observable = workload.case(number)
        planned = plan(circuit, [observable])
        its = (expected_fidelity(compiler.run(one), target) or 0.0 for one in planned.circuits)
        found.append(min(its, default=1.0))
    return found
