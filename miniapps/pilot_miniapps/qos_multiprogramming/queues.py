"""How much of a device queues of circuits use, by who may share it with whom. Workers run `drain`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit

from pilot.qos.families import FAMILIES, circuit
from pilot.qos.multiprogramming import MultiProgrammer
from pilot.qos.placement import Known, Placement
from pilot.quantum.bundles import Member
from pilot_miniapps.qos_multiprogramming.devices import LEVEL, Snapshot, snapshot

#: What circuits may lose at most where they are taken as they come.
LOSSES = (0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5)
#: Circuits of a bundle at most.
MOST = 4


class Drained(msgspec.Struct, frozen=True):
    """One queue, one way to choose who shares."""

    #: The effective utilisation, over the time of all bundles.
    utilisation: float
    #: What a circuit loses of its success, on average.
    loss: float


def drain(
    name: str, buffer: int, max_loss: float, queues: Sequence[int], length: int, widths: Sequence[int], seed: int
) -> list[dict[str, Drained]]:
    """Run random queues until they are empty; for each queue what each way gives, by its name.

    Args:
        name: of the snapshot.
        buffer, max_loss: as of `MultiProgrammer`.
        queues: their numbers.
        length: circuits of each.
        widths: of which each circuit has one, with one of the nine families.
        seed: of all queues.
    """
    device, found = snapshot(name), []
    placement = device.placement(buffer, 1 - max_loss)
    kinds = [circuit(family, width) for family in FAMILIES for width in widths]
    for number in queues:
        random = np.random.default_rng([seed, number])
        some = [kinds[one] for one in random.integers(len(kinds), size=length)]
        known = [device.known(placement, one) for one in some]
        ways = {"alone": [([at], [1.0]) for at in range(length)]}
        for rank in ("utilisation", "score"):
            wanted = MultiProgrammer(max_loss=max_loss, buffer=buffer, most=MOST, rank=rank)
            ways[rank] = _bundled(device, wanted, some)
        for limit in LOSSES:
            ways[f"first-fit {limit:g}"] = _first_fit(placement, buffer, known, limit)
        found.append({way: _drained(its, known, device.info.qubits) for way, its in ways.items()})
    return found


Bundles = list[tuple[list[int], list[float]]]


def _bundled(device: Snapshot, wanted: MultiProgrammer, some: Sequence[QuantumCircuit]) -> Bundles:
    members = [Member(one, device.compiler.compile(one, LEVEL)) for one in some]
    found = wanted.bundles(members, device.compiler, LEVEL)
    return [(list(one.members), list(one.relative)) for one in found]


def _first_fit(placement: Placement, buffer: int, known: Sequence[Known], limit: float) -> Bundles:
    """Circuits in the order in which they come: each next one that has a place beside those that are placed, which
    stay where they are, as in Das et al. (MICRO 2019), where it loses no more than the limit."""
    near = placement.device.near(buffer)
    left, found = list(range(len(known))), []
    while left:
        chosen = [left.pop(0)]
        taken: NDArray[np.bool_] = known[chosen[0]].layouts.masks[0].copy()
        relative = [_relative(placement, known[chosen[0]], 0)]
        for other in list(left):
            if len(chosen) == MOST:
                break
            its = known[other].layouts
            free = np.flatnonzero(~(its.masks & near[taken].any(axis=0)).any(axis=1))
            if len(free) and (kept := _relative(placement, known[other], int(free[0]))) >= 1 - limit:
                chosen.append(other)
                relative.append(kept)
                taken |= its.masks[free[0]]
                left.remove(other)
        found.append((chosen, relative))
    return found


def _relative(placement: Placement, known: Known, number: int) -> float:
    made = known.layouts.layouts[number].on(placement.device.qubits)
    return min(1.0, placement.success(made) / known.success)


def _drained(bundles: Bundles, known: Sequence[Known], qubits: int) -> Drained:
    programs = [one.program for one in known]
    used = sum(one.duration * one.qubits for one in programs)
    takes = sum(max(programs[at].duration for at in members) for members, _ in bundles)
    losses = [1 - one for _, relative in bundles for one in relative]
    return Drained(used / (qubits * takes), float(np.mean(losses)))


def gain(found: Sequence[dict[str, Drained]], way: str, which: NDArray[np.intp]) -> float:
    """Points of utilisation that a way has more than first-fit where that loses as much, or less and uses more.

    Between two limits of first-fit, utilisation is linear in the loss.

    Args:
        found: by queue.
        way: "utilisation" or "score".
        which: the queues that count, each as often as it is there.
    """

    def mean(name: str) -> tuple[float, float]:
        its = [found[at][name] for at in which]
        return float(np.mean([one.loss for one in its])), float(np.mean([one.utilisation for one in its]))

    loss, mine = mean(way)
    losses, theirs = zip(*sorted(mean(f"first-fit {limit:g}") for limit in LOSSES), strict=True)
    return 100.0 * (mine - float(np.interp(loss, losses, np.maximum.accumulate(theirs))))
