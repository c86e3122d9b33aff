"""What a circuit takes of a pilot, and how long it is expected to run."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from qiskit import QuantumCircuit

from pilot.descriptions import TaskDescription
from pilot.interfaces import Offer
from pilot.quantum import costs
from pilot.quantum.deferral import WITHOUT_EFFECT
from pilot.resources import SLOT, CircuitFacts, Option, Resources

#: Of circuits with no more qubits the state vector alone is predicted: anything else takes no longer.
MAX_PLAIN_QUBITS = 20
#: With a noise model, circuits with no more qubits are cheap whether all of them are used or not.
MAX_SMALL_QUBITS = 8
#: Simulations of more seconds than this get all cores of a node.
LONG_SECONDS = 10.0
#: Simulations that need more bytes than this ask for memory.
ORDINARY_BYTES = 512 << 20


class Need(NamedTuple):
    """What one circuit takes."""

    resources: Resources
    #: Expected, with these resources.
    seconds: float
    #: What it can take instead.
    others: tuple[Option, ...] = ()
    #: Added to the error when no pilot has that.
    note: str = ""


def asked_for(description: TaskDescription) -> Resources | None:
    """The resources in the description; None when it has none."""
    memory = description.memory or 0
    assert isinstance(memory, int)
    asked = Resources(description.num_cpus, description.num_gpus, memory)
    return None if asked == SLOT else asked


def simulated(circuit: QuantumCircuit, shots: int | None, offer: Offer, asked: Resources | None) -> Need:
    """What a simulation takes; `predicted` where the circuit was looked at before."""
    return predicted(circuit.name, simulation_facts(circuit), shots, offer, asked)


def simulation_facts(circuit: QuantumCircuit) -> costs.SimulationFacts:
    """What the time and memory of a simulation are predicted from; it takes longer than the prediction."""
    return costs.facts(circuit, bonds=circuit.num_qubits > MAX_PLAIN_QUBITS)


def predicted(
    name: str, about: costs.SimulationFacts, shots: int | None, offer: Offer, asked: Resources | None
) -> Need:
    """What the simulation of a circuit of this name takes.

    What was ``asked`` for holds. Else one core each, since many circuits at a time use all of them; long ones alone get
    all cores of a node. A GPU when it is twice as fast at least.
    """
    estimates = costs.estimate(about, shots)
    best = costs.choose(estimates) or estimates[0]  # none is possible: the worker says why
    cores = 1
    if asked is None and best.seconds > LONG_SECONDS and offer.cores_per_node > 1 and best.method == "statevector":
        cores = offer.cores_per_node
        estimates = costs.estimate(about, shots, cores=cores)
        best = costs.choose(estimates) or best
    resources = _taking(best, cores) if asked is None else asked
    note = _note(name, about, shots, estimates) if resources.memory else ""
    if asked is None and offer.gpus:
        on_gpu = [one for one in costs.estimate(about, shots, gpus=1) if one.device == "GPU"]
        if on_gpu and on_gpu[0].seconds < best.seconds / 2:
            instead = Option(resources, best.seconds / on_gpu[0].seconds)
            return Need(Resources(num_gpus=1.0), on_gpu[0].seconds, (instead,))
    return Need(resources, best.seconds, note=note)


def with_noise(circuit: QuantumCircuit, shots: int, asked: Resources | None) -> Need:
    """What a simulation with a noise model takes. Gates are counted, not looked at: each has noise."""
    width = circuit.num_qubits
    if width > MAX_SMALL_QUBITS:  # compiled for a device, perhaps; Aer leaves idle qubits out
        active = (entry.qubits for entry in circuit.data if entry.name not in WITHOUT_EFFECT)
        width = len({qubit for qubits in active for qubit in qubits})
    about = costs.counted(width, len(circuit.data), circuit.num_clbits)
    estimates = costs.estimate(about, shots, noisy=True)
    best = costs.choose(estimates) or estimates[0]
    return Need(asked or _taking(best), best.seconds)


def on_devices(circuit: QuantumCircuit, shots: int, devices: Sequence[str]) -> Need:
    """What a device takes for a circuit: each shot a millisecond at most, most of it for the reset."""
    seconds = float(0.001 + shots * (250e-6 + 0.3e-6 * circuit.depth()))
    first, *more = (Resources(num_cpus=0.0, qpu=name) for name in devices)
    return Need(first, seconds, tuple(Option(one) for one in more))


def _taking(estimate: costs.Estimate, cores: int = 1) -> Resources:
    memory = int(estimate.bytes) if estimate.bytes > ORDINARY_BYTES else 0
    if not memory and cores == 1:
        return SLOT
    return Resources(num_cpus=float(cores), memory=1 << (memory - 1).bit_length() if memory else 0)


def _note(name: str, about: costs.SimulationFacts, shots: int | None, estimates: Sequence[costs.Estimate]) -> str:
    """What is predicted for a simulation that takes much memory, and what can be done when that is too much."""
    methods = ", ".join(f"{one.method} {one.bytes / 2**30:.3g} GiB" for one in estimates if one.seconds < inf)
    what = f"to simulate {name!r} ({about.qubits} qubits) takes {methods or 'more than any method can'}"
    hint = "a number of shots takes less than exact probabilities; " if shots is None and about.measured else ""
    return f"{what}; {hint}cut it (pilot.quantum.cutting.plan), or name a QPU that is wide enough"


# ---- on devices -----------------------------------------------------------------------------------------------


def facts_of(circuit: QuantumCircuit, description: TaskDescription) -> CircuitFacts:
    """What a pilot is chosen by, before anything is estimated: gates are counted where a fidelity is asked for."""
    if description.min_fidelity is None:
        return CircuitFacts(circuit.num_qubits, description.shots or 0)
    sizes = [len(entry.qubits) for entry in circuit.data if not entry.clbits and entry.operation.name != "barrier"]
    return CircuitFacts(
        circuit.num_qubits,
        description.shots or 0,
        gates_1q=sum(size == 1 for size in sizes),
        gates_2q=sum(3 ** (size - 2) for size in sizes if size > 1),
        measurements=sum(bool(entry.clbits) for entry in circuit.data) or circuit.num_qubits,
    )
