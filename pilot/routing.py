"""Which pilot gets a task, and the reason in words.

Whether a pilot *fits* is a fact (`misfit`, and `unservable` for all of them); which one of those with room is
*chosen* is a policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from pilot.descriptions import PilotDescription, Resources, Terms
from pilot.interfaces import Candidate, Policy
from pilot.messages import Node

#: Sums of fractions of a core are this exact.
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


def described(description: PilotDescription, memory: int, names: tuple[str, ...], name: str) -> Capacity:
    """What a pilot with this description will have; ``memory``: bytes of each node."""
    node = Node("", "", description.cores, [""] * description.gpus_per_node, memory)
    nodes = [node] * description.number_of_nodes
    walltime = description.walltime
    seconds = walltime.total_seconds() if isinstance(walltime, timedelta) else None
    return Capacity(names, name, description.labels, nodes, seconds)


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
    if (reason := shortage(terms.resources, pilot)) is not None:
        return reason
    if terms.walltime is not None and pilot.seconds is not None and pilot.seconds < terms.walltime:
        return f"{pilot.name} has {pilot.seconds:.0f} s of walltime left, {terms.walltime:g} s are needed"
    return None


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
        """The least expected wait; between equals the faster pilot, then the one with more free cores."""
        best = min(candidates, key=lambda one: (one.expected_wait, one.slowness, -one.free_cores))
        if len(candidates) == 1:
            return best, f"{best.name} is the only pilot that fits and has room"
        waits = ", ".join(f"{one.name} {one.expected_wait:.3f} s" for one in candidates)
        return best, f"{best.name} has the least expected wait of the pilots with room ({waits})"
