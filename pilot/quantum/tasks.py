"""What the description of a circuit becomes: which workers run it, in how many parts, and what makes the result.

Read next: `execution` (what the workers run).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit

from pilot import device
from pilot.descriptions import ANY_QPU, SLOT, CircuitFacts, Option, Resources, TaskDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Offer, Part, Prepared
from pilot.quantum import expectation, simulation, tomography
from pilot.quantum.circuits import pack
from pilot.quantum.execution import (
    DeviceRun,
    ExactValues,
    Finish,
    Simulation,
    exact,
    of_sets,
    only,
    put_together,
    without_noise,
)
from pilot.quantum.mitigation import stages
from pilot.quantum.observables import operators

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: Seconds of simulation that make a part, and the parts at most that one task is split into.
PART_SECONDS = 0.1
MAX_PARTS = 256
#: A part of a task for devices has so many circuits at least; devices run parts of many tasks in one job.
MAX_DEVICE_PARTS = 64
#: Of circuits with no more qubits the state vector alone is predicted: anything else takes no longer.
MAX_PLAIN_QUBITS = 20
#: Simulations of more seconds than this get all cores of a node.
LONG_SECONDS = 10.0
#: Simulations that need more bytes than this say so.
ORDINARY_BYTES = 512 << 20


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The description, with its circuit read and its values in an array."""

    description: TaskDescription
    circuit: QuantumCircuit
    #: ``(n_sets, n_parameters)``; None: the circuit has no free parameters.
    values: NDArray[np.float64] | None
    #: One result, not a list of them.
    single: bool


def prepare(description: TaskDescription, offer: Offer) -> Prepared:
    """The tasks that make up one with a circuit.

    Args:
        description: with its ``circuit``.
        offer: what the pilots have.

    Raises:
        DescriptionError: the circuit cannot be read, or fields do not go together.
    """
    wanted = _read(description)
    where = _where(description, offer)
    if description.tomography is not False:
        return _tomography(wanted, where, offer)
    if len(description.observables):
        return _expectation(wanted, where, offer)
    if not any(entry.clbits for entry in wanted.circuit.data):
        raise DescriptionError(
            f"TaskDescription.circuit: circuit {wanted.circuit.name!r} measures nothing: add circuit.measure_all(), or "
            "give observables",
            field="circuit",
        )
    return _assemble(wanted, where, offer, [wanted.circuit], only if wanted.single else None)


# ---- what is wanted -----------------------------------------------------------------------------------------------


def _read(description: TaskDescription) -> _Wanted:
    circuit = description.circuit
    if not isinstance(circuit, QuantumCircuit):
        from pilot.quantum.programs import load  # and its parsers

        circuit = load(circuit).to_qiskit()
    if description.tomography is not False and len(description.observables):
        raise description.wrong("tomography", "not together with observables: give one of the two")
    values, single = _values(description, circuit)
    return _Wanted(description=description, circuit=circuit, values=values, single=single)


def _values(description: TaskDescription, circuit: QuantumCircuit) -> tuple[NDArray[np.float64] | None, bool]:
    """The sets of values, and whether it is one that stands for itself."""
    names = [parameter.name for parameter in circuit.parameters]
    given = description.parameters
    if given is None:
        if names:
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise description.wrong(
                "parameters", f"values for the {len(names)} free parameters of the circuit ({shown})"
            )
        return None, True
    if isinstance(given, Mapping):
        known = {str(getattr(key, "name", key)): value for key, value in given.items()}
        if set(known) != set(names):
            raise description.wrong("parameters", f"values for exactly the circuit's parameters: {', '.join(names)}")
        given = np.stack(np.broadcast_arrays(*(np.asarray(known[name], dtype=float) for name in names)), axis=-1)
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise description.wrong("parameters", "numbers: (n_parameters,) or (n_sets, n_parameters)") from None
    if not names or array.ndim not in (1, 2) or array.shape[-1] != len(names) or not np.isfinite(array).all():
        allowed = (
            f"finite numbers of shape ({len(names)},) or (n_sets, {len(names)})" if names else "none: none are free"
        )
        raise description.wrong("parameters", allowed)
    return np.atleast_2d(array), array.ndim == 1


# ---- where ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Where:
    #: Devices of these names, "*" for any; none: simulated.
    devices: tuple[str, ...] = ()
    #: A simulator among the pilots' ``qpus``; "": this library's choice.
    simulator: str = ""


def _where(description: TaskDescription, offer: Offer) -> _Where:
    exact, names = description.shots is None, description.qpu
    if names is None:
        asks = description.min_fidelity is not None or bool(description.mitigation)
        found: tuple[str, ...] = (ANY_QPU,) if (offer.devices and not exact) or asks else ()
    else:
        found = (names,) if isinstance(names, str) else names
        simulators = [name for name in found if name != ANY_QPU and (name == "aer" or not device.is_device(name))]
        if simulators and len(found) > 1:
            raise description.wrong("qpu", "one simulator, or devices: a simulator does not stand in for a device")
        if simulators:
            found = ()
            names = simulators[0]
    if found and exact:
        raise description.wrong("shots", "a number: a device cannot give exact results (qpu='aer' can)")
    if not found and (description.mitigation or description.min_fidelity is not None):
        field = "mitigation" if description.mitigation else "min_fidelity"
        raise description.wrong(field, "only for devices: a simulator without noise has no errors")
    if found or names is None or names == "aer":
        return _Where(devices=found)
    assert isinstance(names, str)
    return _Where(simulator=names)


# ---- kinds ----------------------------------------------------------------------------------------------------


def _tomography(wanted: _Wanted, where: _Where, offer: Offer) -> Prepared:
    description = wanted.description
    if wanted.values is not None and not wanted.single:
        raise description.wrong("parameters", "one set of values with tomography")
    circuit = wanted.circuit if wanted.values is None else wanted.circuit.assign_parameters(wanted.values[0].tolist())
    qubits = None if description.tomography is True else list(description.tomography)
    planned = tomography.plan(circuit, qubits)
    bound = _Wanted(description=description, circuit=circuit, values=None, single=True)
    return _assemble(bound, where, offer, planned.circuits, _finish(planned), planned)


def _expectation(wanted: _Wanted, where: _Where, offer: Offer) -> Prepared:
    description = wanted.description
    if description.shots is None and not where.simulator:
        observables = operators(description.observables, wanted.circuit.num_qubits)
        return _exact(wanted, offer, observables)
    planned = expectation.plan(wanted.circuit, description.observables)
    finish = _finish(planned)
    if not planned.circuits:  # multiples of the identity: nothing has to be measured
        number = 1 if wanted.values is None else len(wanted.values)
        values = np.tile(planned.constants, (number, 1))
        return Prepared(name=wanted.circuit.name, parts=(Part(function=exact, args=(wanted.single, [values])),))
    if not wanted.single:
        finish = functools.partial(of_sets, finish, len(planned.circuits))
    return _assemble(wanted, where, offer, planned.circuits, finish, planned)


def _exact(wanted: _Wanted, offer: Offer, observables: Sequence[Any]) -> Prepared:
    """Expectation values without sampling: sets of values are split, observables are not."""
    resources, others, seconds = _simulated(wanted.circuit, None, offer, _asked(wanted.description))
    if wanted.values is None:
        part = Part(function=ExactValues(), args=(pack(wanted.circuit), observables), weight=seconds)
        parts = [part]
    else:
        function = ExactValues(program=pack(wanted.circuit))
        parts = [
            Part(function=function, args=(chunk, observables), weight=seconds * len(chunk))
            for chunk in _chunks(wanted.values, seconds)
        ]
    finish = Part(function=exact, args=(wanted.single,))
    return Prepared(name=wanted.circuit.name, parts=tuple(parts), combine=finish, resources=resources, others=others)


def _finish(planned: expectation.ExpectationPlan | tomography.TomographyPlan) -> Finish:
    """What the plan makes of the outcomes; the circuits do not travel with it."""
    return dataclasses.replace(planned, circuits=()).combine


# ---- parts ----------------------------------------------------------------------------------------------------


def _assemble(
    wanted: _Wanted,
    where: _Where,
    offer: Offer,
    circuits: Sequence[QuantumCircuit],
    finish: Finish | None,
    planned: expectation.ExpectationPlan | tomography.TomographyPlan | None = None,
) -> Prepared:
    """Tasks for these circuits; with sets of values, for all of them with each set."""
    description = wanted.description
    program = None if wanted.values is None else pack(circuits)
    if where.devices:
        if _asked(description) is not None:
            field = next(one for one in ("num_gpus", "memory", "num_cpus") if getattr(description, one))
            raise description.wrong(field, "none for a device: its circuits take nothing of the pilot")
        mitigation = stages(description.mitigation)
        if mitigation.zero_noise is not None:
            if not isinstance(planned, expectation.ExpectationPlan) or finish is None:
                raise description.wrong("mitigation", "'zne' only with observables: it extrapolates their values")
            finish = functools.partial(without_noise, mitigation.zero_noise, planned.constants, finish)
        function: Callable[..., Any] = DeviceRun(
            program=program,
            shots=description.shots or 1,
            level=description.optimization_level,
            stages=tuple(description.mitigation),
        )
        seconds = [_device_seconds(circuit, description.shots or 1) for circuit in circuits]
        per_part = -(-len(circuits) // MAX_DEVICE_PARTS)
        resources, *more = (Resources(num_cpus=0.0, qpu=name) for name in where.devices)
        others = tuple(Option(one) for one in more)
    else:
        function = Simulation(program=program, shots=description.shots, simulator=where.simulator)
        asked = _asked(description)
        estimates = [_simulated(circuit, description.shots, offer, asked) for circuit in circuits]
        seconds = [one[2] for one in estimates]
        per_part = _per_part(seconds)
        resources, others, _ = max(estimates, key=lambda one: one[0].memory)
    seeds = _seeds(description.seed, len(circuits) * (1 if wanted.values is None else len(wanted.values)))
    parts = []
    if wanted.values is None:
        for first in range(0, len(circuits), per_part):
            part = slice(first, first + per_part)
            parts.append(Part(function=function, args=(pack(circuits[part]), seeds[part]), weight=sum(seconds[part])))
    else:
        first = 0
        for chunk in _chunks(wanted.values, sum(seconds)):
            last = first + len(chunk) * len(circuits)
            parts.append(Part(function=function, args=(chunk, seeds[first:last]), weight=sum(seconds) * len(chunk)))
            first = last
    whole = len(parts) == 1
    parts = [_with(part, finish if whole else None) for part in parts]
    return Prepared(
        name=wanted.circuit.name,
        parts=tuple(parts),
        combine=None if whole else Part(function=put_together, args=(finish,)),
        resources=resources,
        others=others,
        simulator=where.simulator,
        facts=_facts(wanted) if where.devices else None,
    )


def _with(part: Part, finish: Finish | None) -> Part:
    return Part(function=part.function, args=(*part.args, finish), weight=part.weight)


def _chunks(values: NDArray[np.float64], seconds: float) -> list[NDArray[np.float64]]:
    """Sets of values in parts of about `PART_SECONDS`."""
    size = max(1, int(PART_SECONDS / seconds), -(-len(values) // MAX_PARTS))
    return [values[first : first + size] for first in range(0, len(values), size)]


def _per_part(seconds: Sequence[float]) -> int:
    """How many circuits make a part."""
    mean = sum(seconds) / len(seconds)
    return max(1, int(PART_SECONDS / mean), -(-len(seconds) // MAX_PARTS))


def _seeds(seed: int | None, number: int) -> tuple[int, ...]:
    drawn = np.random.SeedSequence(seed).generate_state(number) >> 1  # Aer takes 31 bits
    return tuple(drawn.tolist())


def _simulated(
    circuit: QuantumCircuit, shots: int | None, offer: Offer, asked: Resources | None
) -> tuple[Resources, tuple[Option, ...], float]:
    """What a simulation takes, what it can take instead, and its seconds with the first.

    What was ``asked`` for holds. Else one core each, since many circuits at a time use all of them; long ones alone get
    all cores of a node. A GPU when it is twice as fast at least.
    """
    about = simulation.facts(circuit, bonds=circuit.num_qubits > MAX_PLAIN_QUBITS)
    estimates = simulation.predict(about, shots)
    best = simulation.choose(estimates) or estimates[0]  # none is possible: the worker says why
    if asked is not None:
        return asked, (), best.seconds
    if best.seconds > LONG_SECONDS and offer.cores_per_node > 1 and best.method == "statevector":
        estimates = simulation.predict(about, shots, cores=offer.cores_per_node)
        best = simulation.choose(estimates) or best
        resources = _taking(best, cores=offer.cores_per_node)
    else:
        resources = _taking(best)
    if offer.gpus:
        on_gpu = [one for one in simulation.predict(about, shots, gpus=1) if one.device == "GPU"]
        if on_gpu and on_gpu[0].seconds < best.seconds / 2:
            instead = Option(resources, best.seconds / on_gpu[0].seconds)
            return Resources(num_gpus=1.0), (instead,), on_gpu[0].seconds
    return resources, (), best.seconds


def _asked(description: TaskDescription) -> Resources | None:
    """What the description says that a simulation takes; None when it says nothing."""
    memory = description.memory or 0
    assert isinstance(memory, int)
    asked = Resources(description.num_cpus, description.num_gpus, memory)
    return None if asked == SLOT else asked


def _taking(estimate: simulation.Estimate, cores: int = 1) -> Resources:
    memory = int(estimate.bytes) if estimate.bytes > ORDINARY_BYTES else 0
    if not memory and cores == 1:
        return SLOT
    return Resources(num_cpus=float(cores), memory=1 << (memory - 1).bit_length() if memory else 0)


def _device_seconds(circuit: QuantumCircuit, shots: int) -> float:
    """How long a device takes for a circuit: each shot a millisecond at most, most of it for the reset."""
    return float(0.001 + shots * (250e-6 + 0.3e-6 * circuit.depth()))


def _facts(wanted: _Wanted) -> CircuitFacts:
    circuit, description = wanted.circuit, wanted.description
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
