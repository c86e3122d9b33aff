"""What is known of each pilot, of its QPUs and of its batches. Only scheduling writes here; nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilot.descriptions import PilotDescription
from pilot.interfaces import Candidate
from pilot.resources import ROUNDING, Capacity, Node, Option, QPUInfo, Resources, Terms
from pilot.results import UNAVAILABLE, Outcome
from pilot.scheduling.fitting import described
from pilot.scheduling.records import NEWEST, Loss, TaskRecord
from pilot.states import PilotState, is_final

if TYPE_CHECKING:
    from pilot.scheduling.forecasts import QueueForecast

#: Batches that take longer than this are not sent ahead: one a slot. Of shorter ones a slot has three: one runs, one
#: waits in the worker, one with the agent.
PREFETCH_BELOW_SECONDS = 0.25
PREFETCH_DEPTH = 3
#: Batches that a device has at most: one runs, one waits with the agent.
DEVICE_DEPTH = 2
#: Seconds that a task on a device is taken to run at least.
SHORTEST_SECONDS = 1e-9
#: Seconds of measured work that make a batch.
BATCH_SECONDS = 0.05
#: A worker gives back what it has not begun after this many times the expected time, and at least so many seconds.
GIVE_BACK_FACTOR, GIVE_BACK_SECONDS = 4.0, 0.2
#: A task without an expected duration starts when this many times the mean of its function is left of the pilot's
#: walltime, or when the pilot has almost all of its walltime left.
TAKES_LONGER = 1.5
FRESH = 0.9
#: Bounds of a pilot's slowness.
QUICKEST, SLOWEST = 0.1, 10.0
#: A successor is requested so many times the queue wait of the pilot, and at least so many seconds, before it drains.
QUEUES_LONGER, RENEWAL_SECONDS = 1.5, 30.0


class SentBatch:
    """A batch that was sent and is not over."""

    __slots__ = ("cores", "ends_at", "entries", "expected", "gpus", "lent", "memory", "qpu", "slowness", "weight")

    def __init__(
        self,
        entries: dict[int, TaskRecord],
        resources: Resources,
        expected: float,
        slowness: float = 1.0,
        ends_at: float | None = None,
    ) -> None:
        self.entries = entries
        self.cores = resources.cores
        #: Cores that others have while its task waits for tasks of its own; it has none then.
        self.lent = 0.0
        self.gpus = resources.num_gpus and resources.all_gpus
        self.memory = resources.memory and resources.all_memory
        self.qpu = resources.qpu
        self.weight = sum(entry.weight for entry in entries.values()) if self.qpu else 0.0
        self.expected = expected
        #: How much longer its tasks take with these resources than with their first choice.
        self.slowness = slowness
        #: When it is expected to be over if it began at once; None: not known.
        self.ends_at = ends_at

    def drop(self, outcomes: Iterable[Outcome]) -> bool:
        """These of its tasks are over; True where their QPU takes no jobs now."""
        is_down = False
        for outcome in outcomes:
            self.entries.pop(outcome.task, None)
            is_down = is_down or outcome.status == UNAVAILABLE
        return is_down


class DeviceRecord:
    """A QPU of a pilot."""

    __slots__ = ("batches", "closed", "depth", "expected", "info", "others", "queue", "rate", "weight")

    def __init__(self) -> None:
        #: What it has reported; None: nothing yet.
        self.info: QPUInfo | None = None
        #: Why it takes no jobs now; None: it does.
        self.closed: str | None = "has not reported yet"
        #: Batches that it has at most.
        self.depth = DEVICE_DEPTH
        #: Seconds that a job waits before it runs, as far as it says.
        self.queue = 0.0
        #: Batches that it has, their expected seconds, and the weight of their tasks.
        self.batches = 0
        self.expected = 0.0
        self.weight = 0.0
        #: The queue of all users, where it reports one and a policy wants to know.
        self.others: QueueForecast | None = None
        #: Seconds that it takes for a task of weight 1, its queue not counted; None until measured.
        self.rate: float | None = None

    def reported(self, info: QPUInfo) -> None:
        """It has reported what it is."""
        self.info, self.closed = info, None
        if info.accepts_jobs is False:
            self.closed = f"takes no jobs now{f' ({info.problem})' if info.problem else ''}"
        self.depth = info.queue_depth or DEVICE_DEPTH
        self.queue = info.expected_wait or 0.0

    @property
    def has_room(self) -> bool:
        """True when it takes another batch now."""
        return self.batches < self.depth and self.closed is None

    def measured(self, seconds: float, weight: float) -> None:
        """Tasks of this weight took so long, one wait in the queue included."""
        rate = max(seconds - self.queue, 0.1 * seconds, SHORTEST_SECONDS) / weight
        self.rate = rate if self.rate is None else self.rate + NEWEST * (rate - self.rate)

    def put(self, sent: SentBatch, sign: int = 1) -> None:
        """It gets a batch, or (``sign`` -1) is done with it."""
        self.batches += sign
        self.expected = self.expected + sign * sent.expected if self.batches else 0.0
        self.weight = self.weight + sign * sent.weight if self.batches else 0.0


class PilotRecord:
    """A pilot."""

    def __init__(
        self,
        id: str,
        description: PilotDescription,
        memory: int,
        ancestors: tuple[str, ...] = (),
        now: float = 0.0,
        devices: tuple[str, ...] = (),
    ) -> None:
        self.id = id
        self.description = description
        self.name = description.name or id
        #: The names by which tasks may ask for it: its id, its name, and those of the pilots that it takes over from.
        self.names = (id, self.name, *ancestors)
        self.ancestors = ancestors
        #: The name of its successors, to which each adds a number.
        self.family = ancestors[1] if len(ancestors) > 1 else self.name
        self.state = PilotState.NEW
        #: Why it is in its state.
        self.reason = ""
        #: The resource manager's text about its job, such as why it is pending.
        self.pending = ""
        #: What it has when all its nodes have joined, as described.
        self.described = described(description, memory, self.names, self.name, devices)
        self.devices = {name: DeviceRecord() for name in devices}
        self._length = self.described.seconds
        self._most_nodes = 0
        self._seen(list(self.described.nodes))
        self.restarts = description.restarts
        #: How often the site took its job away.
        self.taken = 0
        self.sent: dict[int, SentBatch] = {}
        self.used_cores = 0.0
        self.used_gpus = 0.0
        self.used_memory = 0
        self.expected = 0.0
        self.slowness = 1.0
        #: Its place in the order in which pilots were requested.
        self.number = 0
        self.finished = 0
        #: It takes no more tasks: the user, an autoscaler or its walltime ends it.
        self.stopping = False
        #: It was told to end: what that means for the tasks that it interrupts.
        self.interrupts: tuple[str, Loss] | None = None
        #: The resource manager has announced its end.
        self.expiring = False
        #: Its agent may still run, from before this manager was attached; what is to be done then.
        self.rejoins = False
        self.drains_then = False
        #: When it must have reported, if only its agent can show that its job exists.
        self.report_by: float | None = None
        #: When its job was submitted, and how long it took until it was active for the first time.
        self.queued_at = now
        self.queue_seconds: float | None = None
        #: When its walltime is over, and how many seconds before that it drains.
        self.ends_at: float | None = None
        self.drain_seconds = description.drain_seconds
        #: A pilot that takes over from it was requested.
        self.succeeded = False
        #: The autoscaler that requested it.
        self.scaler: str | None = None

    # ---- what it has ----------------------------------------------------------------------------------------

    def set_nodes(self, nodes: list[Node]) -> None:
        """The nodes that its agent reports."""
        self._most_nodes = max(self._most_nodes, len(nodes))
        self._seen(nodes)

    def _seen(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.cores = sum(node.cores for node in nodes) or 1
        self.gpus = sum(len(node.gpus) for node in nodes)
        self.memory = sum(node.memory for node in nodes)
        self._capacity = self._now(self._length)

    def set_devices(self, infos: list[QPUInfo]) -> None:
        """The properties that its devices report."""
        for info in infos:
            if info.name in self.devices:
                self.devices[info.name].reported(info)
        self._capacity = self._now(self._length)

    def _now(self, seconds: float | None, over: str | None = None) -> Capacity:
        return self.described._replace(
            nodes=self.nodes,
            seconds=seconds,
            over=over,
            qpus={name: device.info for name, device in self.devices.items()},
        )

    def set_end(self, now: float, seconds_left: float | None) -> None:
        """When its walltime is over: as its agent reports, else the described walltime after it was ready first."""
        if seconds_left is None:
            if self.ends_at is not None or self._length is None:
                return
            seconds_left = self._length
        if self._length is None:  # the site's limit
            self._length = seconds_left
            drain = self.description.drain
            self.drain_seconds = min(60.0, seconds_left / 10) if drain is None else drain  # type: ignore[assignment]
        self.ends_at = now + seconds_left

    def start_again(self, now: float) -> None:
        """Its job was submitted again."""
        self.queued_at, self.ends_at, self.pending = now, None, ""
        self.stopping = self.expiring = False
        self._most_nodes = 0

    @property
    def over(self) -> str | None:
        """Its state and the reason, when it takes no more tasks."""
        if is_final(self.state) and self.reason not in ("", self.state.value):
            return f"{self.state.value} ({self.reason})"
        return self.state.value if self.stopping or is_final(self.state) else None

    @property
    def offer(self) -> Capacity:
        """What it has while it is active, without regard to the time that is left."""
        return self._capacity

    def capacity(self, now: float) -> Capacity:
        """What it has now."""
        over = None if self.state is PilotState.ACTIVE and not self.stopping else self.over
        if self.ends_at is None and over is None:
            return self._capacity  # the same each time, and it is asked for at each event
        seconds = self._length if self.ends_at is None else self.ends_at - now
        return self._now(seconds, over)

    def capacity_to_come(self, now: float) -> Capacity:
        """What it has when all its nodes have joined."""
        missing = self.description.number_of_nodes - max(self._most_nodes, len(self.nodes))
        if missing <= 0:
            return self.capacity(now)
        return self.capacity(now)._replace(nodes=[*self.nodes, *self.described.nodes[:missing]])

    def capacity_renewed(self) -> Capacity:
        """What a successor would have."""
        return self.described._replace(name=f"a successor of {self.name}")

    def can_be_renewed(self) -> bool:
        """True when a successor may still be requested."""
        if not self.description.renewals or self.succeeded or is_final(self.state):
            return False
        return not self.stopping or self.expiring

    @property
    def is_coming(self) -> bool:
        """True while it is on its way, or has a QPU that has not reported yet."""
        if self.state in (PilotState.NEW, PilotState.QUEUED, PilotState.STARTING):
            return True
        return self.state is PilotState.ACTIVE and any(device.info is None for device in self.devices.values())

    # ---- its time -------------------------------------------------------------------------------------------

    def renew_at(self) -> float:
        """When a successor has to be requested, to be active when this pilot drains. Only for pilots with an end."""
        assert self.ends_at is not None and self._length is not None
        lead = max(QUEUES_LONGER * (self.queue_seconds or 0.0), min(RENEWAL_SECONDS, self._length / 2))
        return self.ends_at - self.drain_seconds - lead

    def seconds_needed(self, terms: Terms, seconds: float | None, slowness: float = 1.0) -> float:
        """How much walltime must be left for a task: its expected duration, else more than the mean of its function.

        A function that takes nearly all of the walltime may still start on a new pilot. ``slowness``: of the resources
        that it would run with.
        """
        if terms.duration is not None:
            return terms.duration * slowness
        if seconds is None or self._length is None:
            return 0.0
        return min(TAKES_LONGER * seconds * slowness * self.slowness, FRESH * self._length)

    def has_ample_time(self, terms: Terms, now: float, slowness: float = 1.0) -> bool:
        """True when such a task can be finished here even behind all that was sent already."""
        if self.ends_at is None or terms.duration is None:
            return True
        ahead = GIVE_BACK_FACTOR * (self.expected / max(1, self.cores) + BATCH_SECONDS) + GIVE_BACK_SECONDS
        return self.ends_at - now >= terms.duration * slowness + ahead

    def has_time(self, terms: Terms, seconds: float | None, now: float, slowness: float = 1.0) -> bool:
        """True when such a task can be finished here if it starts at once."""
        return self.ends_at is None or self.ends_at - now >= self.seconds_needed(terms, seconds, slowness)

    # ---- what was sent --------------------------------------------------------------------------------------

    def has_credit(self, needs: Resources, depth: int) -> bool:
        """True when a batch may be sent now, of work of which so many times as much as there is room for is sent."""
        if needs.qpu:
            device = self.devices[needs.qpu]
            return device.batches < depth and device.closed is None
        if needs.num_gpus and self.used_gpus + needs.all_gpus > self.gpus * depth + ROUNDING:
            return False
        if needs.memory and self.used_memory + needs.all_memory > self.memory * depth:
            return False
        return self.used_cores + needs.num_cpus * (needs.ranks or 1) <= self.cores * depth + ROUNDING

    def lacks_gpus(self, needs: Resources) -> bool:
        """True when it is GPUs that such a batch has to wait for."""
        return needs.num_gpus > 0 and self.used_gpus + needs.all_gpus > self.gpus + ROUNDING

    def lacks_memory(self, needs: Resources) -> bool:
        """True when it is memory that such a batch has to wait for."""
        return needs.memory > 0 and self.used_memory + needs.all_memory > self.memory

    def put(self, batch: int, sent: SentBatch) -> None:
        """It gets a batch."""
        self.sent[batch] = sent
        self.used_cores += sent.cores
        self.used_gpus += sent.gpus
        self.used_memory += sent.memory
        if (device := self.devices.get(sent.qpu)) is not None:
            device.put(sent)
        else:
            self.expected += sent.expected

    def lend(self, batch: int) -> bool:
        """Others have the cores of a batch, whose task waits; False: no such batch, or they have them already."""
        sent = self.sent.get(batch)
        if sent is None or sent.lent:
            return False
        self.used_cores -= sent.cores
        sent.cores, sent.lent = 0.0, sent.cores
        return True

    def take_back(self, batch: int) -> None:
        """Undo `lend`."""
        if (sent := self.sent.get(batch)) is not None and sent.lent:
            sent.cores, sent.lent = sent.lent, 0.0
            self.used_cores += sent.cores

    def take(self, batch: int) -> SentBatch | None:
        """It has finished a batch, or the batch is taken from it; None: it has no such batch."""
        sent = self.sent.pop(batch, None)
        if sent is not None:
            self.used_cores -= sent.cores
            self.used_gpus -= sent.gpus
            self.used_memory -= sent.memory
            if (device := self.devices.get(sent.qpu)) is not None:
                device.put(sent, -1)
            else:
                self.expected -= sent.expected
            if not self.sent:  # sums of fractions are not exact
                self.used_cores = self.used_gpus = self.expected = 0.0
        return sent

    def standing(self, option: Option) -> tuple[float, float, float]:
        """Seconds until what it has is done, how many times longer than usual it takes, and its free cores."""
        needs = option.resources
        if needs.qpu:
            device = self.devices[needs.qpu]
            return device.expected + device.queue, device.rate or 1.0, self.cores - self.used_cores
        if needs.num_gpus:
            wait = sum(sent.expected for sent in self.sent.values() if sent.gpus) / max(1, self.gpus)
        else:
            wait = self.expected / self.cores
        return wait, self.slowness * option.slowness, self.cores - self.used_cores

    def candidate(self, option: Option, seconds: float | None) -> Candidate:
        """This pilot, as a policy sees it.

        Args:
            option: what the next task would run with.
            seconds: how long it takes on a pilot of slowness 1, with its first choice.
        """
        wait, slowness, free = self.standing(option)
        return Candidate(
            id=self.id,
            name=self.name,
            cores=self.cores,
            free_cores=free,
            expected_wait=wait,
            slowness=slowness,
            seconds=(seconds or 0.0) * slowness,
            option=option,
        )


def depth_of(needs: Resources, seconds: float | None, ahead: bool = True) -> int:
    """How many times the work that there is room for is sent: more than once (``ahead``) when it takes a short time.

    An MPI task is never sent ahead.
    """
    if not ahead or needs.ranks:
        return 1
    if needs.qpu:
        return DEVICE_DEPTH
    return PREFETCH_DEPTH if seconds is not None and seconds < PREFETCH_BELOW_SECONDS else 1
