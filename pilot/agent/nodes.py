"""The nodes of a pilot as its agent sees them: which have joined, what is free on each, where MPI ranks go."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from pilot.agent.gpus import lacks_gpus
from pilot.resources import ROUNDING, Node, Resources
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.server import Server

log = logging.getLogger(__name__)

#: A node whose process sends nothing for this number of seconds, or cannot be reached by this number of heartbeats in
#: a row, is gone.
NODE_SILENT_SECONDS = 20.0
NODE_UNREACHED = 3


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
        self.ready = False
        #: It is given back when nothing runs there.
        self.leaving = False
        #: It got the engine's address.
        self.invited = False
        #: Its workers of the slots' shape; how many in a row ended before they had connected.
        self.slots = 0
        self.failed_starts = 0
        self.heard = time.monotonic()
        #: Heartbeats in a row that could not be sent to it.
        self.unreached = 0

    def has_room(self, needs: Resources) -> bool:
        """True when the cores and the memory of one process are free."""
        return needs.num_cpus <= self.cores + ROUNDING and needs.memory <= self.memory

    def take(self, needs: Resources, processes: int = 1) -> None:
        """Set aside what this number of processes needs; a negative number gives it back."""
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
            self.gpus[index] = used if used > ROUNDING else 0.0  # sums of fractions are not exact

    def pick_rank_gpus(self, wanted: float, ranks: int) -> list[dict[int, float]]:
        """What `pick_gpus` finds for each of this number of ranks, for which there must be room."""
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


class Nodes:
    """The nodes that have joined, and the connections to their processes. For the agent's thread."""

    def __init__(self, home: Node, server: Server, gpus: int, on_broken: Callable[[str], None]) -> None:
        """Make it.

        Args:
            home: the agent's own node.
            server: where the other nodes' processes connect to.
            gpus: that each node must have.
            on_broken: called when a node lacks what each node of the pilot must have.
        """
        self._server = server
        self._gpus = gpus
        self._on_broken = on_broken
        self.home = Place(home, None, server.near or server.address.replace("//0.0.0.0:", "//127.0.0.1:"))
        self._places = {home.name: self.home}
        #: Counts how often a node became ready, was released or was lost.
        self.changes = 0

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places.values())

    def get(self, name: str) -> Place | None:
        """The node of this name; None when it has never joined, or is gone."""
        return self._places.get(name)

    def ready(self) -> list[Place]:
        """The nodes where workers can run now."""
        return [place for place in self._places.values() if place.ready]

    def facts(self) -> list[Node]:
        """What the pilot may use of each of them."""
        return [place.node for place in self._places.values() if place.ready]

    def for_ranks(self) -> list[Place]:
        """Those of them where ranks of MPI tasks can run: nodes that were added later are of another job."""
        return [place for place in self._places.values() if place.ready and not place.node.job]

    def has_room(self, needs: Resources) -> bool:
        """True when there is a node with free cores and memory for one process."""
        return any(place.ready and place.has_room(needs) for place in self._places.values())

    def pick_rank_gpus(self, wanted: float, hosts: Mapping[str, int]) -> dict[str, list[dict[int, float]]]:
        """Node → the GPUs of each of its ranks, for which there must be room."""
        return {name: self._places[name].pick_rank_gpus(wanted, ranks) for name, ranks in hosts.items()}

    def gpu_names(self, rank_gpus: Mapping[str, list[dict[int, float]]]) -> dict[str, list[str]]:
        """Node → the names of its ranks' GPUs; empty when they have none."""
        names = {
            name: [self._places[name].node.gpus[index] for gpus in ranks for index in gpus]
            for name, ranks in rank_gpus.items()
        }
        return names if any(names.values()) else {}

    def received(self, peer: bytes, message: messages.Message) -> Place | None:
        """Take in what a node's process sends before it has joined, and what is about the node alone; the node, when
        it has joined before."""
        place = next((one for one in self._places.values() if one.peer == peer), None)
        if isinstance(message, messages.Hello) and message.versions != versions():
            reason = f"it runs Python and quantum-pilot {message.versions}, the agent {versions()}"
            log.warning("node %s is refused: %s", message.host, reason)
            self._server.send(peer, messages.Refused(reason))
        elif isinstance(message, messages.JoinNode):
            self._join(peer, message)
        elif place is not None:
            place.heard = time.monotonic()
            if isinstance(message, messages.NodeReady):
                place.ready = True
                self.changes += 1
                log.info("node %s (%s) is up: %d cores", place.name, place.node.host, place.node.cores)
        return place

    def _join(self, peer: bytes, message: messages.JoinNode) -> None:
        node = message.node
        if node.name in self._places:
            self._server.send(peer, messages.Refused(f"this pilot has a node {node.name} already"))
        elif (lacking := lacks_gpus(node, self._gpus)) is not None:
            log.warning("node %s is refused: %s", node.name, lacking)
            self._server.send(peer, messages.Refused(lacking))
            if not node.job:
                self._on_broken(f"its {lacking}")
        else:
            self._places[node.name] = Place(node, peer, message.address)

    def invite(self, client: Callable[[], dict[str, str]]) -> None:
        """Have new nodes join the engine's cluster, whose ``client`` this is."""
        for place in self._places.values():
            if place.peer is not None and not place.invited:
                place.invited = self._server.send(place.peer, messages.EnterCluster(client()))

    def release(self, count: int) -> None:
        """Start no more work on this number of nodes, those that joined last first; each is to be removed when it has
        finished what it runs."""
        for place in [place for place in self.ready() if place.peer is not None][-count:]:
            place.ready = False
            place.leaving = True
            self.changes += 1

    def remove(self, place: Place, reason: str) -> None:
        """A node is gone or is given back; its process ends, if it still runs."""
        log.warning("node %s %s", place.name, reason)
        del self._places[place.name]
        self.changes += 1
        self._server.send(place.peer, messages.Stop())  # type: ignore[arg-type]

    def beat(self, now: float) -> list[Place]:
        """Send a heartbeat to each node; the nodes that are gone."""
        lost = []
        for place in self._places.values():
            if place.peer is None:
                continue
            reached = self._server.send(place.peer, messages.Heartbeat())
            place.unreached = 0 if reached else place.unreached + 1
            if place.unreached >= NODE_UNREACHED or now - place.heard > NODE_SILENT_SECONDS:
                lost.append(place)
        return lost

    def stop(self) -> None:
        """End the processes of all nodes."""
        for place in self._places.values():
            if place.peer is not None:
                self._server.send(place.peer, messages.Stop())


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
