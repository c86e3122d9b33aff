"""`Simulator`: the virtual clock around a controller.

The next event is taken from a heap, or the next job from its iterator; the controller handles it; what it wants to be
done is done by the simulated pilots at once. Nothing depends on the real time, so the same input gives the same result.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from pilot.interfaces import Policy
from pilot.qos.simulation.jobs import Job
from pilot.qos.simulation.log import Log
from pilot.qos.simulation.sites import Ran, Site
from pilot.results import CANCELLED, OK, Outcome
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.events import Command, Event, SendBatch, SendCancel, StartPilot
from pilot.scheduling.policies import Balanced
from pilot.scheduling.records import TaskRecord

Call = Callable[[float], None]
#: Seconds after which a simulation ends at the latest: three years.
LONGEST = 1e8


class Simulator:
    """Runs jobs on simulated pilots."""

    def __init__(
        self, policy: Policy | None = None, qpu_policy: Policy | None = None, tick: float | None = None
    ) -> None:
        """Make it, without pilots.

        Args:
            policy: of tasks for cores, and for QPUs unless there is another one for these; None: "balanced".
            qpu_policy: of tasks for QPUs.
            tick: seconds after which the controller is called even if nothing happens; None: never. Needed where
                pilots have a walltime, for autoscaling, and where waiting tasks are assigned again.
        """
        chosen = policy or Balanced()
        self.controller = Controller(chosen, None, qpu_policy)
        self.now = 0.0
        self.log = Log()
        again = (qpu_policy or chosen).reassign_seconds
        self._tick = tick if tick is not None else again
        self._sites: dict[str, Site] = {}
        self._heap: list[tuple[float, int, Call]] = []
        self._number = 0
        #: Jobs that were submitted and are not over, by the id of their task.
        self.unfinished: dict[int, Job] = {}

    def add(self, site: Site) -> None:
        """A pilot is active from now on."""
        if site.id in self._sites:
            raise ValueError(f"there is a pilot {site.id!r} already")
        self._sites[site.id] = site
        self.log.add(site.id, site.size)
        site.at, site.job = self.at, self.unfinished.__getitem__
        site.over = partial(self._over, site)
        site.lost = partial(self._lost, site)
        site.cancelled = partial(self._cancelled, site)
        site.began = partial(self._began, site)
        devices = tuple(info.name for info in site.infos())
        self.feed(events.PilotAsked(site.id, site.description, 1 << 40, devices=devices))
        self.feed(events.AgentJoined(site.id))
        self.feed(events.PilotReady(site.id, site.nodes, {}, None, site.infos()))

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
        heap, jobs = self._heap, iter(jobs)
        job = next(jobs, None)
        if self._tick is not None:
            self.at(self.now, self._ticked)
        while job is not None or (heap and self.unfinished):
            if job is not None and (not heap or job.time < heap[0][0]):
                if job.time > until:
                    break
                self.now = job.time
                job = self._submit(job, jobs)
            else:
                time, _, call = heapq.heappop(heap)
                if time > until:
                    break
                self.now = time
                call(time)
                while heap and heap[0][0] == time:
                    heapq.heappop(heap)[2](time)
            self._take(self.controller.schedule(self.now))
        return self.log

    # ---- what happens ---------------------------------------------------------------------------------------

    def _submit(self, job: Job, jobs: Iterator[Job]) -> Job | None:
        """Submit a job, and those that come at the same time; the one after them."""
        records, now = [], job.time
        following: Job | None = job
        while following is not None and following.time == now:
            kind = following.kind
            self.log.submitted(now, kind.name)
            id = len(self.log.submitted_at)
            record = TaskRecord(id, kind.function, b"", kind.terms, kind.name, now, estimates=kind.estimates)
            self.unfinished[id] = following
            records.append(record)
            following = next(jobs, None)
        self.feed(events.TasksSubmitted(records))
        return following

    def _ticked(self, now: float) -> None:
        assert self._tick is not None
        self._take(self.controller.tick(now))
        self.at(now + self._tick, self._ticked)

    def _began(self, site: Site, now: float, task: int) -> None:
        self.feed(events.TaskStarted(site.id, "", task))

    def _over(self, site: Site, now: float, batch: int, ran: list[Ran]) -> None:
        outcomes = []
        for task, began, ended, fidelity, cores in ran:
            outcomes.append(Outcome(task, OK, began, (ended - began) * min(cores, 1.0)))
            self.log.over(task - 1, site.id, began, ended, fidelity, cores)
            del self.unfinished[task]
        self.feed(events.OutcomesArrived(site.id, batch, "", outcomes))

    def _lost(self, site: Site, now: float, batch: int, tasks: list[int], reason: str) -> None:
        self.feed(events.AttemptsLost(site.id, batch, "", tasks, reason, False))

    def _cancelled(self, site: Site, now: float, batch: int, tasks: list[int]) -> None:
        for task in tasks:
            self.log.moved(task - 1)
        outcomes = [Outcome(task, CANCELLED, 0.0, 0.0) for task in tasks]
        self.feed(events.OutcomesArrived(site.id, batch, "", outcomes))

    # ---- what is to be done ---------------------------------------------------------------------------------

    def _take(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, SendBatch):
                self._sites[command.pilot].run(command, self.now)
            elif isinstance(command, SendCancel):
                self._sites[command.pilot].cancel(command.tasks, self.now)
            elif isinstance(command, events.Fail):
                for record in command.entries:
                    self.log.refused(record.id - 1)
                    del self.unfinished[record.id]
            elif isinstance(command, StartPilot):
                pass  # its site was there before it was asked for
