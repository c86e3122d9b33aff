"""The contracts of the plugins, all in one file: Launcher, JobEnvironment, Engine, QPU, Policy.

A **launcher** gets a placeholder job, a **job environment** says what the processes of such a job can know about it, an
**engine** runs workers inside it, a **QPU** runs circuits, a **policy** says which task is next and which pilot gets
it.
Each is registered as an entry point (``registry.py``) and passes the contract suite of its kind in
``tests/contract/``.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import msgspec

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.resources import SLOT, Candidate, CircuitFacts, Option, QPUEstimate, QPUInfo, QPUTable, Resources, Terms

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

# ---- launchers ------------------------------------------------------------------------------------------------


class JobState(Enum):
    """What a resource manager says of a placeholder job."""

    UNKNOWN = "unknown"
    """It cannot be asked now, or does not know the job yet."""
    QUEUED = "queued"
    RUNNING = "running"
    MISSING = "missing"
    """The resource manager says nothing of a job that it had, or as little as if that had never started. It may be
    wrong: the job counts as ended when this lasts and its agent is not heard."""
    ENDED = "ended"
    """The agent ended by itself, or failed: the pilot is started again while it has restarts."""
    EXPIRED = "expired"
    """Its time was over: the pilot is done."""
    TAKEN = "taken"
    """The site took it away (preempted, node failed, requeued): the pilot is started again at no cost."""
    CANCELLED = "cancelled"
    """Somebody ended the job from outside: the pilot is cancelled."""
    REFUSED = "refused"
    """It was never taken, and would not be later: the pilot fails, whatever restarts it has. Not for `status`."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A placeholder job to start."""

    pilot: str
    #: The agent's command line; with several nodes the same on each, all at once (see ``agent.main``).
    command: tuple[str, ...]
    #: Environment variables on top of the launcher's own; ``PILOT_AGENT`` marks every process of this job.
    environment: dict[str, str]
    description: PilotDescription
    #: Folder for the job's files.
    folder: Path
    #: Where the agent's output goes.
    log_path: Path


class Misfit(NamedTuple):
    """Something that a pilot asks for and that is not there."""

    #: A field of PilotDescription.
    field: str
    asked: str
    there: str


class Launcher(ABC):
    """Gets placeholder jobs: three verbs, all of which may block; they are called from one thread at a time."""

    #: Seconds between two looks at the jobs' states.
    poll_interval: float = 1.0
    #: True when its jobs run on other hosts: the manager listens where these can reach it.
    remote = False

    @abstractmethod
    def check(self, description: PilotDescription) -> None:
        """Raise DescriptionError when this launcher can never start such a pilot."""

    def preflight(self, description: PilotDescription) -> list[Misfit]:
        """What of a pilot the resource manager would refuse, or never start, as it is configured now: queue, nodes,
        memory, walltime. Nothing is submitted. Blocks; ``pilot doctor --site`` calls it.

        Returns:
            Empty when everything fits, or when the resource manager cannot say.

        Raises:
            PilotError: the resource manager could not be asked.

        Example::

            def preflight(self, description):
                queues = self._queues()  # from the resource manager
                if description.queue not in queues:
                    return [Misfit("queue", str(description.queue), f"queues: {', '.join(queues)}")]
                return []
        """
        return []

    def check_folder(self, folder: Path) -> None:
        """Raise SessionError when its jobs cannot work in a session folder of this name."""
        return

    @abstractmethod
    def submit(self, job: Job) -> str:
        """Submit the job; its native id, by which `status` and `cancel` know it, also in another process.

        Raises:
            JobRefused: the resource manager does not take such a job; its own words are in the message.
            PilotError: it could not be asked; another try may succeed.
        """

    def submit_many(self, jobs: Sequence[Job]) -> list[str | Exception]:
        """`submit` for jobs that were asked for together: native ids, or what went wrong, in their order."""
        answers: list[str | Exception] = []
        for job in jobs:
            try:
                answers.append(self.submit(job))
            except Exception as error:
                answers.append(error)
        return answers

    def find(self, description: PilotDescription, pilot: str, mark: str) -> str | None:
        """The native id of the job that was submitted for this pilot with this mark, by a manager that was killed
        before it wrote the id down; None: there is none, or it cannot be found. May block."""
        return None

    @abstractmethod
    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        """State of each job (native id → its folder), and the resource manager's own words for it: the end's reason,
        or why it is pending. May be called more often than the resource manager should be asked."""

    @abstractmethod
    def cancel(self, native_id: str, mark: str) -> None:
        """End the job and every process that carries ``mark`` as PILOT_AGENT, if any is left. Blocks until done."""

    def cancel_many(self, marks: Mapping[str, str]) -> None:
        """`cancel` for several jobs: native id → mark."""
        for native_id, mark in marks.items():
            self.cancel(native_id, mark)


# ---- job environments -----------------------------------------------------------------------------------------


class JobEnvironment:
    """What a process inside a resource manager's job can find out about that job, and how it starts processes there.

    Supplied by the launcher's plugin as an entry point of the group ``pilot.environments``; made without arguments.
    `registry.job_environment` finds the one whose `is_here` is True, in the user's process, the agent, the processes of
    its other nodes, and the workers. It goes by the environment, not by the launcher: a ``local://`` pilot inside a job
    has that job's environment, too. This class itself is the environment of a process outside of any job.

    Methods may be called in any thread. All but `end_ranks` only read ``os.environ`` and ``PATH``, and none raises.

    Example::

        class PbsEnvironment(JobEnvironment):
            submit_command = "qsub"

            def is_here(self):
                return "PBS_JOBID" in os.environ

            def end(self):
                left = os.environ.get("PBS_WALLTIME")
                return time.time() + float(left) if left else None
    """

    #: The command that submits jobs: on a host that has it, pilots may run on other hosts. Empty: none.
    submit_command = ""
    #: The program that starts MPI ranks, found by name in `PilotDescription.mpi`. Empty: ``mpiexec`` does it.
    mpi_program = ""
    #: Variables that tell a process its number among those that were started together, best first; read before those
    #: that MPI libraries set.
    rank_variables: tuple[str, ...] = ()
    #: Variables that each MPI rank notes down for `end_ranks`.
    step_variables: tuple[str, ...] = ()

    def is_here(self) -> bool:
        """True when this process is in a job of this resource manager."""
        return False

    def node(self) -> str:
        """The name of this node, as `mpi_command` has to be told it; different from that of each other node."""
        return socket.gethostname()

    def end(self) -> float | None:
        """When the job ends (seconds since 1970); None: not known."""
        return None

    def whole_allocation(self) -> str | None:
        """A pilot on all nodes of this job, as `PilotDescription.from_text` reads it; None: one on this machine."""
        return None

    def clean(self, environment: Mapping[str, str]) -> dict[str, str]:
        """These variables without what the start of this process set for this process alone, and what a process
        started from here must not take for its own."""
        own = ("PMI_", "PMI2_", "PMIX_", "OMPI_COMM_", "HYDI_", "HYDRA_")
        settings = ("HYDRA_IFACE", "HYDRA_LAUNCHER_EXEC")
        return {
            name: value for name, value in environment.items() if not name.startswith(own) or name.startswith(settings)
        }

    def mpi_candidates(self) -> Sequence[tuple[str, ...]]:
        """Words to try for starting MPI ranks, best first, each with `mpi_program` as its program."""
        return ()

    def mpi_command(
        self, words: Sequence[str], hosts: Mapping[str, int], needs: Resources, folder: Path
    ) -> tuple[list[str], dict[str, str]]:
        """The command that starts the ranks of an MPI task, before the program and its arguments; and variables for it.

        Args:
            words: `mpi_program` with the options that the user gave, or one of `mpi_candidates`.
            hosts: ranks by node, in order; the nodes have the names that `node` gives there.
            needs: of each rank. Cores, memory and GPUs are set aside already: the resource manager must let them be
                shared with the pilot's own processes.
            folder: private to the task, for files of the command; all nodes see it.
        """
        raise NotImplementedError(f"{type(self).__name__} starts no MPI ranks")

    def end_ranks(self, variables: Mapping[str, str | None]) -> None:
        """Kill all ranks that `mpi_command` has started, on all nodes. Blocks for two seconds at most.

        Args:
            variables: of one of the ranks, those of `step_variables`; None: not set.
        """


# ---- engines --------------------------------------------------------------------------------------------------


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine may use on one node."""

    pilot: str
    #: The node's name, one for each node of the pilot.
    node: str = "node-0"
    #: Nodes of the pilot.
    nodes: int = 1
    #: Address to listen on: of this machine's own when the pilot has one node, else one that the other nodes reach.
    address: str = "127.0.0.1"
    #: Ports to listen on, first and last; None: any.
    ports: tuple[int, int] | None = None
    cores: int
    gpus: int
    #: Bytes.
    memory: int
    #: Private folder of this pilot below the session folder.
    folder: Path


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker process has to know (see ``worker.py``)."""

    name: str
    #: The node that it runs on.
    node: str = "node-0"
    resources: Resources
    #: Where the agent listens.
    address: str
    #: The session's CURVE keys, public and secret.
    keys: tuple[bytes, bytes]
    #: Folder for its captured output.
    folder: str
    spool: str
    sys_path: tuple[str, ...]
    working_directory: str
    #: Set before anything of the user's is imported; an engine that imports NumPy in the worker sets it before that.
    environment: dict[str, str]


class OnExit(Protocol):
    """What an engine calls when a worker is gone."""

    def __call__(self, reason: str, blameless: bool = False) -> None:
        """Tell why; ``blameless``: whatever it ran has nothing to do with that."""


class Engine(ABC):
    """A cluster in which workers run. Its methods may block and are called from one thread at a time.

    There is one object on each node of the pilot: the agent's starts the cluster, those on other nodes join it.
    A worker is a process of the engine's that calls ``pilot.worker.serve(spec)``, which connects to the agent and
    returns when it is told to. Work does not pass through the engine: it places workers, tells when one is gone,
    and is there for users who want its native client.
    """

    #: True when `spawn` and `kill` are called on the agent's node for all nodes, False when on the worker's own.
    central = False

    def __init__(self, allocation: Allocation) -> None:
        self.allocation = allocation

    @abstractmethod
    def start(self, on_broken: Callable[[str], None]) -> None:
        """Start the cluster on private ports and folders, with its own authentication on.

        ``on_broken(reason)`` is called, from any thread, when the cluster as a whole cannot go on; the pilot ends then,
        and is started again or fails.
        """

    @abstractmethod
    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        """On another node: join the cluster whose `client` this is. ``on_broken(reason)``: this node cannot go on."""

    @abstractmethod
    def spawn(self, spec: WorkerSpec, on_exit: OnExit) -> None:
        """Start a worker. ``on_exit(reason)`` is called once, from any thread, when it is gone."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """End this worker at once, whatever it does. Nothing happens when it is gone already."""

    @abstractmethod
    def stop(self) -> None:
        """End the cluster, or this node's part of it, with all its processes."""

    def client(self) -> dict[str, str]:
        """What `connect` and `join` need."""
        return {}

    @classmethod
    def connect(cls, client: Mapping[str, str]) -> Any:
        """The engine's native client, in the user's process.

        Raises:
            NotImplementedError: it has none.
        """
        raise NotImplementedError(f"{cls.__name__} has no native client")

    @classmethod  # noqa: B027 - nothing to do is right for those without one
    def disconnect(cls, client: Mapping[str, str], connected: Any) -> None:
        """Close what `connect` returned. Nothing happens when the user has closed it; the cluster may be gone."""


# ---- QPUs -----------------------------------------------------------------------------------------------------


def _no_job(job: str) -> None:
    """Nobody wants to know a job's native id."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a QPU."""

    #: Compiled for `QPU.target`, at most `QPUInfo.max_circuits`.
    circuits: Sequence[QuantumCircuit]
    #: Of each circuit; None: exact probabilities (simulators only).
    shots: int | None
    #: One a circuit; used where results are computed, ignored by devices.
    seeds: Sequence[int]
    #: Called with the job's native id once it is submitted, when it has one.
    on_job: Callable[[str], None] = _no_job


class CircuitResult(Protocol):
    """What one circuit gave: an `Outcomes` of `pilot.quantum.outcomes`."""

    def get_counts(self) -> Mapping[str, float]:
        """How often each bit string came, or how probable it is: as Qiskit's ``get_counts`` writes it."""


class QPU(ABC):
    """Runs circuits: a device, a vendor's service, or a simulator of one.

    One object in one worker process, which opens it once and runs job after job on it. All methods may block; all but
    `cancel` are called from one thread. A job is a list of circuits with one number of shots.
    """

    #: True: a device; one worker at a time has it. False: each worker may have one (a simulator on the pilot's cores).
    exclusive = True

    def __init__(self, name: str, address: str) -> None:
        """Make it; nothing is asked or opened yet.

        Args:
            name: as in ``PilotDescription.qpus``: "fake:kolkata".
            address: what is behind the colon ("kolkata"), a query included ("kolkata?queue=2"); "" without colon.

        Raises:
            DescriptionError: there can be no such address; the message says what is allowed.
        """
        self.name = name
        self.address = address

    def open(self) -> None:  # noqa: B027 - nothing to do is right for many
        """Connect, and open a session where there is such a thing.

        Raises:
            QPUUnavailable: it cannot be reached; in its own words, and what to look at next.
            QPUError: it refuses for good.
        """

    @abstractmethod
    def info(self) -> QPUInfo:
        """What it says of itself now. After `open`."""

    @abstractmethod
    def target(self) -> Target | None:
        """What circuits are compiled for, of the calibration that `info` tells; None: it takes them as they are."""

    @abstractmethod
    def run(self, run: Run) -> Sequence[CircuitResult | Mapping[str, float]]:
        """Run one job and wait for it.

        Returns:
            For each circuit in order its counts by bit string (bit 0 rightmost, registers set apart by a space, the
            circuit's first rightmost: as Qiskit's ``get_counts``), or its probabilities where `Run.shots` is None; or
            an `Outcomes`.

        Raises:
            QPUError: the job failed; the vendor's own words are in the message.
            QPUUnavailable: a new try may help.
            QPUCancelled: `cancel` ended it.
        """

    def cancel(self) -> None:  # noqa: B027
        """Called from another thread: end the job that `run` waits for, at the vendor too. Returns once asked."""

    def cancel_job(self, job: str) -> None:  # noqa: B027
        """End a job whose process died, by the native id that `on_job` was given. Nothing happens when it is over."""

    def close(self) -> None:  # noqa: B027
        """End the session."""


# ---- kinds of tasks -------------------------------------------------------------------------------------------
#
# A package adds a kind with an entry point of the group ``pilot.kinds``: a function as `Kind` describes it.


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What the pilots have, as far as it is known, for who prepares a task."""

    #: Devices by name, and what they say of themselves; None: nothing yet.
    devices: dict[str, QPUInfo | None]
    #: Of all pilots together; and of the largest node.
    cores: int
    cores_per_node: int
    gpus: int


class WorkFunction:
    """A function with settings, for `Part.function`: an object that never changes.

    It travels to each worker once. Objects that are equal are the same function, so a class of these compares and
    hashes them by their settings, as a frozen dataclass does.
    """

    #: The weights of its tasks are seconds, not units of its own.
    weighs_seconds: ClassVar[bool] = False

    def __call__(self, *args: Any) -> Any:
        """Run one task."""
        raise NotImplementedError


class JointFunction(WorkFunction):
    """A `WorkFunction` that a worker gives all tasks that wait for it, to be run together."""

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run several tasks.

        Args:
            calls: the arguments of each.

        Returns:
            For each in order its result, or the exception that it fails with.
        """
        raise NotImplementedError

    def __call__(self, *args: Any) -> Any:
        (result,) = self.run_together([args])
        if isinstance(result, BaseException):
            raise result
        return result


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One task that a description becomes."""

    #: What a worker runs: ``function(*args)``.
    function: Callable[..., Any]
    args: tuple[Any, ...]
    #: How long it takes, in units that are the same for all tasks of its function.
    weight: float = 1.0


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that a description becomes (entry points ``pilot.kinds``): parts that run anywhere and, when there are
    several, what makes one result of theirs: ``combine.function(*combine.args, results)``, in their order."""

    name: str
    parts: tuple[Part, ...]
    combine: Part | None = None
    #: What each part takes; the other fields are those of `Terms`.
    resources: Resources = SLOT
    others: tuple[Option, ...] = ()
    simulator: str = ""
    facts: CircuitFacts | None = None
    #: What else to say where no pilot can serve it.
    note: str = ""


class Kind(Protocol):
    """Makes the tasks of a description whose ``kind`` is the name of its entry point.

    It is called in the user's process and thread, before anything is sent; what it returns is pickled for the workers.
    For example the sum of a function's values, a part for each::

        def total(description: TaskDescription, offer: Offer) -> Prepared:
            parts = tuple(Part(function=description.function, args=(one,)) for one in description.args)
            return Prepared(name="total", parts=parts, combine=Part(function=sum, args=()))
    """

    def __call__(self, description: TaskDescription, offer: Offer, /) -> Prepared:
        """The tasks.

        Raises:
            DescriptionError: a field has a value that this kind does not allow.
        """


# ---- policies -------------------------------------------------------------------------------------------------


class QueuedTask(Protocol):
    """A queued task, as a policy sees it. Only to be read."""

    @property
    def id(self) -> int:
        """Ids grow in order of submission."""

    @property
    def terms(self) -> Terms:
        """What it needs, and its priority."""

    @property
    def arrived(self) -> float:
        """When it was submitted, in seconds by the clock of ``now``."""

    @property
    def seconds(self) -> float | None:
        """How long it is expected to run on an average pilot; None: not known yet."""

    @property
    def estimates(self) -> tuple[QPUEstimate, ...]:
        """What is expected of its circuit on each QPU, as far as somebody has said so."""


class Policy:
    """Says which task is next, and where it runs.

    A policy overrides what it wants to be different; one that overrides nothing is "balanced". Its settings are the
    arguments of its class: ``PilotManager(policy=ShortestFirst(unknown=60.0))``, or by name where the defaults do:
    ``policy="package.module:ShortestFirst"``, or its entry point in the group ``pilot.policies``.

        class ShortestFirst(Policy):
            # tasks of unknown length count as so many seconds
            def __init__(self, unknown: float = 1.0) -> None:
                self.unknown = unknown

            def order(self, task, now):
                return self.unknown if task.seconds is None else task.seconds

    All methods are called in the manager's thread, and nothing else happens there meanwhile: they must not block. Where
    pilots have room for work, first `order` is called for each queued task, then `assign` once for all that want QPUs,
    then `choose` for each batch of other tasks. Tasks, candidates and tables hold only during the call.

    An error that a method raises, or an answer that makes no sense, fails the tasks that it was asked about with a
    `PluginError` that names the policy. Everything else goes on.
    """

    def order(self, task: QueuedTask, now: float) -> Any:
        """The task's place in the queue: what has the smallest key is next, among equals the one submitted first.

        Called again each time that tasks are placed, so the key may change with time. That costs time for each queued
        task; the default is built in and costs nothing.

        Args:
            task: one that a pilot could run now.
            now: seconds by a clock that never steps.

        Returns:
            A key; those of all tasks can be compared with each other.
        """
        return -task.terms.priority, task.id

    def choose(self, terms: Terms, candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
        """The pilot that gets the next batch: the one that is expected to be finished with it first, by measured speed.

        Args:
            terms: of the tasks of the batch.
            candidates: the pilots that fit and have room, never empty; where tasks can run with different resources or
                on several QPUs, one for each of these.

        Returns:
            One of ``candidates``, and the reason in words, as `Task.explain` shows it.
        """
        best = min(candidates, key=lambda one: (one.expected_wait + one.seconds, one.slowness, -one.free_cores))
        if len(candidates) == 1:
            return best, f"{best.place} is the only pilot that fits and has room"
        waits = ", ".join(f"{one.place} {one.expected_wait + one.seconds:.3f} s" for one in candidates)
        return best, f"{best.place} is expected to finish first of the pilots with room ({waits})"

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        """Where tasks that run on QPUs go; a policy that does not override it has `choose` asked for them, too.

        What is assigned to a QPU is sent there as long as it has room; the rest is asked about again.

        Args:
            queue: the next tasks, by `order`: at most 1,000.
            table: what is known of them on each QPU.
            now: seconds by a clock that never steps.

        Returns:
            For each task the number of a column of ``table``, one that fits; or -1: it waits.
        """
        raise NotImplementedError
