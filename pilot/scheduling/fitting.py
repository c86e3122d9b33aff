"""Whether a pilot can ever run a task, and why not: `misfit` for one pilot, `unservable` for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from pilot.descriptions import PilotDescription
from pilot.resources import ANY_QPU, Capacity, CircuitFacts, Node, Option, QPUInfo, Resources, Terms, shortage


def described(
    description: PilotDescription, memory: int, names: tuple[str, ...], name: str, devices: Sequence[str] = ()
) -> Capacity:
    """What a pilot with this description will have; ``memory``: bytes of each node; ``devices``: those of its QPUs that
    one task at a time uses."""
    node = Node("", "", description.cores, [""] * description.gpus_per_node, memory)
    nodes = [node] * description.number_of_nodes
    return Capacity(
        names,
        name,
        tuple(description.labels),
        nodes,
        description.seconds,
        qpus=dict.fromkeys(devices),
        simulators=tuple(name for name in description.qpus if name not in devices),
    )


def is_meant(terms: Terms, names: Sequence[str], labels: Sequence[str]) -> bool:
    """True when a pilot with these names and labels is among those that the task asks for."""
    return (not terms.pilots or any(name in terms.pilots for name in names)) and set(terms.labels) <= set(labels)


def misfit(terms: Terms, pilot: Capacity) -> str | None:
    """Why this pilot can never run such a task; None when it can."""
    if pilot.over is not None:
        return f"{pilot.name} is {pilot.over}"
    if terms.pilots and not any(name in terms.pilots for name in pilot.names):
        return f"{pilot.name} is not among the requested pilots ({', '.join(terms.pilots)})"
    if terms.labels:
        missing = [label for label in terms.labels if label not in pilot.labels]
        if missing:
            return f"{pilot.name} lacks the label {missing[0]!r} (it has: {', '.join(pilot.labels) or 'none'})"
    if terms.simulator and terms.simulator not in pilot.simulators:
        return f"{pilot.name} has no QPU {terms.simulator!r} (it has: {', '.join(pilot.simulators) or 'none'})"
    reasons = []
    for option in terms.options() if terms.others else (terms.resources,):
        resources = option.resources if isinstance(option, Option) else option
        if (reason := _unfit(resources, terms, pilot)) is None:
            break
        reasons.append(reason)
    else:
        return " and ".join(reasons)
    if terms.duration is not None and pilot.seconds is not None and pilot.seconds < terms.duration:
        left = max(0.0, math.floor(10 * pilot.seconds) / 10)  # rounded up it could be as much as is needed
        return f"{pilot.name} has {left:.10g} s of walltime left, but {terms.duration:.10g} s are needed"
    return None


def _unfit(resources: Resources, terms: Terms, pilot: Capacity) -> str | None:
    """Why this pilot cannot run such a task with these resources."""
    if not resources.qpu:
        return shortage(resources, pilot)
    names = list(pilot.qpus) if resources.qpu == ANY_QPU else [resources.qpu]
    reasons = []
    for name in names:
        if (reason := _unfit_device(name, terms, pilot)) is None:
            return None
        reasons.append(reason)
    return " and ".join(reasons) or f"{pilot.name} has no QPU that is a device, such as fake:kolkata"


def _unfit_device(name: str, terms: Terms, pilot: Capacity) -> str | None:
    if name not in pilot.qpus:
        return f"{pilot.name} has no device {name!r} (it has: {', '.join(pilot.qpus) or 'none'})"
    info, facts = pilot.qpus[name], terms.facts
    if info is None or facts is None:
        return None
    if info.problem and not info.qubits:
        return f"{name} of {pilot.name} cannot be used: {info.problem}"
    if facts.qubits > info.qubits:
        return f"{name} of {pilot.name} has {info.qubits} qubits, but {facts.qubits} are needed"
    if info.max_shots is not None and facts.shots > info.max_shots:
        return f"{name} of {pilot.name} takes at most {info.max_shots} shots, but {facts.shots} are needed"
    if facts.unable and (why := dict(facts.unable).get(name)):
        return f"{name} of {pilot.name} cannot run it: {why}"
    compiled = dict(facts.fidelities)
    if terms.min_fidelity and (name in compiled or info.calibration is None):
        fidelity = compiled[name] if name in compiled else expected_fidelity(facts, info)
        if fidelity is None:
            return f"{name} of {pilot.name} reports no errors, but a fidelity of {terms.min_fidelity:g} is needed"
        if fidelity < terms.min_fidelity:
            return (
                f"{name} of {pilot.name} has a fidelity of about {fidelity:.3f}, but {terms.min_fidelity:g} is needed"
            )
    return None


def expected_fidelity(facts: CircuitFacts, info: QPUInfo) -> float | None:
    """The product of the success probabilities of all gates and measurements, by the medians of the device's
    calibration; None when it has none.

    For devices that report medians only; others are judged by the compiled circuit (`CircuitFacts.fidelities`), by
    their worker where they had not reported yet. Before the circuit is compiled: where only neighbours interact, each
    gate on two qubits is taken to need a third of a swap (three gates) more on average.
    """
    if info.error_2q is None and info.error_readout is None:
        return 1.0 if info.simulator else None
    gates_2q = facts.gates_2q * (2.0 if info.coupling is not None and facts.qubits > 2 else 1.0)
    fidelity = (1 - (info.error_1q or 0.0)) ** facts.gates_1q * (1 - (info.error_2q or 0.0)) ** gates_2q
    return float(fidelity * (1 - (info.error_readout or 0.0)) ** facts.measurements)


@lru_cache(maxsize=10_000)
def _on(qpu: str, option: Option) -> Option:
    """An option for any device, on this one: the same object for all tasks that have it."""
    return Option(msgspec.structs.replace(option.resources, qpu=qpu), option.slowness)


def concrete(terms: Terms, pilot: Capacity) -> list[Option]:
    """What such a task can run with on a suitable pilot: "*" stands for each device that can run it."""
    if not terms.others and not terms.resources.qpu:
        return [Option(terms.resources)]
    found = []
    for option in terms.options():
        if option.resources.qpu == ANY_QPU:
            found += [_on(name, option) for name in pilot.qpus if _unfit_device(name, terms, pilot) is None]
        elif _unfit(option.resources, terms, pilot) is None:
            found.append(option)
    return found


def unservable(terms: Terms, pilots: Iterable[Capacity]) -> str | None:
    """Why none of these pilots can ever run such a task, of those that it asks for where it names some that are there;
    None when one can."""
    reasons, asked_for = [], []
    for pilot in pilots:
        reason = misfit(terms, pilot)
        if reason is None:
            return None
        reasons.append(reason)
        if any(name in terms.pilots for name in pilot.names):
            asked_for.append(reason)
    return "; ".join(asked_for or reasons) or "there is no pilot yet: call submit_pilot first"
