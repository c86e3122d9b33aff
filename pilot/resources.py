"""What tasks need, and what pilots have: cores, GPUs, memory, ranks and QPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec


class Resources(msgspec.Struct, frozen=True, array_like=True):
    """What one task takes of a pilot while it runs; of an MPI task, what each rank takes."""

    #: Cores; fractions share a core.
    num_cpus: float = 1.0
    #: GPUs; fractions share a GPU.
    num_gpus: float = 0.0
    #: Bytes of main memory set aside.
    memory: int = 0
    #: Ranks of an MPI task; 0 for any other task, which runs on one node.
    ranks: int = 0
    #: Nodes that the ranks are spread over evenly; 0: as few as there is room on.
    nodes: int = 0
    #: The device that it has while it runs, one of the pilot's ``qpus``; "*": any of them. "": none.
    qpu: str = ""

    @property
    def cores(self) -> float:
        """Cores of all ranks."""
        return self.num_cpus * (self.ranks or 1)

    @property
    def all_gpus(self) -> float:
        """GPUs of all ranks."""
        return self.num_gpus * (self.ranks or 1)

    @property
    def all_memory(self) -> int:
        """Memory of all ranks."""
        return self.memory * (self.ranks or 1)


#: Workers are made for this much memory, or for twice, four times, ... as much.
LEAST_MEMORY = 1 << 28


def rounded_up(memory: int) -> int:
    """The memory of the workers that run a task with this memory: a few sizes serve for all. Bytes."""
    return max(LEAST_MEMORY, 1 << (memory - 1).bit_length()) if memory else 0


#: What a task takes by default; a pilot keeps a warm worker of this shape for each of its cores.
SLOT = Resources()


#: `Resources.qpu` of a task that any device may run.
ANY_QPU = "*"


class Option(msgspec.Struct, frozen=True, array_like=True):
    """Resources that a task can also run with, and how much longer it takes with them than with its first choice."""

    resources: Resources
    slowness: float = 1.0


class CircuitFacts(msgspec.Struct, frozen=True, array_like=True):
    """What decides which devices can run a circuit, and how well. Gate counts are 0 when
    they were not requested."""

    qubits: int
    shots: int = 0
    gates_1q: int = 0
    gates_2q: int = 0
    measurements: int = 0
    #: By device, where it is known: the fidelity expected of the compiled circuit.
    fidelities: tuple[tuple[str, float], ...] = ()
    #: Devices that cannot run it, as far as that is known, and why.
    unable: tuple[tuple[str, str], ...] = ()

    @property
    def is_counted(self) -> bool:
        """True when its gates were counted."""
        return self.gates_1q + self.gates_2q + self.measurements > 0


class QPUEstimate(msgspec.Struct, frozen=True, array_like=True):
    """What is expected of one circuit on one QPU, each with its spread: a standard deviation. None: not known."""

    #: The QPU's name.
    qpu: str
    #: Of the compiled circuit.
    fidelity: float | None = None
    #: How long it runs, its wait not counted.
    seconds: float | None = None
    #: In the currency of the estimate.
    cost: float | None = None
    #: The time of the calibration that the estimate is for: wall clock, seconds since the epoch.
    calibrated: float | None = None
    #: Bytes of main memory that it takes where the QPU is simulated.
    memory: float | None = None
    fidelity_spread: float | None = None
    seconds_spread: float | None = None
    cost_spread: float | None = None
    memory_spread: float | None = None
    #: Why the QPU cannot run the circuit; "": it can.
    problem: str = ""


#: The delay between retries grows no further: it is a thousand times the first one.
MOST_DOUBLINGS = 10


class Retry(msgspec.Struct, frozen=True, array_like=True):
    """When a task that raised is tried again."""

    #: Seconds before the first retry; each further one waits twice as long as the one before.
    delay: float = 0.0
    #: Names of exception classes, with or without their modules; (): all.
    errors: tuple[str, ...] = ()

    def is_for(self, classes: Iterable[str]) -> bool:
        """True when it is about what was raised: an exception of these classes, as `results.Failure` has them."""
        return not self.errors or any(name in self.errors or name.rpartition(".")[2] in self.errors for name in classes)

    def seconds(self, number: int) -> float:
        """How long the retry of this number waits, from 1 on."""
        return self.delay * 2.0 ** min(number - 1, MOST_DOUBLINGS)


class Terms(msgspec.Struct, frozen=True, cache_hash=True):
    """What a task needs, without the work itself; tasks that are `matched` by equal terms queue together."""

    resources: Resources = Resources()
    pilots: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    priority: int = 0
    #: The longest time that it is expected to run, in seconds.
    duration: float | None = None
    #: Seconds.
    timeout: float | None = None
    retries: int = 0
    #: None: at once, whatever it raised.
    retry: Retry | None = None
    #: What it can run with instead of `resources`.
    others: tuple[Option, ...] = ()
    #: A simulator that the pilot must have among its ``qpus``; "": none.
    simulator: str = ""
    #: Of a circuit that devices run.
    facts: CircuitFacts | None = None
    min_fidelity: float = 0.0
    #: Seconds after its submission at which it must be over, by the estimates; and what it may cost.
    deadline: float | None = None
    max_cost: float | None = None
    #: What happens when no QPU meets these and the least fidelity: "simulator", "wait", or "" for an error.
    fallback: str = ""
    #: A device may run it at the same time as others of its function.
    shares_qpu: bool = False

    def options(self) -> tuple[Option, ...]:
        """All that it can run with, its first choice first."""
        return (Option(self.resources), *self.others)

    def matched(self) -> Terms:
        """What pilots are matched with: these terms without what is checked for each task.

        Memory is the least of those that `rounded_up` makes equal: a pilot that has less cannot run such a task.
        """
        resources, rounds = self.resources, self.resources.memory > 0 and not self.others
        own = (self.duration, self.timeout, self.deadline, self.max_cost)
        if own == (None,) * 4 and not self.retries and not rounds:
            return self
        if rounds:
            size = rounded_up(resources.memory)
            least = 1 if size == LEAST_MEMORY else size // 2 + 1
            resources = msgspec.structs.replace(resources, memory=least)
        return msgspec.structs.replace(
            self, resources=resources, duration=None, timeout=None, retries=0, retry=None, deadline=None, max_cost=None
        )

    def expecting(self, estimates: Sequence[QPUEstimate]) -> Terms:
        """These terms with the devices that cannot run the circuit, by the estimates; where there is a least fidelity
        also with the fidelities to compare it with."""
        if self.facts is None:
            return self
        known = [(one.qpu, one.fidelity) for one in estimates if one.fidelity is not None]
        fidelities = tuple(known) if self.min_fidelity else ()
        unable = tuple((one.qpu, one.problem) for one in estimates if one.problem)
        if (self.facts.fidelities, self.facts.unable) == (fidelities, unable):
            return self
        return msgspec.structs.replace(
            self, facts=msgspec.structs.replace(self.facts, fidelities=fidelities, unable=unable)
        )

    def simulated(self) -> Terms:
        """Those of the same task for a QPU when it is simulated instead, on a core."""
        return msgspec.structs.replace(self, resources=SLOT, facts=None, min_fidelity=0.0, deadline=None, max_cost=None)


#: Terms of ``submit_task(function, *args)``.
PLAIN = Terms()


class GateFacts(msgspec.Struct, frozen=True, array_like=True):
    """One instruction on given qubits of a device, from its calibration."""

    #: As Qiskit calls it.
    name: str
    qubits: tuple[int, ...]
    #: Probability of an error, and seconds; None: not calibrated.
    error: float | None = None
    duration: float | None = None


class QubitFacts(msgspec.Struct, frozen=True, array_like=True):
    """One qubit of a device, from its calibration. None: not calibrated."""

    #: Seconds.
    t1: float | None = None
    t2: float | None = None
    #: Hz.
    frequency: float | None = None
    #: Probabilities of reading 1 in state 0, and 0 in state 1; None: the error of its measurement in both.
    ones_in_0: float | None = None
    zeros_in_1: float | None = None


class CrosstalkFacts(msgspec.Struct, frozen=True, array_like=True):
    """Two gates that disturb each other when they run at the same time."""

    #: The qubits of each.
    first: tuple[int, ...]
    second: tuple[int, ...]
    #: The error that both have together, beside their own.
    error: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What circuits are compiled with: errors and times of each instruction on each group of qubits."""

    gates: tuple[GateFacts, ...] = ()
    #: One for each qubit, in order; empty: nothing is known.
    qubits: tuple[QubitFacts, ...] = ()
    #: Declared crosstalk; pairs that are not listed have none.
    crosstalk: tuple[CrosstalkFacts, ...] = ()
    #: Seconds of one sample, and the constraints of times in samples, as Qiskit's ``Target`` has them.
    dt: float | None = None
    granularity: int = 1
    min_length: int = 1
    pulse_alignment: int = 1
    acquire_alignment: int = 1


class QPUInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The properties that a QPU reports. None: it reports none, or there is no such thing."""

    #: As in ``PilotDescription.qpus``: "fake:kolkata".
    name: str
    qubits: int
    #: Names of its gates, as Qiskit calls them; empty: all that Qiskit knows.
    gates: tuple[str, ...] = ()
    #: Pairs of qubits that two-qubit gates act on; None: all.
    coupling: tuple[tuple[int, int], ...] | None = None
    #: True: computed, not measured; circuits without a number of shots give exact probabilities.
    simulator: bool = False
    #: When its calibration was taken: wall clock, seconds since the epoch.
    calibrated: float | None = None
    #: Medians of the calibration: errors of a gate on one qubit, on two, of a readout; seconds of T1 and T2.
    error_1q: float | None = None
    error_2q: float | None = None
    error_readout: float | None = None
    t1: float | None = None
    t2: float | None = None
    #: The whole calibration; None: not reported.
    calibration: Calibration | None = None
    #: True when it takes jobs now.
    accepts_jobs: bool | None = None
    #: Seconds that a job waits before it runs.
    expected_wait: float | None = None
    #: Jobs of all users in its queue.
    pending_jobs: int | None = None
    #: Jobs of one pilot that it takes at a time; None: one runs, and one waits with the agent.
    queue_depth: int | None = None
    #: When these were read: wall clock.
    asked: float | None = None
    #: Seconds between the end of one shot and the begin of the next.
    rep_delay: float | None = None
    #: Limits of one job.
    max_shots: int | None = None
    max_circuits: int | None = None
    #: Why it cannot be used now, as the QPU reports it; "": it can be used. ``qubits`` is 0 if it never could be used.
    problem: str = ""


class Node(msgspec.Struct, frozen=True, array_like=True):
    """The part of a node that a pilot may use."""

    name: str
    host: str
    cores: int
    #: The name of each GPU, in the first of ``gpu_variables`` and in records: a uuid where the driver reports one.
    gpus: list[str]
    #: Bytes.
    memory: int
    #: The further job that it belongs to; "": the pilot's own job, in which MPI tasks can run.
    job: str = ""
    #: The environment variables that name the GPUs of a process (`gpus.assigned`).
    gpu_variables: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES",)


#: Sums of fractions of a core or GPU are this exact.
ROUNDING = 1e-9


class Capacity(NamedTuple):
    """What a pilot has in all."""

    #: Its id and name, and those of the pilots that it takes over from.
    names: tuple[str, ...]
    #: Display name.
    name: str
    labels: tuple[str, ...]
    nodes: Sequence[Node]
    #: Seconds of walltime left; None: no end is known.
    seconds: float | None
    #: Its state, when it takes no more tasks.
    over: str | None = None
    #: Its devices by name, and the properties that they report; None: nothing yet.
    qpus: Mapping[str, QPUInfo | None] = MappingProxyType({})
    #: Its simulators, by name.
    simulators: tuple[str, ...] = ()


def shortage(needs: Resources, pilot: Capacity) -> str | None:
    """Which resource the pilot has too little of, even when nothing else runs there; None when it has enough."""
    return _too_few_ranks(needs, pilot) if needs.ranks else _too_small(needs, pilot)


def _too_small(needs: Resources, pilot: Capacity) -> str | None:
    """Why no node has room for an ordinary task, which runs on one."""
    for node in pilot.nodes:
        if needs.num_cpus <= node.cores and needs.num_gpus <= len(node.gpus) and needs.memory <= node.memory:
            return None
    on = f"{pilot.name} has" if len(pilot.nodes) == 1 else f"a node of {pilot.name} has at most"
    for need, have, what, unit in (
        (needs.num_cpus, max((node.cores for node in pilot.nodes), default=0), "cores", 1),
        (needs.num_gpus, max((len(node.gpus) for node in pilot.nodes), default=0), "GPUs", 1),
        (needs.memory, max((node.memory for node in pilot.nodes), default=0), "GiB of memory", 1 << 30),
    ):
        if need > have:
            return f"{on} {have / unit:.6g} {what}, but {need / unit:.6g} are needed"
    return f"no node of {pilot.name} has the needed cores, GPUs and memory together"


def _too_few_ranks(needs: Resources, pilot: Capacity) -> str | None:
    """Why the nodes together have no room for an MPI task."""
    rooms = [ranks_on(node, needs) for node in pilot.nodes]
    if not needs.nodes:
        if sum(rooms) >= needs.ranks:
            return None
        return f"{pilot.name} has room for {sum(rooms)} such ranks, but {needs.ranks} are needed"
    each = needs.ranks // needs.nodes
    wide = sum(room >= each for room in rooms)
    if wide >= needs.nodes:
        return None
    return f"{pilot.name} has {wide} nodes with room for {each} such ranks, but {needs.nodes} are needed"


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
