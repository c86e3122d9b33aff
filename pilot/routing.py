"""Which pilot gets a task, and the reason in words.

Whether a pilot *fits* is a fact (`misfit`, and `unservable` for all of them); which one of those with room is
*chosen* is a policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from pilot.descriptions import ANY_QPU, CircuitFacts, Option, PilotDescription, Resources, Terms
from pilot.interfaces import Candidate, Policy, QPUInfo
from pilot.messages import Node

#: Sums of fractions of a core or GPU are this exact.
ROUNDING = 1e-9


class Capacity(NamedTuple):
    """What a pilot has in all."""

    #: Its id and name, and those of the pilots that it takes over from.
    names: tuple[str, ...]
    #: What people call it.
    name: str
    labels: tuple[str, ...]
    nodes: Sequence[Node]
    #: Seconds of walltime left; None: no end is known.
    seconds: float | None
    #: Its state, when that means that it takes nothing any more.
    over: str | None = None
    #: Its devices by name, and what they say of themselves; None: nothing yet.
    qpus: Mapping[str, QPUInfo | None] = MappingProxyType({})
    #: Its simulators, by name.
    simulators: tuple[str, ...] = ()


def described(
    description: PilotDescription, memory: int, names: tuple[str, ...], name: str, devices: Sequence[str] = ()
) -> Capacity:
    """What a pilot with this description will have; ``memory``: bytes of each node; ``devices``: those of its QPUs that
    one task at a time has."""
    node = Node("", "", description.cores, [""] * description.gpus_per_node, memory)
    nodes = [node] * description.number_of_nodes
    walltime = description.walltime
    seconds = walltime.total_seconds() if isinstance(walltime, timedelta) else None
    return Capacity(
        names,
        name,
        description.labels,
        nodes,
        seconds,
        qpus=dict.fromkeys(devices),
        simulators=tuple(name for name in description.qpus if name not in devices),
    )


def is_meant(terms: Terms, names: Sequence[str], labels: Sequence[str]) -> bool:
    """True when the task does not ask for other pilots than one of these names and labels."""
    return (not terms.pilots or any(name in terms.pilots for name in names)) and set(terms.labels) <= set(labels)


def misfit(terms: Terms, pilot: Capacity) -> str | None:
    """Why this pilot can never serve such a task; None when it can."""
    if pilot.over is not None:
        return f"{pilot.name} is {pilot.over}"
    if terms.pilots and not any(name in terms.pilots for name in pilot.names):
        return f"{pilot.name} is not among the pilots asked for ({', '.join(terms.pilots)})"
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
    if terms.walltime is not None and pilot.seconds is not None and pilot.seconds < terms.walltime:
        left = max(0.0, math.floor(10 * pilot.seconds) / 10)  # rounded up it could be as much as is needed
        return f"{pilot.name} has {left:.10g} s of walltime left, {terms.walltime:.10g} s are needed"
    return None


def _unfit(resources: Resources, terms: Terms, pilot: Capacity) -> str | None:
    """Why this pilot cannot serve such a task with these resources."""
    if not resources.qpu:
        return shortage(resources, pilot)
    names = list(pilot.qpus) if resources.qpu == ANY_QPU else [resources.qpu]
    reasons = []
    for name in names:
        if (reason := _unfit_device(name, terms, pilot)) is None:
            return None
        reasons.append(reason)
    return " and ".join(reasons) or f"{pilot.name} has no devices"


def _unfit_device(name: str, terms: Terms, pilot: Capacity) -> str | None:
    if name not in pilot.qpus:
        return f"{pilot.name} has no device {name!r} (it has: {', '.join(pilot.qpus) or 'none'})"
    info, facts = pilot.qpus[name], terms.facts
    if info is None or facts is None:
        return None
    if info.problem and not info.qubits:
        return f"{name} of {pilot.name} cannot be used: {info.problem}"
    if facts.qubits > info.qubits:
        return f"{name} of {pilot.name} has {info.qubits} qubits, {facts.qubits} are needed"
    if info.max_shots is not None and facts.shots > info.max_shots:
        return f"{name} of {pilot.name} takes at most {info.max_shots} shots, {facts.shots} are asked for"
    compiled = dict(facts.fidelities)
    if terms.min_fidelity and (name in compiled or info.calibration is None):
        fidelity = compiled[name] if name in compiled else expected_fidelity(facts, info)
        if fidelity is None:
            return f"{name} of {pilot.name} says nothing of its errors, a fidelity of {terms.min_fidelity:g} is wanted"
        if fidelity < terms.min_fidelity:
            return f"{name} of {pilot.name} gives a fidelity of about {fidelity:.3f}, {terms.min_fidelity:g} is wanted"
    return None


def expected_fidelity(facts: CircuitFacts, info: QPUInfo) -> float | None:
    """The product of the success probabilities of all gates and measurements, by the medians of the device's
    calibration; None when it tells none.

    For devices that tell no more than that; others are judged by the compiled circuit (`CircuitFacts.fidelities`), by
    their worker where they had not reported yet. Before the circuit is compiled: where only neighbours interact, each
    gate on two qubits is taken to need a third of a swap (three gates) more on average.
    """
    if info.error_2q is None and info.error_readout is None:
        return 1.0 if info.simulator else None
    gates_2q = facts.gates_2q * (2.0 if info.coupling is not None and facts.qubits > 2 else 1.0)
    fidelity = (1 - (info.error_1q or 0.0)) ** facts.gates_1q * (1 - (info.error_2q or 0.0)) ** gates_2q
    return float(fidelity * (1 - (info.error_readout or 0.0)) ** facts.measurements)


def concrete(terms: Terms, pilot: Capacity) -> list[Option]:
    """What such a task can run with on a pilot that fits: "*" stands for each device that can run it."""
    if not terms.others and not terms.resources.qpu:
        return [Option(terms.resources)]
    found = []
    for option in terms.options():
        if option.resources.qpu == ANY_QPU:
            found += [
                Option(msgspec.structs.replace(option.resources, qpu=name), option.slowness)
                for name in pilot.qpus
                if _unfit_device(name, terms, pilot) is None
            ]
        elif _unfit(option.resources, terms, pilot) is None:
            found.append(option)
    return found


def shortage(needs: Resources, pilot: Capacity) -> str | None:
    """What this pilot has too little of, even when nothing else runs there; None when it has enough."""
    return _too_few_ranks(needs, pilot) if needs.ranks else _too_small(needs, pilot)


def _too_small(needs: Resources, pilot: Capacity) -> str | None:
    """Why no node has room for an ordinary task, which runs on one."""
    for node in pilot.nodes:
        if needs.num_cpus <= node.cores and needs.num_gpus <= len(node.gpus) and needs.memory <= node.memory:
            return None
    on = f"{pilot.name} has" if len(pilot.nodes) == 1 else f"a node of {pilot.name} has at most"
    for need, have, what in (
        (needs.num_cpus, max((node.cores for node in pilot.nodes), default=0), "cores"),
        (needs.num_gpus, max((len(node.gpus) for node in pilot.nodes), default=0), "GPUs"),
        (needs.memory, max((node.memory for node in pilot.nodes), default=0), "bytes of memory"),
    ):
        if need > have:
            return f"{on} {have} {what}, {need:g} are needed"
    return f"no node of {pilot.name} has the cores, GPUs and memory that are needed together"


def _too_few_ranks(needs: Resources, pilot: Capacity) -> str | None:
    """Why the nodes together have no room for an MPI task."""
    rooms = [ranks_on(node, needs) for node in pilot.nodes]
    if not needs.nodes:
        if sum(rooms) >= needs.ranks:
            return None
        return f"{pilot.name} has room for {sum(rooms)} such ranks, {needs.ranks} are needed"
    each = needs.ranks // needs.nodes
    wide = sum(room >= each for room in rooms)
    if wide >= needs.nodes:
        return None
    return f"{pilot.name} has {wide} nodes with room for {each} such ranks, {needs.nodes} are needed"


def ranks_on(node: Node, needs: Resources) -> int:
    """How many ranks of an MPI task have room on this node when nothing else runs there."""
    if node.job:
        return 0  # a job step cannot reach into another job
    room = int(node.cores / needs.num_cpus + ROUNDING)
    if needs.num_gpus:
        shared = int(1 / needs.num_gpus + ROUNDING)  # ranks with a fraction share one GPU, none has parts of two
        room = min(room, len(node.gpus) * shared if shared else int(len(node.gpus) // needs.num_gpus))
    if needs.memory:
        room = min(room, node.memory // needs.memory)
    return room


def unservable(terms: Terms, pilots: Iterable[Capacity]) -> str | None:
    """Why none of these pilots can ever serve such a task; None when one can."""
    reasons = []
    for pilot in pilots:
        reason = misfit(terms, pilot)
        if reason is None:
            return None
        reasons.append(reason)
    return "; ".join(reasons) or "there is no pilot: call submit_pilot first"


class Balanced(Policy):
    """The pilot on which the work is expected to be finished first, by measured speed."""

    def choose(self, terms: Terms, candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
        """The one that is expected to finish first; between equals the faster pilot, then the one with more free
        cores."""
        best = min(candidates, key=lambda one: (one.expected_wait + one.seconds, one.slowness, -one.free_cores))
        if len(candidates) == 1:
            return best, f"{_called(best)} is the only pilot that fits and has room"
        waits = ", ".join(f"{_called(one)} {one.expected_wait + one.seconds:.3f} s" for one in candidates)
        return best, f"{_called(best)} is expected to finish first of the pilots with room ({waits})"


def _called(candidate: Candidate) -> str:
    """The pilot's name, and what the task would have there where that is not a slot."""
    needs = candidate.option.resources
    if needs.qpu:
        return f"{needs.qpu} of {candidate.name}"
    return f"{candidate.name} ({needs.num_gpus:g} GPUs)" if needs.num_gpus else candidate.name
