"""What the description of a circuit becomes: which workers run it, in how many parts, and what makes the result.

Read next: `execution` (what the workers run).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Barrier, Delay, Gate, ParameterVector

from pilot import registry
from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Offer, Part, Prepared
from pilot.quantum import expectation, needs, tomography
from pilot.quantum.aer import MAX_DEFERRED_QUBITS
from pilot.quantum.aer_simulators import check_known
from pilot.quantum.compilation import Compiler, expected_fidelity
from pilot.quantum.deferral import defer_measurements, inlined, without_final_measurements
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
from pilot.quantum.mitigation import listed, stages
from pilot.quantum.noise import NoisySimulation, packed_model
from pilot.quantum.observables import operators
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.packing import pack
from pilot.quantum.programs.gate_names import truly_named
from pilot.quantum.simulator_instructions import refuse_simulator_instructions
from pilot.resources import ANY_QPU, CircuitFacts, Option, Resources

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit.transpiler import Target

    from pilot.resources import QPUInfo


#: Seconds of simulation that make a part, and the parts at most that one task is split into.
PART_SECONDS = 0.1
MAX_PARTS = 256
#: A part of a task for devices has so many circuits at least; devices run parts of many tasks in one job.
MAX_DEVICE_PARTS = 64
#: Circuits with a noise model of the user's own that make a part. The same wherever it runs: a part has one seed.
NOISY_PER_PART = 32


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
    refuse_simulator_instructions(wanted.circuit)
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
        from pilot.quantum.programs import load, pennylane_tapes  # and its parsers

        asks_state = description.tomography is not False or (
            isinstance(description.observables, Sized) and len(description.observables)
        )
        if asks_state and pennylane_tapes.is_pennylane(circuit):
            circuit = pennylane_tapes.state_circuit(circuit)
        else:
            circuit = load(circuit).to_qiskit()
    else:
        circuit = truly_named(circuit)
    _check(circuit)
    if not isinstance(description.observables, Sized):
        raise description.wrong("observables", "a list of Pauli strings such as 'ZZI', or of Qiskit's operators")
    if description.tomography is not False and len(description.observables):
        raise description.wrong("tomography", "not together with observables: give one of the two")
    values, single = _values(description, circuit)
    return _Wanted(description=description, circuit=circuit, values=values, single=single)


def _check(circuit: QuantumCircuit) -> None:
    """That it has qubits, a name that is text, and angles that are numbers."""
    name = circuit.name
    if not circuit.num_qubits:
        raise DescriptionError(f"TaskDescription.circuit: circuit {name!r} has no qubits", field="circuit")
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        raise DescriptionError(f"TaskDescription.circuit: its name {name!r} is no Unicode text", field="circuit")
    for entry in circuit.data:
        for angle in entry.params:
            if isinstance(angle, float) and not isfinite(angle):
                raise DescriptionError(
                    f"TaskDescription.circuit: circuit {name!r} has the gate {entry.name!r} with the angle {angle}; "
                    "finite numbers are allowed",
                    field="circuit",
                )


def _values(description: TaskDescription, circuit: QuantumCircuit) -> tuple[NDArray[np.float64] | None, bool]:
    """The sets of values, and whether it is one that stands for itself."""
    names = [parameter.name for parameter in circuit.parameters]
    given = description.parameters
    if given is None or (not names and isinstance(given, Sized) and not len(given)):
        if names:
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise description.wrong(
                "parameters", f"values for the {len(names)} free parameters of the circuit ({shown})"
            )
        return None, True
    if isinstance(given, Mapping):
        known = _by_name(description, given)
        if set(known) != set(names):
            raise description.wrong("parameters", f"values for exactly the circuit's parameters: {', '.join(names)}")
        try:
            columns = [_real(known[name]) for name in names]
            given = np.stack(np.broadcast_arrays(*columns), axis=-1)
        except (TypeError, ValueError):
            raise description.wrong(
                "parameters", "for each name a real number, or as many numbers as the others"
            ) from None
    try:
        array = _real(given)
    except (TypeError, ValueError):
        raise description.wrong("parameters", "real numbers: (n_parameters,) or (n_sets, n_parameters)") from None
    fits = array.ndim in (1, 2) and array.shape[-1] == len(names) and array.size and np.isfinite(array).all()
    if not names or not fits:
        allowed = (
            f"finite numbers of shape ({len(names)},) or (n_sets, {len(names)}), n_sets at least 1"
            if names
            else "none: none are free"
        )
        raise description.wrong("parameters", allowed)
    return np.atleast_2d(array), array.ndim == 1


def _by_name(description: TaskDescription, given: Mapping[Any, Any]) -> dict[str, Any]:
    """The values by the parameters' names; a `ParameterVector` stands for its elements, the last axis of its values."""
    known: dict[str, Any] = {}
    for key, values in given.items():
        if not isinstance(key, ParameterVector):
            known[str(getattr(key, "name", key))] = values
            continue
        try:
            columns = np.moveaxis(_real(values), -1, 0)
            known.update((one.name, column) for one, column in zip(key, columns, strict=True))
        except (TypeError, ValueError):
            allowed = f"for the vector {key.name} real numbers: ({len(key)},) or (n_sets, {len(key)})"
            raise description.wrong("parameters", allowed) from None
    return known


def _real(values: Any) -> NDArray[np.float64]:
    """An array of numbers; where one has an imaginary part, a ValueError: a conversion would leave it out."""
    array = np.asarray(values)
    if array.dtype == object:  # such as Qiskit's own numbers
        array = np.vectorize(complex, otypes=[np.complex128])(array)
    if np.iscomplexobj(array) and np.any(array.imag):
        raise ValueError("an imaginary part")
    return np.asarray(array.real, dtype=np.float64)


# ---- where ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Where:
    #: Devices of these names, "*" for any; none: simulated.
    devices: tuple[str, ...] = ()
    #: A simulator among the pilots' ``qpus``; "": this library's choice.
    simulator: str = ""
    #: A noise model, pickled, that circuits are simulated with; empty: none.
    noise: bytes = b""


def _where(description: TaskDescription, offer: Offer) -> _Where:
    exact, names = description.shots is None, description.qpu
    if description.noise_model is not None:
        return _Where(noise=packed_model(description))
    if names is None:
        asks = description.min_fidelity is not None or bool(description.mitigation)
        found: tuple[str, ...] = (ANY_QPU,) if (offer.devices and not exact) or asks else ()
    else:
        found = (names,) if isinstance(names, str) else names
        try:
            simulators = [name for name in found if name != ANY_QPU and (name == "aer" or not registry.is_device(name))]
        except DescriptionError as error:
            raise DescriptionError(f"TaskDescription.qpu: {error}", field="qpu", given=names) from error
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
    planned = tomography.plan(circuit, _qubits(description))
    bound = _Wanted(description=description, circuit=circuit, values=None, single=True)
    return _assemble(bound, where, offer, planned.circuits, _finish(planned), planned)


def _qubits(description: TaskDescription) -> list[int] | None:
    """Those whose state is wanted; None: all."""
    given = description.tomography
    if given is True:
        return None
    qubits = list(given) if isinstance(given, Iterable) else None
    if qubits is None or not all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in qubits):
        raise description.wrong("tomography", "True, or a list of the circuit's qubits by number")
    return [int(one) for one in qubits]


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
    check_known(wanted.circuit)
    state = without_final_measurements(inlined(wanted.circuit))
    if not all(isinstance(entry.operation, Gate | Barrier | Delay) for entry in state.data):
        _check_exact(state, "expectation values", keep_qubits=True)
    resources, others, seconds = needs.simulated(state, None, offer, needs.asked_for(wanted.description))
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
    return Prepared(
        name=wanted.circuit.name,
        parts=tuple(parts),
        combine=finish,
        resources=resources,
        others=others,
        note=needs.note(state, None, resources),
    )


def _check_exact(circuit: QuantumCircuit, what: str, *, keep_qubits: bool = False) -> None:
    """Refuse what the simulator would refuse; ``keep_qubits``: the state at the end is wanted."""
    deferred = defer_measurements(circuit, keep_qubits=keep_qubits)
    if deferred is None:
        why = "acts on outcomes, or does something else than gates, measurements and resets"
    elif deferred.gates.num_qubits > max(MAX_DEFERRED_QUBITS, circuit.num_qubits):
        why = (
            f"measures or resets in its middle and takes {deferred.gates.num_qubits} qubits when that is moved to its "
            f"end, {MAX_DEFERRED_QUBITS} at most are simulated"
        )
    elif not keep_qubits and len(deferred.holder) > MAX_DEFERRED_QUBITS:
        why = f"measures {len(deferred.holder)} bits, the outcomes of {MAX_DEFERRED_QUBITS} at most are listed"
    else:
        return
    raise DescriptionError(
        f"TaskDescription.circuit: circuit {circuit.name!r} has no exact {what}: it {why}; give a number of shots",
        field="circuit",
    )


def _finish(planned: expectation.ExpectationPlan | tomography.TomographyPlan) -> Finish:
    """What the plan makes of the outcomes; the circuits do not travel with it."""
    return dataclasses.replace(planned, circuits=()).combine


# ---- parts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How circuits run: what workers call, how long each circuit takes, and what a task takes."""

    function: Callable[..., Any]
    #: One a circuit.
    seconds: list[float]
    #: Circuits of a part, where there are no sets of values.
    per_part: int
    resources: Resources
    others: tuple[Option, ...]
    note: str = ""


def _on_devices(wanted: _Wanted, where: _Where, circuits: Sequence[QuantumCircuit], program: bytes | None) -> _Way:
    description, shots = wanted.description, wanted.description.shots or 1
    if needs.asked_for(description) is not None:
        field = next(one for one in ("num_gpus", "memory", "num_cpus") if getattr(description, one))
        raise description.wrong(field, "none for a device: its circuits take nothing of the pilot")
    first, *more = (Resources(num_cpus=0.0, qpu=name) for name in where.devices)
    return _Way(
        function=DeviceRun(
            program=program,
            shots=shots,
            level=description.optimization_level,
            stages=listed(description.mitigation),
            min_fidelity=description.min_fidelity or 0.0,
        ),
        seconds=[needs.device_seconds(circuit, shots) for circuit in circuits],
        per_part=-(-len(circuits) // MAX_DEVICE_PARTS),
        resources=first,
        others=tuple(Option(one) for one in more),
    )


def _on_simulators(
    wanted: _Wanted, where: _Where, circuits: Sequence[QuantumCircuit], program: bytes | None, offer: Offer
) -> _Way:
    shots, asked = wanted.description.shots, needs.asked_for(wanted.description)
    if not where.simulator:
        check_known(circuits[0])
    if shots is None and not where.simulator:
        _check_exact(circuits[0], "probabilities")  # the others differ in their last gates
    estimates = [needs.simulated(circuit, shots, offer, asked) for circuit in circuits]
    seconds = [one[2] for one in estimates]
    largest = max(range(len(circuits)), key=lambda number: estimates[number][0].memory)
    resources, others, _ = estimates[largest]
    return _Way(
        function=Simulation(program=program, shots=shots, simulator=where.simulator),
        seconds=seconds,
        per_part=_per_part(seconds),
        resources=resources,
        others=others,
        note=needs.note(circuits[largest], shots, resources),
    )


def _with_noise(wanted: _Wanted, where: _Where, circuits: Sequence[QuantumCircuit], program: bytes | None) -> _Way:
    description, asked = wanted.description, needs.asked_for(wanted.description)
    shots = description.shots or 1
    estimates = [needs.noisy(circuit, shots, asked) for circuit in circuits]
    return _Way(
        function=NoisySimulation(program=program, shots=shots, model=where.noise, together=description.seed is None),
        seconds=[seconds for _, seconds in estimates],
        per_part=NOISY_PER_PART,
        resources=max((resources for resources, _ in estimates), key=lambda one: one.memory),
        others=(),
    )


def _assemble(
    wanted: _Wanted,
    where: _Where,
    offer: Offer,
    circuits: Sequence[QuantumCircuit],
    finish: Finish | None,
    planned: expectation.ExpectationPlan | tomography.TomographyPlan | None = None,
) -> Prepared:
    """Tasks for these circuits; with sets of values, for all of them with each set."""
    program = None if wanted.values is None else pack(circuits)
    if where.devices:
        way = _on_devices(wanted, where, circuits, program)
        finish = _extrapolated(wanted.description, finish, planned)
    elif where.noise:
        way = _with_noise(wanted, where, circuits, program)
    else:
        way = _on_simulators(wanted, where, circuits, program, offer)
    parts = _parts(wanted, circuits, way)
    whole = len(parts) == 1
    return Prepared(
        name=wanted.circuit.name,
        parts=tuple(_with(part, finish if whole else None) for part in parts),
        combine=None if whole else Part(function=put_together, args=(finish,)),
        resources=way.resources,
        others=way.others,
        simulator=where.simulator,
        facts=_facts(wanted, where, circuits, offer) if where.devices else None,
        note=way.note,
    )


def _extrapolated(
    description: TaskDescription,
    finish: Finish | None,
    planned: expectation.ExpectationPlan | tomography.TomographyPlan | None,
) -> Finish | None:
    """What makes the result, with the extrapolation to no noise around it where that is wanted."""
    zero_noise = stages(listed(description.mitigation)).zero_noise
    if zero_noise is None:
        return finish
    if not isinstance(planned, expectation.ExpectationPlan) or finish is None:
        raise description.wrong("mitigation", "'zne' only with observables: it extrapolates their values")
    return functools.partial(without_noise, zero_noise, planned.constants, planned.norms, finish)


def _parts(wanted: _Wanted, circuits: Sequence[QuantumCircuit], way: _Way) -> list[Part]:
    """The work in parts; what makes the result is still missing among their arguments."""
    sets = 1 if wanted.values is None else len(wanted.values)
    seeds = tuple(draw_seeds(wanted.description.seed, len(circuits) * sets))
    parts, first = [], 0
    if wanted.values is None:
        for first in range(0, len(circuits), way.per_part):
            part = slice(first, first + way.per_part)
            packed = pack(circuits[part])
            parts.append(Part(function=way.function, args=(packed, seeds[part]), weight=sum(way.seconds[part])))
        return parts
    for chunk in _chunks(wanted.values, sum(way.seconds)):
        last = first + len(chunk) * len(circuits)
        weight = sum(way.seconds) * len(chunk)
        parts.append(Part(function=way.function, args=(chunk, seeds[first:last]), weight=weight))
        first = last
    return parts


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


def _facts(wanted: _Wanted, where: _Where, circuits: Sequence[QuantumCircuit], offer: Offer) -> CircuitFacts:
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
        fidelities=tuple(
            (name, _fidelity(circuits[0], info, description.optimization_level))
            for name, info in offer.devices.items()
            if (name in where.devices or ANY_QPU in where.devices)
            and info is not None
            and info.calibration is not None
            and info.qubits >= circuit.num_qubits
        ),
    )


def _fidelity(circuit: QuantumCircuit, info: QPUInfo, level: int) -> float | None:
    """What the device is expected to give for the circuit, compiled as its worker compiles it."""
    lasting = msgspec.structs.replace(info, asked=None, accepts_jobs=None, expected_wait=None, problem="")
    compiler = _compiler(lasting)
    return expected_fidelity(compiler.compile(circuit, level), compiler.target)


@dataclass(frozen=True)
class _Reported:
    """A device as it said what it is."""

    name: str
    its: QPUInfo

    def info(self) -> QPUInfo:
        return self.its

    def target(self) -> Target:
        from pilot.quantum.faces.targets import target_of  # the primitives import this module

        return target_of(self.its)


@functools.lru_cache(maxsize=16)
def _compiler(info: QPUInfo) -> Compiler:
    return Compiler(_Reported(info.name, info))
