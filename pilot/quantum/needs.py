"""What a circuit's task takes of a pilot, and how long it is expected to run."""

from __future__ import annotations

from math import inf

from qiskit import QuantumCircuit

from pilot.descriptions import TaskDescription
from pilot.interfaces import Offer
from pilot.quantum import costs
from pilot.quantum.deferral import WITHOUT_EFFECT
from pilot.resources import SLOT, Option, Resources

#: Of circuits with no more qubits the state vector alone is predicted: anything else takes no longer.
MAX_PLAIN_QUBITS = 20
#: With a noise model, circuits with no more qubits are cheap whether all of them are used or not.
MAX_SMALL_QUBITS = 8
#: Simulations of more seconds than this get all cores of a node.
LONG_SECONDS = 10.0
#: Simulations that need more bytes than this say so.
ORDINARY_BYTES = 512 << 20


def simulated(
    circuit: QuantumCircuit, shots: int | None, offer: Offer, asked: Resources | None
) -> tuple[Resources, tuple[Option, ...], float]:
    """What a simulation takes, what it can take instead, and its seconds with the first.

    What was ``asked`` for holds. Else one core each, since many circuits at a time use all of them; long ones alone get
    all cores of a node. A GPU when it is twice as fast at least.
    """
    about = costs.facts(circuit, bonds=circuit.num_qubits > MAX_PLAIN_QUBITS)
    estimates = costs.predict(about, shots)
    best = costs.choose(estimates) or estimates[0]  # none is possible: the worker says why
    if asked is not None:
        return asked, (), best.seconds
    if best.seconds > LONG_SECONDS and offer.cores_per_node > 1 and best.method == "statevector":
        estimates = costs.predict(about, shots, cores=offer.cores_per_node)
        best = costs.choose(estimates) or best
        resources = _taking(best, cores=offer.cores_per_node)
    else:
        resources = _taking(best)
    if offer.gpus:
        on_gpu = [one for one in costs.predict(about, shots, gpus=1) if one.device == "GPU"]
        if on_gpu and on_gpu[0].seconds < best.seconds / 2:
            instead = Option(resources, best.seconds / on_gpu[0].seconds)
            return Resources(num_gpus=1.0), (instead,), on_gpu[0].seconds
    return resources, (), best.seconds


def note(circuit: QuantumCircuit, shots: int | None, resources: Resources) -> str:
    """What is predicted for a simulation that takes much memory, and what can be done when that is too much."""
    if not resources.memory:
        return ""
    about = costs.facts(circuit)
    possible = [one for one in costs.predict(about, shots) if one.seconds < inf]
    told = ", ".join(f"{one.method} {one.bytes / 2**30:.3g} GiB" for one in possible)
    what = f"to simulate {circuit.name!r} ({about.qubits} qubits) takes {told or 'more than any method can'}"
    hint = "a number of shots takes less than exact probabilities; " if shots is None and about.measured else ""
    return f"{what}; {hint}cut it (pilot.quantum.cutting.plan), or name a QPU that is wide enough"


def asked_for(description: TaskDescription) -> Resources | None:
    """What the description says that a simulation takes; None when it says nothing."""
    memory = description.memory or 0
    assert isinstance(memory, int)
    asked = Resources(description.num_cpus, description.num_gpus, memory)
    return None if asked == SLOT else asked


def _taking(estimate: costs.Estimate, cores: int = 1) -> Resources:
    memory = int(estimate.bytes) if estimate.bytes > ORDINARY_BYTES else 0
    if not memory and cores == 1:
        return SLOT
    return Resources(num_cpus=float(cores), memory=1 << (memory - 1).bit_length() if memory else 0)


def device_seconds(circuit: QuantumCircuit, shots: int) -> float:
    """How long a device takes for a circuit: each shot a millisecond at most, most of it for the reset."""
    return float(0.001 + shots * (250e-6 + 0.3e-6 * circuit.depth()))


def noisy(circuit: QuantumCircuit, shots: int, asked: Resources | None) -> tuple[Resources, float]:
    """What a simulation with a noise model takes, and its seconds. Gates are counted, not looked at: each has noise."""
    width = circuit.num_qubits
    if width > MAX_SMALL_QUBITS:  # compiled for a device, perhaps; Aer leaves idle qubits out
        active = (entry.qubits for entry in circuit.data if entry.name not in WITHOUT_EFFECT)
        width = len({qubit for qubits in active for qubit in qubits})
    about = costs.counted(width, len(circuit.data), circuit.num_clbits)
    estimates = costs.predict(about, shots, noisy=True)
    best = costs.choose(estimates) or estimates[0]
    return asked or _taking(best), best.seconds
