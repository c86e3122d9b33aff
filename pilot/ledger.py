"""What the controller knows of each function, task and pilot. It alone writes here; no decision is taken here."""

from __future__ import annotations

import msgspec

from pilot.descriptions import PilotDescription, Resources, Terms
from pilot.interfaces import Candidate
from pilot.messages import Node
from pilot.results import Attempt, Value
from pilot.routing import Capacity
from pilot.states import PilotState, TaskState, is_final

#: Batches that take longer than this are not sent ahead: one a slot. Of shorter ones a slot has three: one runs, one
#: waits in the worker, one with the agent.
PREFETCH_BELOW_SECONDS = 0.25
PREFETCH_DEPTH = 3
#: Weight of the newest batch in the mean time of a function or the slowness of a pilot.
NEWEST = 0.3
#: Sums of fractions of a core are this exact.
ROUNDING = 1e-9


class Function:
    """A function as the controller sees it: its digest and how long it takes."""

    __slots__ = ("digest", "id", "name", "seconds")

    def __init__(self, id: int, digest: str, name: str) -> None:
        self.id = id
        self.digest = digest
        self.name = name
        #: Mean seconds of a call on a pilot of slowness 1; None until measured.
        self.seconds: float | None = None

    def measured(self, seconds: float) -> None:
        """Take in the mean of a batch."""
        self.seconds = seconds if self.seconds is None else self.seconds + NEWEST * (seconds - self.seconds)


class Entry(msgspec.Struct, gc=False, eq=False):
    """A task as the controller sees it. Lives on behind the user's handle, without its payload, for the record.

    It is no part of any cycle, and the garbage collector need not look at it: with 200,000 tasks that takes a third of
    the time.
    """

    id: int
    function: Function
    payload: Value
    terms: Terms
    name: str | None
    submitted: float
    #: Task id → True when its result is among the arguments, False when only its end is waited for.
    needs: dict[int, bool] | None = None
    state: TaskState = TaskState.QUEUED
    pilot: str | None = None
    worker: str | None = None
    batch: int = 0
    bound: float = 0.0
    #: Why it went to its pilot, in words.
    reason: str = ""
    attempts: tuple[Attempt, ...] = ()
    #: How often it was tried again after it had raised.
    retries: int = 0
    #: Attempts lost; and of these, how often its worker died while it had nothing else.
    losses: int = 0
    deaths: int = 0
    #: Its last worker died: it runs alone next.
    suspect: bool = False
    cancelling: bool = False
    #: Tasks that it still waits for; the results that it needs, as they come.
    blockers: set[int] | None = None
    values: dict[int, Value] | None = None


class Sent:
    """A batch on its way."""

    __slots__ = ("entries", "expected", "resources")

    def __init__(self, entries: dict[int, Entry], resources: Resources, expected: float) -> None:
        self.entries = entries
        self.resources = resources
        self.expected = expected


class PilotLedger:
    """A pilot as the controller sees it."""

    def __init__(self, id: str, description: PilotDescription, memory: int) -> None:
        self.id = id
        self.description = description
        self.name = description.name or id
        self.state = PilotState.NEW
        node = Node("", "", description.cores, [""] * description.gpus_per_node, memory)
        self.set_nodes([node] * description.number_of_nodes)
        self.restarts = description.restarts
        self.sent: dict[int, Sent] = {}
        self.used_cores = 0.0
        self.used_gpus = 0.0
        self.expected = 0.0
        self.slowness = 1.0
        self.stopping = False
        self.rejoins = False
        self.ends_at: float | None = None
        self.finished = 0

    def set_nodes(self, nodes: list[Node]) -> None:
        """What it has: as described at first, then as its agent says."""
        self.nodes = nodes
        self.cores = sum(node.cores for node in nodes)
        self.gpus = sum(len(node.gpus) for node in nodes)

    def capacity(self, now: float) -> Capacity:
        node = self.description
        seconds = None if node.walltime is None else node.walltime.total_seconds()  # type: ignore[union-attr]
        if self.ends_at is not None:
            seconds = self.ends_at - now
        over = self.state.value if self.stopping or is_final(self.state) else None
        return Capacity(
            self.id, self.name, node.labels, node.cores, node.gpus_per_node, self.nodes[0].memory, seconds, over
        )

    def has_credit(self, needs: Resources, seconds: float | None) -> bool:
        """True when a batch that takes so long may be sent now: to a free slot, or (when short) one ahead of it."""
        depth = PREFETCH_DEPTH if seconds is not None and seconds < PREFETCH_BELOW_SECONDS else 1
        if needs.num_gpus and self.used_gpus + needs.num_gpus > self.gpus * depth + ROUNDING:
            return False
        return self.used_cores + needs.num_cpus <= self.cores * depth + ROUNDING

    def waits_for_gpu(self, needs: Resources) -> bool:
        """True when it is a GPU that such a batch has to wait for."""
        return needs.num_gpus > 0 and self.used_gpus + needs.num_gpus > self.gpus + ROUNDING

    def put(self, batch: int, sent: Sent) -> None:
        self.sent[batch] = sent
        self.used_cores += sent.resources.num_cpus
        self.used_gpus += sent.resources.num_gpus
        self.expected += sent.expected

    def take(self, batch: int) -> Sent | None:
        sent = self.sent.pop(batch, None)
        if sent is not None:
            self.used_cores -= sent.resources.num_cpus
            self.used_gpus -= sent.resources.num_gpus
            self.expected -= sent.expected
            if not self.sent:  # sums of fractions leave crumbs
                self.used_cores = self.used_gpus = self.expected = 0.0
        return sent

    def candidate(self) -> Candidate:
        wait = self.expected / self.cores
        free = self.cores - self.used_cores
        return Candidate(
            id=self.id,
            name=self.name,
            cores=self.cores,
            free_cores=free,
            expected_wait=wait,
            slowness=self.slowness,
        )
