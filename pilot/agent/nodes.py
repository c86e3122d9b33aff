"""The nodes of a pilot as its crew sees them: what is free on each, and where an MPI task's ranks go."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pilot.resources import ROUNDING, Node, Resources


class Place:
    """One node. Cores and memory are counted by what runs; a GPU belongs to a worker as long as that lives, or to
    a rank of an MPI task as long as that runs."""

    def __init__(self, node: Node, peer: bytes | None, address: str) -> None:
        """Make it.

        Args:
            node: what the pilot may use of it.
            peer: the node's process at the agent's server; None: the agent's own node.
            address: where its workers reach the agent.
        """
        self.node = node
        self.name = node.name
        self.peer = peer
        self.address = address
        self.cores = float(node.cores)
        self.memory = node.memory
        self.gpus = dict.fromkeys(range(len(node.gpus)), 0.0)
        #: Its part of the engine is up.
        self.entered = False
        #: It is given back when nothing runs there any more.
        self.leaving = False
        #: It was told how to enter the engine's cluster.
        self.invited = False
        #: Its workers of the slots' shape; how many in a row ended before they had reported.
        self.slots = 0
        self.failed_starts = 0
        self.heard = time.monotonic()
        #: Beats in a row that could not be sent to it.
        self.unreached = 0

    def has_room(self, needs: Resources) -> bool:
        """True when the cores and the memory of one process are free."""
        return needs.num_cpus <= self.cores + ROUNDING and needs.memory <= self.memory

    def take(self, needs: Resources, processes: int = 1) -> None:
        """Set aside what so many processes need; a negative number gives it back."""
        self.cores -= needs.num_cpus * processes
        self.memory -= needs.memory * processes

    def pick_gpus(self, wanted: float) -> dict[int, float] | None:
        """GPU index → share of it, for a new worker; None when too little is free. Fractions fill a GPU up first."""
        share = wanted if wanted < 1 else 1.0
        free = sorted((used, index) for index, used in self.gpus.items() if used + share <= 1 + ROUNDING)
        count = int(-(-wanted // 1))
        if len(free) < count:
            return None
        picked = [index for _, index in (reversed(free) if wanted < 1 else free)]
        return dict.fromkeys(picked[:count], share)

    def bind_gpus(self, gpus: dict[int, float], sign: int = 1) -> None:
        """Give these shares to a worker, or (``sign`` -1) take them back."""
        for index, share in gpus.items():
            used = self.gpus[index] + sign * share
            self.gpus[index] = used if used > ROUNDING else 0.0  # sums of fractions leave crumbs

    def pick_rank_gpus(self, wanted: float, ranks: int) -> list[dict[int, float]]:
        """What `pick_gpus` finds for each of so many ranks, for which there must be room."""
        picked: list[dict[int, float]] = []
        for _ in range(ranks):
            gpus = self.pick_gpus(wanted)
            assert gpus is not None, f"{self.name} has no room for {ranks} times {wanted:g} GPUs"
            self.bind_gpus(gpus)
            picked.append(gpus)
        for gpus in picked:
            self.bind_gpus(gpus, -1)
        return picked

    def holds(self, needs: Resources) -> int:
        """How many processes there is room for now."""
        count = (self.cores + ROUNDING) // needs.num_cpus
        if needs.memory:
            count = min(count, self.memory // needs.memory)
        if needs.num_gpus:
            count = min(count, self._gpus_hold(needs.num_gpus))
        return max(0, int(count))

    def _gpus_hold(self, wanted: float) -> int:
        if wanted < 1:
            return sum(int((1 - used) / wanted + ROUNDING) for used in self.gpus.values())
        return int(sum(used <= ROUNDING for used in self.gpus.values()) // wanted)


def spread(places: Iterable[Place], needs: Resources) -> dict[str, int] | None:
    """Where the ranks of an MPI task go: node → ranks, in order; None while there is no room.

    On ``needs.nodes`` nodes the same number each; otherwise on as few nodes as there is room on.
    """
    room = sorted(((place.holds(needs), place.name) for place in places), key=lambda one: -one[0])
    if needs.nodes:
        each = needs.ranks // needs.nodes
        chosen = [name for holds, name in room if holds >= each][: needs.nodes]
        return dict.fromkeys(chosen, each) if len(chosen) == needs.nodes else None
    hosts: dict[str, int] = {}
    missing = needs.ranks
    for holds, name in room:
        if missing and holds:
            hosts[name] = min(holds, missing)
            missing -= hosts[name]
    return None if missing else hosts
