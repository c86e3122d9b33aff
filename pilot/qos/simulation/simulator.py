"""`Simulator`: the virtual clock around a controller.

The next event is taken from a heap, or the next job from its iterator; the controller handles it; what it wants to be
done is done by the simulated pilots at once. Nothing depends on the real time, so the same input gives the same result.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from pilot.interfaces import JobState, Policy
from pilot.qos.simulation.jobs import Job
from pilot.qos.simulation.log import Log
from pilot.qos.simulation.sites import Ran, Site
from pilot.results import CANCELLED, OK, Outcome
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.events import AskPilot, Command, Event, SendBatch, SendCancel, StartPilot, StopPilot
from pilot.scheduling.policies import Balanced
from pilot.scheduling.records import TaskRecord

Call = Callable[[float], None]
#: Seconds after which a simulation ends at the latest: three years.
LONGEST = 1e8
#: How rarely Python looks for cycles of objects during a run (`gc.set_threshold`): jobs make none, and to look for them
#: takes 6 to 8 % of the time.
_RARELY = (100_000, 50, 100)


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Simulator:
    """Runs jobs on simulated pilots."""

    def __init__(
        self,
        policy: Policy | None = None,
        qpu_policy: Policy | None = None,
        tick: float | None = None,
        wait_for_pilot: float | None = None,
        new_site: Callable[[AskPilot], Site] | None = None,
    ) -> None:
        """Make it, without pilots.

        Args:
            policy: of tasks for cores, and for QPUs unless there is another one for these; None: "balanced".
            qpu_policy: of tasks for QPUs.
            tick: seconds after which the controller is called even if nothing happens; None: never. Needed where
                pilots have a walltime, for autoscaling, and where waiting tasks are assigned again.
            wait_for_pilot: seconds until a job is refused that no pilot can run any more; None: it waits.
            new_site: makes the pilots that the controller asks for: successors, and those of autoscalers.
        """
        chosen = policy or Balanced()
        self.controller = Controller(chosen, wait_for_pilot, qpu_policy)
        self.now = 0.0
        self.log = Log()
        again = (qpu_policy or chosen).reassign_seconds
        self._tick = tick if tick is not None else again
        self._new_site = new_site
        self._sites: dict[str, Site] = {}
        self._heap: list[tuple[float, int, Call]] = []
        self._number = 0
        #: Jobs that were submitted and are not over, by the id of their task.
        self.unfinished: dict[int, Job] = {}

    def add(self, site: Site, asked: AskPilot | None = None) -> None:
        """A pilot is requested now; it is active after its `Site.queue_seconds`.

        Args:
            site: the pilot.
            asked: the command that it was asked for with, if any.
        """
        if site.id in self._sites:
            raise ValueError(f"there is a pilot {site.id!r} already")
        self._sites[site.id] = site
        site.at, site.job = self.at, self.unfinished.__getitem__
        site.over = partial(self._over, site)
        site.lost = partial(self._lost, site)
        site.cancelled = partial(self._cancelled, site)
        site.began = partial(self._began, site)
        site.drained = lambda: self._end(site, "drained", JobState.ENDED)
        devices = tuple(info.name for info in site.infos())
        event = events.PilotAsked(site.id, site.description, site.memory, devices=devices)
        if asked is not None:
            event = msgspec.structs.replace(event, ancestors=asked.ancestors, parent=asked.parent, scaler=asked.scaler)
        self.feed(event)

    def at(self, time: float, call: Call) -> None:
        """Call a function when the clock stands at this time."""
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, call))

    def feed(self, event: Event) -> None:
        """Something happens now."""
        self._take(self.controller.handle(event, self.now))

    def run(self, jobs: Iterable[Job], until: float = LONGEST) -> Log:
        """Run jobs, in the order of their times, until all are over. Blocks.

        Args:
            jobs: read one at a time, as the clock gets there.
            until: what happens later does not happen.
        """
        if self._tick is not None:
            self.at(self.now, self._ticked)
        with _few_collections():
            self._run(iter(jobs), until)
            while self._refuses_what_is_left():
                self._run(iter(()), until)
        self.log.stopped = self.now
        return self.log

    def _run(self, jobs: Iterator[Job], until: float) -> None:
        heap, job = self._heap, next(jobs, None)
        while job is not None or (heap and self.unfinished):
            if job is not None and (not heap or job.time < heap[0][0]):
                if job.time > until:
                    self._cut(until)
                    break
                self.now = job.time
                job = self._submit(job, jobs)
            else:
                time, _, call = heapq.heappop(heap)
                if time > until:
                    self._cut(until, jobs_left=job is not None)
                    break
                self.now = time
                call(time)
                while heap and heap[0][0] == time:
                    heapq.heappop(heap)[2](time)
                if job is not None and job.time == time:  # what happens at one time is placed at once
                    job = self._submit(job, jobs)
            self._take(self.controller.schedule(self.now))

    def _refuses_what_is_left(self) -> bool:
        """Where nothing happens any more: refuse what no pilot can run; False: nothing was refused."""
        waiting = len(self.unfinished)
        if waiting and not self._heap:
            self._take(self.controller.tick(self.now))
        return len(self.unfinished) < waiting

    def _cut(self, until: float, *, jobs_left: bool = True) -> None:
        """What is later does not happen."""
        self.now, self.log.is_cut = until, jobs_left

    # ---- what happens ---------------------------------------------------------------------------------------

    def _submit(self, job: Job, jobs: Iterator[Job]) -> Job | None:
        """Submit a job, and those that come at the same time; the one after them."""
        records, now = [], job.time
        following: Job | None = job
        while following is not None and following.time == now:
            kind = following.kind
            id = self.log.submitted(now, kind.name) + 1
            record = TaskRecord(id, kind.function, b"", kind.terms, kind.name, now, estimates=kind.estimates)
            if following.after and not self._takes_needs(record, following.after):
                self.log.refused(id - 1, "a job that it needs was refused")
            else:
                self.unfinished[id] = following
                records.append(record)
            following = next(jobs, None)
        self.feed(events.TasksSubmitted(records))
        return following

    def _takes_needs(self, record: TaskRecord, after: tuple[int, ...]) -> bool:
        """Have a task wait for those that it needs; False: one of them was refused."""
        record.needs = {number + 1: False for number in after}
        record.blockers = record.needs.keys() & self.unfinished.keys()
        return not any(self.log.is_refused(number) for number in after)

    def _ticked(self, now: float) -> None:
        assert self._tick is not None
        self._take(self.controller.tick(now))
        self.at(now + self._tick, self._ticked)

    def _began(self, site: Site, now: float, task: int) -> None:
        self.feed(events.TaskStarted(site.id, "", task, now))

    def _over(self, site: Site, now: float, batch: int, ran: list[Ran]) -> None:
        outcomes = []
        for one in ran:
            outcomes.append(Outcome(one.task, OK, one.began, (one.ended - one.began) * min(one.cores, 1.0)))
            self.log.over(one.task - 1, site.id, one.began, one.ended, one.fidelity, one.cores)
            del self.unfinished[one.task]
        self.feed(events.OutcomesArrived(site.id, batch, "", outcomes))

    def _lost(self, site: Site, now: float, batch: int, tasks: list[int], reason: str, begun: int = 0) -> None:
        self.log.lost(begun)
        self.feed(events.AttemptsLost(site.id, batch, "", tasks, reason, False))

    def _cancelled(self, site: Site, now: float, batch: int, tasks: list[int]) -> None:
        for task in tasks:
            self.log.moved(task - 1)
        outcomes = [Outcome(task, CANCELLED, 0.0, 0.0) for task in tasks]
        self.feed(events.OutcomesArrived(site.id, batch, "", outcomes))

    # ---- what is to be done ---------------------------------------------------------------------------------

    def _take(self, commands: list[Command]) -> None:
        for command in commands:
            if type(command) is SendBatch:
                self._sites[command.pilot].run(command, self.now)
            elif type(command) is not events.Settle:  # what is over was logged
                self._take_other(command)

    def _take_other(self, command: Command) -> None:
        if isinstance(command, SendCancel):
            self._sites[command.pilot].cancel(command.tasks, self.now)
        elif isinstance(command, events.RecordAttempt):
            self.log.lost()
        elif isinstance(command, events.Fail):
            self._refuse((record, command.reason) for record in command.entries)
        elif isinstance(command, events.FailDependents):
            self._refuse((link.entry, link.reason) for link in command.failed)
        elif isinstance(command, StartPilot | StopPilot | AskPilot):
            self._take_pilot(command)

    def _take_pilot(self, command: StartPilot | StopPilot | AskPilot) -> None:
        if isinstance(command, AskPilot):
            assert self._new_site is not None, "a controller whose pilots have an end needs new ones"
            self.add(self._new_site(command), command)
            return
        site = self._sites[command.pilot]
        if isinstance(command, StartPilot):
            if site.queue_seconds:
                self.at(self.now + site.queue_seconds, partial(self._ready, site))
            else:
                self._ready(site, self.now)
        elif command.drain:
            site.drain(self.now)
        else:
            self.at(self.now, lambda time: self._end(site, "it was told to end", JobState.ENDED))

    def _refuse(self, reasons: Iterable[tuple[TaskRecord, str]]) -> None:
        for record, reason in reasons:
            self.log.refused(record.id - 1, reason)
            del self.unfinished[record.id]

    # ---- pilots ---------------------------------------------------------------------------------------------

    def _ready(self, site: Site, now: float) -> None:
        """Its job has begun."""
        if site.is_gone:  # it was given back while it waited
            return
        self.log.add(site.id, site.size, now)
        if (seconds := site.description.seconds) is not None:
            self.at(now + seconds, lambda time: self._end(site, "its walltime is over", JobState.EXPIRED))
        self.feed(events.AgentJoined(site.id))
        self.feed(events.PilotReady(site.id, site.nodes, {}, None, site.infos()))

    def _end(self, site: Site, reason: str, how: JobState) -> None:
        """Its job is over, unless it was before."""
        if not site.is_gone:
            self._gone(site)
            self.feed(events.PilotEnded(site.id, reason, how))

    def _gone(self, site: Site) -> None:
        if not site.is_gone:
            site.stop()
            self.log.gone(site.id, self.now)
