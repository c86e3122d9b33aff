"""The kind of task "qos": what a description with ``qos`` becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pilot.descriptions.qos import QosOptions
from pilot.errors import DescriptionError, QPUError
from pilot.interfaces import Offer, Part, Prepared
from pilot.interfaces.qpus import measures
from pilot.qos.asking import ask
from pilot.qos.mitigator.goals import Goal
from pilot.qos.mitigator.mitigator import Choice, Mitigator
from pilot.qos.mitigator.running import Combination, calls_of, maps_of
from pilot.quantum import needs
from pilot.quantum.execution import DeviceRun
from pilot.quantum.mitigation import stages
from pilot.quantum.observables import are_given
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.packing import pack
from pilot.quantum.requests import Request
from pilot.quantum.tasks import Sample
from pilot.resources import ANY_QPU

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qiskit import QuantumCircuit

    from pilot.descriptions import TaskDescription
    from pilot.resources import QPUInfo

#: Fields of a description that say something else of its errors.
_OTHERS = {"mitigation": (), "noise_model": None, "tomography": False}


def prepare(description: TaskDescription, offer: Offer) -> Prepared:
    """The tasks that make up one with ``qos``. The decision is made here, and takes some tenths of a second.

    Args:
        description: with its ``circuit`` and ``qos``.
        offer: what the pilots have.

    Raises:
        DescriptionError: the circuit cannot be read, or fields do not go together.
        QPUError: no device can run the circuit.
        PluginError: a stage failed.
    """
    options = QosOptions() if description.qos is None else description.qos
    for field, default in _OTHERS.items():
        value = getattr(description, field)
        if value is not default and (field != "mitigation" or len(value)):
            raise description.wrong(field, "nothing with qos: name stages in QosOptions.stages")
    request = Request.of(description, offer)
    if not request.devices or description.shots is None:
        raise description.wrong("qos", "a device and a number of shots: without noise there is nothing to mitigate")
    if not request.single:
        raise description.wrong("parameters", "one set of values with qos")
    circuit = request.circuit
    if request.values is not None:
        circuit = circuit.assign_parameters(request.values[0].tolist())
    if not are_given(description.observables) and not measures(circuit):
        raise DescriptionError(
            f"TaskDescription.circuit: circuit {circuit.name!r} measures nothing: add circuit.measure_all(), or give "
            "observables",
            field="circuit",
        )
    infos = _infos(request.devices, offer)
    choice = choose(infos, options, description, circuit)
    return _prepared(choice, description, request)


def choose(
    infos: Sequence[QPUInfo], options: QosOptions, description: TaskDescription, circuit: QuantumCircuit
) -> Choice:
    """The best variant on the device that is predicted to run the circuit as it is with the fewest errors; where that
    device can run no variant, on the next one; where none can, the circuit as it is, if the description has a fallback.

    Raises:
        QPUError: no device can run the circuit.
    """
    assert description.shots is not None
    mitigators = [Mitigator(info, options, description.optimization_level) for info in infos]
    if len(mitigators) > 1:
        mitigators.sort(key=lambda one: one.forecaster.errors(circuit))
    problem: QPUError | None = None
    for mitigator in mitigators:
        try:
            return mitigator.choose(circuit, description.shots, description.observables)
        except QPUError as error:
            problem = problem or error
    assert problem is not None
    if description.fallback is None:
        raise problem
    goal = Goal.of(circuit, description.observables, options)
    return Choice(goal=goal, variant=goal.base(), shots=description.shots, considered=(), reason=str(problem))


def _infos(devices: Iterable[str], offer: Offer) -> list[QPUInfo]:
    """What is known of the devices; those that have not reported are asked here."""
    names = [name for given in devices for name in (offer.devices if given == ANY_QPU else (given,))]
    if not names:
        raise DescriptionError(
            "TaskDescription.qpu: no pilot has a device, so its noise is not known: name one of the pilots' qpus",
            field="qpu",
        )
    return [offer.devices.get(name) or ask(name) for name in dict.fromkeys(names)]


def _prepared(choice: Choice, description: TaskDescription, request: Request) -> Prepared:
    calls, variant = calls_of(choice), choice.variant
    seeds = draw_seeds(description.seed, len(variant.circuits))
    parts, seconds = [], []
    for call in calls:
        circuits = [variant.circuits[place] for place in call.places]
        its = [needs.on_devices(one, shots, request.devices) for one, shots in zip(circuits, call.shots, strict=True)]
        seconds += its
        function = DeviceRun(
            shots=call.shots,
            level=description.optimization_level,
            stages=variant.mitigation,
            min_fidelity=description.min_fidelity or 0.0,
            bundler=None if stages(variant.mitigation).zero_noise is not None else request.bundler,
        )
        args = (pack(circuits), tuple(seeds[place] for place in call.places), None)
        parts.append(Part(function=function, args=args, weight=sum(one.seconds for one in its)))
    maps = maps_of(variant, calls)
    widest = max(variant.circuits, key=lambda one: one.num_qubits)
    return Prepared(
        name=request.circuit.name,
        parts=tuple(parts),
        combine=Part(function=Combination.of(choice, calls, mapped=bool(maps)), args=()),
        maps=maps,
        resources=seconds[0].resources,
        others=seconds[0].others,
        facts=msgspec.structs.replace(needs.facts_of(widest, description), qubits=widest.num_qubits),
        sample=Sample(widest, None) if request.is_estimated else None,
    )
