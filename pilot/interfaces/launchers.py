"""The contracts of launchers, which get placeholder jobs, and of what the processes in these know about them."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pilot.errors import pass_interrupt, text_of
from pilot.resources import Resources

if TYPE_CHECKING:
    from pilot.descriptions import PilotDescription


class JobState(Enum):
    """The state of a placeholder job, as its resource manager reports it."""

    UNKNOWN = "unknown"
    """The resource manager does not answer now, or does not know the job yet."""
    QUEUED = "queued"
    RUNNING = "running"
    MISSING = "missing"
    """The resource manager no longer reports a job that it had, or reports it as if it had never started. It may be
    wrong: the job counts as ended when this lasts and its agent sends nothing."""
    ENDED = "ended"
    """The agent ended by itself, or failed: the pilot is started again while it has restarts."""
    EXPIRED = "expired"
    """Its time was over: the pilot is done."""
    TAKEN = "taken"
    """The site took it away (preempted, node failed, requeued): the pilot is started again at no cost."""
    CANCELLED = "cancelled"
    """Somebody ended the job from outside: the pilot is cancelled."""
    REFUSED = "refused"
    """It was refused, or refused itself before its agent started, as where a module cannot be loaded, and would be
    refused later: the pilot fails, also when it has restarts left."""


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
    """Something that a pilot asks for and that the resource manager does not have."""

    #: A field of PilotDescription.
    field: str
    asked: str
    there: str


class Refusal(NamedTuple):
    """Why a launcher does not carry out a field of PilotDescription."""

    #: What goes on after "expected" in the error: what is valid, and what to do instead.
    expected: str
    #: False: there is nothing that could carry it out, such as a partition without a batch system.
    applies: bool = True


class Launcher(ABC):
    """Gets placeholder jobs: three verbs, all of which may block; they are called from one thread at a time."""

    #: Seconds between two looks at the jobs' states.
    poll_interval: float = 1.0
    #: True when its jobs run on other hosts: the manager listens where these can reach it.
    remote = False

    @abstractmethod
    def check(self, description: PilotDescription) -> None:
        """Raise DescriptionError when this launcher can never start such a pilot. `check_fields` was called before."""

    def refusal(self, resource: str, field: str) -> Refusal | None:
        """Why pilots at this resource cannot have a field, whatever its value; None: it is carried out.

        `check_fields` and ``pilot doctor --fields`` read it. A field that a launcher neither carries out nor refuses
        would be ignored without a word. May block for a moment.

        Args:
            resource: as in `PilotDescription.resource`.
            field: a field of PilotDescription that has not its default.

        Example::

            def refusal(self, resource, field):
                if field == "gres":
                    return Refusal("nothing with nice://, which has no batch system", applies=False)
                return None
        """
        return None

    def check_fields(self, description: PilotDescription) -> None:
        """Raise DescriptionError when a field is given that this launcher does not carry out."""
        for field in description.given():
            if (refusal := self.refusal(description.resource, field)) is not None:
                raise description.wrong(field, refusal.expected)

    def variants(self) -> Sequence[str]:
        """What may stand behind ``scheme://`` with a `refusal` of its own, for ``pilot doctor --fields``."""
        return ("",)

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
            JobRefused: the resource manager refuses such a job; the message has its output.
            PilotError: it did not answer; another try may succeed.
        """

    def submit_many(self, jobs: Sequence[Job]) -> list[str | Exception]:
        """`submit` for several jobs at once: native ids, or exceptions, in their order."""
        answers: list[str | Exception] = []
        for job in jobs:
            try:
                answers.append(self.submit(job))
            except Exception as error:
                answers.append(error)
            except BaseException as error:
                pass_interrupt(error)
                answers.append(RuntimeError(f"it raised {type(error).__name__}({text_of(error)})"))
        return answers

    def find(self, description: PilotDescription, pilot: str, mark: str) -> str | None:
        """The native id of the job that was submitted for this pilot with this mark, by a manager that was killed
        before it wrote the id down; None: there is none, or it cannot be found. May block."""
        return None

    @abstractmethod
    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        """State of each job (native id → its folder), and the resource manager's text about it: why it ended, or why it
        is pending. May be called more often than the resource manager should be asked."""

    @abstractmethod
    def cancel(self, native_id: str, mark: str) -> None:
        """End the job and every process whose variable PILOT_AGENT is ``mark``, or ``mark``, a dot and more, if any is
        left. Blocks until done."""

    def cancel_many(self, marks: Mapping[str, str]) -> None:
        """`cancel` for several jobs: native id → mark."""
        for native_id, mark in marks.items():
            self.cancel(native_id, mark)


class JobEnvironment:
    """What a process inside a resource manager's job knows about that job, and how it starts processes there.

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
    #: Variables with the number of a process among those that were started together, best first; read before those
    #: that MPI libraries set.
    rank_variables: tuple[str, ...] = ()
    #: Variables that each MPI rank notes down for `end_ranks`.
    step_variables: tuple[str, ...] = ()

    def is_here(self) -> bool:
        """True when this process is in a job of this resource manager."""
        return False

    def node(self) -> str:
        """The name of this node, as `mpi_command` takes it; different for each node."""
        return socket.gethostname()

    def end(self) -> float | None:
        """When the job ends (seconds since 1970); None: not known."""
        return None

    def whole_allocation(self) -> str | None:
        """A pilot on all nodes of this job, as `PilotDescription.from_text` reads it; None: one on this machine."""
        return None

    def clean(self, environment: Mapping[str, str]) -> dict[str, str]:
        """These variables without those that the resource manager set for this process alone, which a process started
        from here must not use."""
        own = ("PMI_", "PMI2_", "PMIX_", "OMPI_COMM_", "HYDI_", "HYDRA_")
        settings = ("HYDRA_IFACE", "HYDRA_LAUNCHER_EXEC")
        return {
            name: value for name, value in environment.items() if not name.startswith(own) or name.startswith(settings)
        }

    def mpi_candidates(self) -> Sequence[tuple[str, ...]]:
        """Commands to try for starting MPI ranks, best first, each with `mpi_program` as its program."""
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

    def mpi_fault(self, output: str) -> str | None:
        """Why ranks that have not ended would wait for each other for ever, by what `mpi_command` has written so far;
        None: nothing says so."""
        return None

    def end_ranks(self, variables: Mapping[str, str | None]) -> None:
        """Kill all ranks that `mpi_command` has started, on all nodes. Blocks for two seconds at most.

        Args:
            variables: of one of the ranks, those of `step_variables`; None: not set.
        """
