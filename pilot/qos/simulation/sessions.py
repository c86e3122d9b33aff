"""Own runs as what comes: the tasks of a session as jobs, its QPUs, and its pilots as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import nan

import msgspec

from pilot.errors import DescriptionError
from pilot.interfaces import Policy
from pilot.manager.history import History, Ran
from pilot.manager.recovery import RestoredPilot
from pilot.qos.simulation.clusters import TICK, Cluster
from pilot.qos.simulation.jobs import Job, Kind
from pilot.qos.simulation.log import Log
from pilot.qos.simulation.simulator import Simulator
from pilot.qos.simulation.sites import SimulatedNodes, SimulatedQPU
from pilot.resources import ANY_QPU, Option, QPUEstimate, Resources, Terms
from pilot.scheduling import events
from pilot.scheduling.records import FunctionRecord
from pilot.states import PilotState, is_final


def play(
    history: History,
    policy: Policy | None,
    qpu_policy: Policy | None,
    cluster: Cluster | None = None,
    warn: Callable[[str], object] = lambda sentence: None,
) -> Log:
    """Run the tasks of a session again, on the virtual clock. Blocks.

    Each comes when it was submitted, waits for the tasks that it needed, and runs as long as it ran. A task for QPUs
    takes on another QPU as long as was estimated, or as tasks of its kind took there on average.

    Args:
        history: of the session.
        policy: of tasks for cores, and for QPUs unless there is another one for these.
        qpu_policy: of tasks for QPUs.
        cluster: the pilots of nodes; None: those of the session, as and when they were there.
        warn: is called before the simulation, with a sentence about jobs that no pilot can ever run.

    Raises:
        DescriptionError: nothing has run in the session, or a pilot of the cluster does not last long enough.
    """
    if not history.tasks:
        raise DescriptionError("journal: no task of this session has a result", field="journal")
    begun = _begin(history)
    jobs = Jobs(history.tasks, begun, own_pilots=cluster is None)
    if cluster is not None:
        cluster.check(jobs.jobs)
        for sentence in cluster.warnings(jobs.jobs):
            warn(sentence)
        simulator = cluster.simulator(policy, qpu_policy)
    else:
        simulator = _with_own_pilots(history, begun, policy, qpu_policy)
    for name in jobs.qpus:
        simulator.add(SimulatedQPU(name))
    return simulator.run(jobs.jobs)


def _begin(history: History) -> float:
    """When the session began: wall clock."""
    times = (time for pilot in history.pilots for time in pilot.times.values())
    return min((history.tasks[0].submitted, *times))


# ---- pilots ----------------------------------------------------------------------------------------------------


def _with_own_pilots(history: History, begun: float, policy: Policy | None, qpu_policy: Policy | None) -> Simulator:
    """A simulator with the pilots of a session: each is requested, active and given back when it was."""
    there = [pilot for pilot in history.pilots if PilotState.ACTIVE in pilot.times]
    asked = {pilot.id: min(pilot.times.values()) - begun for pilot in there}
    # what no pilot can run may wait for one that is to come
    simulator = Simulator(policy, qpu_policy, tick=TICK, wait_for_pilot=max(asked.values(), default=0.0))
    last = max(task.ended for task in history.tasks)
    for pilot in there:
        simulator.at(asked[pilot.id], partial(_request, simulator, pilot, asked[pilot.id] + begun))
        given_back = min((time for state, time in pilot.times.items() if _is_end(state)), default=last)
        if given_back < last:  # else it is there as long as anything waits
            stop = events.PilotStopAsked(pilot.id, drain=True)
            simulator.at(given_back - begun, lambda _, stop=stop: simulator.feed(stop))  # type: ignore[misc]
    return simulator


def _request(simulator: Simulator, pilot: RestoredPilot, asked: float, now: float) -> None:
    description = msgspec.structs.replace(pilot.description, renewals=0)  # its successors are pilots of the session
    simulator.add(SimulatedNodes(pilot.id, description, pilot.times[PilotState.ACTIVE] - asked))


def _is_end(state: PilotState) -> bool:
    return state is PilotState.DRAINING or is_final(state)


# ---- tasks -----------------------------------------------------------------------------------------------------


class Jobs:
    """The tasks of a session as jobs."""

    def __init__(self, tasks: Sequence[Ran], begun: float, *, own_pilots: bool) -> None:
        """Make them.

        Args:
            tasks: by id; at least one.
            begun: the time 0 of the jobs: wall clock.
            own_pilots: True: the pilots are those of the session, and tasks ask for them by name.
        """
        self._own_pilots = own_pilots
        self._functions: dict[str, FunctionRecord] = {}
        self._kinds: dict[tuple[str, Terms], Kind] = {}
        self._measured = _means(tasks)
        estimated = (one.qpu for task in tasks for one in task.estimates if one.seconds is not None)
        #: Names of the QPUs that tasks ran on, or were estimated for.
        self.qpus = sorted({task.qpu for task in tasks if task.qpu} | set(estimated))
        self.jobs: list[Job] = []
        numbers: dict[int, int] = {}
        time = 0.0
        for task in tasks:
            time = max(time, task.submitted - begun)  # a wall clock may step
            after = tuple(numbers[id] for id in task.needs if id in numbers)
            numbers[task.id] = len(self.jobs)
            self.jobs.append(Job(time, self._kind(task), None if task.qpu else task.seconds, after))

    def _kind(self, task: Ran) -> Kind:
        if task.qpu:
            return self._circuits(task, task.qpu)
        terms = task.terms
        if not self._own_pilots:
            terms = msgspec.structs.replace(terms, pilots=(), labels=(), simulator="")
        key = (task.function, terms)
        if (kind := self._kinds.get(key)) is None:
            kind = self._kinds[key] = Kind(name=task.title, terms=terms, function=self._function(task))
        return kind

    def _function(self, task: Ran) -> FunctionRecord:
        number = len(self._functions) + 1
        return self._functions.setdefault(task.function, FunctionRecord(number, task.function, task.title))

    def _circuits(self, task: Ran, qpu: str) -> Kind:
        """A task for QPUs: what was expected of it, and what is true where it ran."""
        measured = {
            one: self._measured[one, task.function] for one in self.qpus if (one, task.function) in self._measured
        }
        estimated = {one.qpu: one.seconds for one in task.estimates if one.seconds is not None}
        known = {**measured, **estimated} if task.estimates else measured
        seconds = {**known, qpu: task.seconds}
        estimates = tuple(one for one in task.estimates if one.qpu in seconds)
        if not estimates:
            estimates = tuple(QPUEstimate(one, seconds=took) for one, took in known.items())
        fidelity = {one.qpu: nan if one.fidelity is None else one.fidelity for one in estimates}
        return Kind(
            name=task.title,
            terms=self._wanting(task.terms, qpu, list(seconds)),
            estimates=estimates,
            seconds=seconds,
            fidelity={one: fidelity.get(one, nan) for one in seconds},
            function=self._function(task),
        )

    def _wanting(self, terms: Terms, qpu: str, known: Sequence[str]) -> Terms:
        """The terms of a task that may go to those of its QPUs of which it is known how long it runs there."""
        asked = {option.resources.qpu for option in terms.options()}
        names = [one for one in known if one == qpu or one in asked or ANY_QPU in asked]
        ways = [Resources(num_cpus=0.0, qpu=one) for one in names]
        if len(names) == len(self.qpus):
            ways = [Resources(num_cpus=0.0, qpu=ANY_QPU)]
        return msgspec.structs.replace(
            terms, pilots=(), labels=(), resources=ways[0], others=tuple(map(Option, ways[1:]))
        )


def _means(tasks: Iterable[Ran]) -> dict[tuple[str, str], float]:
    """Mean seconds of the tasks of one function on one QPU, by QPU and function."""
    taken: dict[tuple[str, str], list[float]] = {}
    for task in tasks:
        if task.qpu:
            taken.setdefault((task.qpu, task.function), []).append(task.seconds)
    return {key: sum(some) / len(some) for key, some in taken.items()}
