"""The contract of policies, which decide which task is next and which pilot gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from pilot.resources import SLOT, Option, QPUEstimate, Terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A pilot that can run the task and has room now, as a policy sees it."""

    id: str
    name: str
    cores: int
    #: Cores that nothing has been sent for.
    free_cores: float
    #: Seconds of work that it has, by measured times, divided by its number of cores.
    expected_wait: float
    #: Its time for the same work, divided by the mean of all pilots; 1 until measured.
    slowness: float
    #: Seconds that the next task is expected to run there, as far as that is known.
    seconds: float = 0.0
    #: What it would run with, where there is a choice.
    option: Option = Option(SLOT)

    @property
    def place(self) -> str:
        """The pilot's name, with the device or the GPUs that the task would have there."""
        return place_of(self.name, self.option)


def place_of(pilot: str, option: Option) -> str:
    """A pilot's name, with the device or the GPUs that a task has there."""
    needs = option.resources
    if needs.qpu:
        return f"{needs.qpu} of {pilot}"
    return f"{pilot} ({needs.num_gpus:g} GPUs)" if needs.num_gpus else pilot


class Spreads(NamedTuple):
    """Standard deviations of the estimates in a `QPUTable`, of the same shape; NaN where one is not known."""

    fidelity: NDArray[np.float64]
    seconds: NDArray[np.float64]
    cost: NDArray[np.float64]
    memory: NDArray[np.float64]


class QPUTable(NamedTuple):
    """What is known of tasks on QPUs. Arrays are `(n_tasks, n_qpus)`, and NaN where something is not known."""

    #: The name of the pilot and of the QPU, in the order of the columns.
    qpus: tuple[tuple[str, str], ...]
    #: True where this QPU can run this task at all, takes jobs now, and meets what the task demands.
    fits: NDArray[np.bool_]
    #: Between 0 and 1, of the compiled circuit. Known for circuits with ``min_fidelity`` (0 does).
    fidelity: NDArray[np.float64]
    #: How long the task runs there.
    seconds: NDArray[np.float64]
    #: Seconds until it would begin: what was sent there before it, and the QPU's own queue.
    wait: NDArray[np.float64]
    #: In the currency of the estimate.
    cost: NDArray[np.float64]
    #: Bytes of main memory, where the QPU is simulated.
    memory: NDArray[np.float64]
    spreads: Spreads
    #: `(n_tasks,)`: the column of the QPU for which a task waits already, whose ``wait`` is what is left; -1: none.
    place: NDArray[np.intp]
    #: `(n_qpus,)`: the share of the last hour in which each QPU was busy with tasks of this manager, from 0 to 1; the
    #: past counts less by a factor of e for each hour.
    busy: NDArray[np.float64]
    #: `(n_qpus,)`: jobs of all users in the QPU's queue; NaN where it reports none.
    pending: NDArray[np.float64]


class QueuedTask(Protocol):
    """A queued task, as a policy sees it. Only to be read."""

    @property
    def id(self) -> int:
        """Ids grow in order of submission."""

    @property
    def terms(self) -> Terms:
        """What it needs, and its priority."""

    @property
    def title(self) -> str:
        """The name in its description, or that of its function."""

    @property
    def arrived(self) -> float:
        """When it was submitted, in seconds by the clock of ``now``."""

    @property
    def seconds(self) -> float | None:
        """How long it is expected to run on an average pilot; None: not known yet."""

    @property
    def weight(self) -> float:
        """How long it takes, beside other tasks of its function."""

    @property
    def estimates(self) -> tuple[QPUEstimate, ...]:
        """What is expected of its circuit on each QPU, as far as it was estimated."""


class Policy:
    """Decides which task is next, and where it runs.

    A policy overrides the methods that it changes; one that overrides nothing is "balanced". Its settings are the
    arguments of its class: ``PilotManager(policy=ShortestFirst(unknown=60.0))``, or by name where the defaults do:
    ``policy="package.module:ShortestFirst"``, or its entry point in the group ``pilot.policies``::

        class ShortestFirst(Policy):
            # tasks of unknown length count as so many seconds
            def __init__(self, unknown: float = 1.0) -> None:
                self.unknown = unknown

            def order(self, task, now):
                return self.unknown if task.seconds is None else task.seconds

    `order` and `choose` of one policy can serve the tasks for cores, and `order` and `assign` of another one those for
    QPUs.

    All methods are called in the manager's thread, and nothing else happens there meanwhile: they must not block. Where
    pilots have room for work, first `order` is called for each queued task, then `assign` once for all that want QPUs,
    then `choose` for each batch of other tasks. Tasks, candidates and tables hold only during the call.

    An error that a method raises, or an answer that makes no sense, fails the tasks that it was asked about with a
    `PluginError` that names the policy. Everything else goes on. So it is with whatever is raised, SystemExit and
    KeyboardInterrupt too. When `sent` raises, the log says so, and it is called no more.
    """

    #: True: circuits that any of several QPUs may run are estimated on each of them before `assign` is called.
    needs_estimates: bool = False
    #: True: no task for cores starts before one that is ahead of it in the order, even where there is room for it.
    is_strict: bool = False
    #: Seconds after which `assign` is called again for tasks that wait for their QPU; None: they stay there.
    reassign_seconds: float | None = None
    #: True: while at most 32 tasks are queued for cores, GPUs and memory, and it is known of all of them how long they
    #: take, they are planned together: of several schedules, in the order of priorities, the one that is over first is
    #: begun, whatever `order` and `choose` say. A task may then wait though a pilot has room for it.
    looks_ahead = False

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

        The default is built in and costs the same with one pilot and with thousands; for a method of your own, a list
        of candidates is made for each batch.

        Args:
            terms: of the tasks of the batch.
            candidates: the pilots that fit and have room, never empty; where tasks can run with different resources or
                on several QPUs, one for each of these.

        Returns:
            One of ``candidates``, and the reason as a text, which `PilotManager.explain` shows.
        """
        best = min(candidates, key=lambda one: (one.expected_wait + one.seconds, one.slowness, -one.free_cores))
        if len(candidates) == 1:
            return best, f"{best.place} was the only suitable pilot with room"
        waits = ", ".join(f"{one.place} {one.expected_wait + one.seconds:.3f} s" for one in candidates)
        return best, f"{best.place} is expected to finish first of the pilots with room ({waits})"

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        """Where tasks for QPUs run. For a policy that does not override it, `choose` is called for them, too.

        A task waits for its QPU until that has room. The tasks of one QPU go in the order of `order`. They are assigned
        again when their QPU takes no jobs any more, and every `reassign_seconds`.

        Args:
            queue: the next tasks, by `order`: at most 1,000 that have no QPU yet, or all that wait for one.
            table: what is known of them on each QPU.
            now: seconds by a clock that never steps.

        Returns:
            For each task the number of a column of ``table``, one that fits; or -1: it is asked about again.
        """
        raise NotImplementedError

    def sent(self, tasks: Sequence[QueuedTask], seconds: float, now: float) -> None:
        """Takes note of tasks that were sent to run. The default does nothing, and costs nothing.

        Args:
            tasks: of one batch.
            seconds: that all of them together are expected to run; 0: not known.
            now: seconds by a clock that never steps.
        """
