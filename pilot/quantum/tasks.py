"""What the description of a circuit becomes: which workers run it, in how many parts, and what makes the result.

Read next: `requests` (what a description asks for), `needs` (what it takes), `execution` (what the workers run).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Barrier, Delay, Gate

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Offer, Part, Prepared, WorkFunction
from pilot.interfaces.qpus import measures
from pilot.quantum import expectation, needs, tomography
from pilot.quantum.aer import MAX_DEFERRED_QUBITS
from pilot.quantum.aer_simulators import check_known
from pilot.quantum.compilation import tries_for
from pilot.quantum.costs import SimulationFacts
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
from pilot.quantum.joint_simulation import SHORT_SECONDS, JointSimulation
from pilot.quantum.mitigation import listed, stages
from pilot.quantum.needs import Need
from pilot.quantum.noise import NoisySimulation
from pilot.quantum.observables import are_given, operators
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.packing import Packed, pack, unpack
from pilot.quantum.requests import Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Seconds of simulation that make a part, and the parts at most that one task is split into.
PART_SECONDS = 0.1
MAX_PARTS = 256
#: A part of a task for devices has so many circuits at least; devices run parts of many tasks in one job.
MAX_DEVICE_PARTS = 64
#: Circuits with a noise model of the user's own that make a part. The same wherever it runs: a part has one seed.
NOISY_PER_PART = 32


class Sample(NamedTuple):
    """What stands for a task when its circuits are estimated: the first of those that run for it."""

    circuit: QuantumCircuit
    #: Of its free parameters; None: it has none.
    values: NDArray[np.float64] | None
    #: That run for the task in all, each with the shots of its description.
    circuits: int = 1

    def __reduce__(self) -> Any:
        return _sample_of, (pack(self.circuit), self.values, self.circuits)


def _sample_of(program: bytes, values: NDArray[np.float64] | None, circuits: int) -> Sample:
    """A sample that has travelled."""
    (circuit,) = unpack(program)
    return Sample(circuit, values, circuits)


def prepare(description: TaskDescription, offer: Offer) -> Prepared:
    """The tasks that make up one with a circuit.

    Args:
        description: with its ``circuit``.
        offer: what the pilots have.

    Raises:
        DescriptionError: the circuit cannot be read, or fields do not go together.
    """
    request = Request.of(description, offer)
    if description.tomography is not False:
        return _tomography(request, offer)
    if are_given(description.observables):
        return _expectation(request, offer)
    if not measures(request.circuit):
        raise DescriptionError(
            f"TaskDescription.circuit: circuit {request.circuit.name!r} measures nothing: add circuit.measure_all(), "
            "or give observables",
            field="circuit",
        )
    return assemble(request, offer, [request.circuit], only if request.single else None)


def _tomography(request: Request, offer: Offer) -> Prepared:
    if request.values is not None:
        if not request.single:
            raise request.description.wrong("parameters", "one set of values with tomography")
        bound = request.circuit.assign_parameters(request.values[0].tolist())
        request = replace(request, circuit=bound, values=None)
    planned = tomography.plan(request.circuit, request.qubits())
    return assemble(request, offer, planned.circuits, _finish(planned), planned)


def _expectation(request: Request, offer: Offer) -> Prepared:
    description = request.description
    if description.shots is None and not request.simulator:
        return _exact(request, offer, operators(description.observables, request.circuit.num_qubits))
    planned = expectation.plan(request.circuit, description.observables)
    finish = _finish(planned)
    if not planned.circuits:  # multiples of the identity: nothing has to be measured
        number = 1 if request.values is None else len(request.values)
        values = np.tile(planned.constants, (number, 1))
        return Prepared(name=request.circuit.name, parts=(Part(function=exact, args=(request.single, [values])),))
    if not request.single:
        finish = functools.partial(of_sets, finish, len(planned.circuits))
    return assemble(request, offer, planned.circuits, finish, planned)


def _exact(request: Request, offer: Offer, observables: Sequence[Any]) -> Prepared:
    """Expectation values without sampling: sets of values are split, observables are not."""
    program = Packed.of(request.circuit)
    asked = needs.asked_for(request.description)
    need = needs.predicted(request.circuit.name, _facts_of_state(program), None, offer, asked)
    if request.values is None:
        function = ExactValues(single=request.single)
        parts = [Part(function=function, args=(program.payload, observables), weight=need.seconds)]
    else:
        chunks = _chunks(request.values, need.seconds)
        function = ExactValues(program=program.payload, single=request.single if len(chunks) == 1 else None)
        parts = [
            Part(function=function, args=(chunk, observables), weight=need.seconds * len(chunk)) for chunk in chunks
        ]
    return Prepared(
        name=request.circuit.name,
        parts=tuple(parts),
        combine=Part(function=exact, args=(request.single,)) if len(parts) > 1 else None,
        resources=need.resources,
        others=need.others,
        note=need.note,
    )


@functools.lru_cache(maxsize=16)
def _facts_of_state(program: Packed) -> SimulationFacts:
    """What is predicted from; an iteration of a variational loop comes with the circuit of the last one.

    Raises:
        DescriptionError: the simulator cannot give the state at the circuit's end.
    """
    check_known(program.circuit)
    state = without_final_measurements(inlined(program.circuit))
    if not all(isinstance(entry.operation, Gate | Barrier | Delay) for entry in state.data):
        _check_exact(state, "expectation values", keep_qubits=True)
    return needs.simulation_facts(state)


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
    return replace(planned, circuits=()).combine


# ---- parts ----------------------------------------------------------------------------------------------------


class _Method(NamedTuple):
    """How circuits run."""

    #: What workers call.
    function: WorkFunction
    #: One a circuit.
    needs: list[Need]
    #: Circuits of a part, where there are no sets of values.
    per_part: int


def _on_devices(request: Request, circuits: Sequence[QuantumCircuit], program: bytes | None) -> _Method:
    description, shots = request.description, request.description.shots or 1
    if needs.asked_for(description) is not None:
        field = next(one for one in ("num_gpus", "memory", "num_cpus") if getattr(description, one))
        raise description.wrong(field, "nothing for a device: its circuits use no resources of the pilot")
    function = DeviceRun(
        program=program,
        shots=shots,
        level=description.optimization_level,
        stages=listed(description.mitigation),
        tries=tries_for(circuits[0]) if request.is_estimated else 1,
        min_fidelity=description.min_fidelity or 0.0,
        bundler=request.bundler,
    )
    needed = [needs.on_devices(circuit, shots, request.devices) for circuit in circuits]
    return _Method(function, needed, -(-len(circuits) // MAX_DEVICE_PARTS))


def _on_simulators(
    request: Request, circuits: Sequence[QuantumCircuit], program: bytes | None, offer: Offer
) -> _Method:
    shots, asked = request.description.shots, needs.asked_for(request.description)
    if not request.simulator:
        check_known(circuits[0])
    if shots is None and not request.simulator:
        _check_exact(circuits[0], "probabilities")  # the others differ in their last gates
    needed = [needs.simulated(circuit, shots, offer, asked) for circuit in circuits]
    mean = sum(one.seconds for one in needed) / len(needed)
    per_part = max(1, int(PART_SECONDS / mean), -(-len(needed) // MAX_PARTS))
    is_joint = program and not request.simulator and mean < SHORT_SECONDS and request.description.timeout is None
    kind = JointSimulation if is_joint else Simulation
    return _Method(kind(program=program, shots=shots, simulator=request.simulator), needed, per_part)


def _with_noise(request: Request, circuits: Sequence[QuantumCircuit], program: bytes | None) -> _Method:
    description, asked = request.description, needs.asked_for(request.description)
    shots = description.shots or 1
    function = NoisySimulation(program=program, shots=shots, model=request.noise, together=description.seed is None)
    return _Method(function, [needs.with_noise(circuit, shots, asked) for circuit in circuits], NOISY_PER_PART)


def assemble(
    request: Request,
    offer: Offer,
    circuits: Sequence[QuantumCircuit],
    finish: Finish | None,
    planned: expectation.ExpectationPlan | tomography.TomographyPlan | None = None,
) -> Prepared:
    """Tasks for these circuits; with sets of values, for all of them with each set.

    Args:
        request: what is asked for; of several circuits its own is the widest.
        offer: what the pilots have.
        circuits: that are to run.
        finish: makes the result of their outcomes.
        planned: what the circuits measure, where they are made for observables or a state.
    """
    program = None if request.values is None else pack(circuits)
    facts = sample = None
    if request.devices:
        method = _on_devices(request, circuits, program)
        finish = _extrapolated(request.description, finish, planned)
        facts = needs.facts_of(request.circuit, request.description)
        if request.is_estimated:
            sample = _sample(request, circuits)
    elif request.noise:
        method = _with_noise(request, circuits, program)
    else:
        method = _on_simulators(request, circuits, program, offer)
    most = max(method.needs, key=lambda one: one.resources.memory)
    calls = _calls(request, circuits, method)
    whole = len(calls) == 1
    return Prepared(
        name=request.circuit.name,
        parts=tuple(
            Part(function=method.function, args=(*args, finish if whole else None), weight=weight)
            for args, weight in calls
        ),
        combine=None if whole else Part(function=put_together, args=(finish,)),
        resources=most.resources,
        others=most.others,
        simulator=request.simulator,
        facts=facts,
        note=most.note,
        sample=sample,
    )


def _sample(request: Request, circuits: Sequence[QuantumCircuit]) -> Sample:
    zero_noise = stages(listed(request.description.mitigation)).zero_noise
    factors = 1 if zero_noise is None else len(zero_noise.factors)
    if request.values is None:
        return Sample(circuits[0], None, len(circuits) * factors)
    return Sample(circuits[0], request.values[0], len(circuits) * factors * len(request.values))


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
        raise description.wrong("mitigation", "no 'zne' without observables: it extrapolates their values")
    return functools.partial(without_noise, zero_noise, planned.constants, planned.norms, finish)


def _calls(
    request: Request, circuits: Sequence[QuantumCircuit], method: _Method
) -> list[tuple[tuple[Any, ...], float]]:
    """The arguments of each part, but for what makes the result; and its seconds."""
    sets = 1 if request.values is None else len(request.values)
    seconds = [one.seconds for one in method.needs]
    seeds = tuple(draw_seeds(request.description.seed, len(circuits) * sets))
    if request.values is None:
        slices = [slice(first, first + method.per_part) for first in range(0, len(circuits), method.per_part)]
        return [((pack(circuits[part]), seeds[part]), sum(seconds[part])) for part in slices]
    calls, first = [], 0
    for chunk in _chunks(request.values, sum(seconds)):
        last = first + len(chunk) * len(circuits)
        calls.append(((chunk, seeds[first:last]), sum(seconds) * len(chunk)))
        first = last
    return calls


def _chunks(values: NDArray[np.float64], seconds: float) -> list[NDArray[np.float64]]:
    """Sets of values in parts of about `PART_SECONDS`."""
    size = max(1, int(PART_SECONDS / seconds), -(-len(values) // MAX_PARTS))
    return [values[first : first + size] for first in range(0, len(values), size)]
