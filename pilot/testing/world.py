"""`World`: plays manager, agents and clock for a controller; no process, no time passes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.interfaces import JobState, Policy
from pilot.resources import Node, QPUInfo
from pilot.results import CANCELLED, OK, Outcome
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.events import AskPilot, Command, Fail, FailDependents, Link, SendBatch, Settle, StopPilot
from pilot.scheduling.policies import Balanced
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import PilotState, TaskState, is_final


class World:
    """Feeds events to a controller and keeps its commands.

    The controller's state is checked after each event; after every hundredth where there are more than 300 tasks. The
    clock stands at `now`, in seconds, and only a test moves it.
    """

    def __init__(self, wait_for_pilot: float | None = 0.0, policy: Policy | None = None) -> None:
        self.controller = Controller(policy or Balanced(), wait_for_pilot)
        self.now = 1000.0
        #: All tasks that were submitted, by id.
        self.tasks: dict[int, TaskRecord] = {}
        #: Batches under way by pilot: number → tasks that are open.
        self.batches: dict[str, dict[int, list[int]]] = {}
        #: Tasks of each batch that was sent.
        self.sizes: list[int] = []
        #: Tasks in the order in which they were sent.
        self.order: list[int] = []
        #: The pilot that a task was sent to last.
        self.pilot_of: dict[int, str] = {}
        #: Status of each task that has an outcome.
        self.outcomes: dict[int, int] = {}
        #: Of tasks that failed without an outcome.
        self.errors: dict[int, Fail] = {}
        #: Of tasks that failed with those that they depend on.
        self.links: dict[int, Link] = {}
        #: How often each task has ended.
        self.settled: Counter[int] = Counter()
        self.commands: list[Command] = []
        #: Tasks are sent to pilots after so many events.
        self.together = 1
        self.fed = self.taken = 0
        #: Pilots that the controller wants and that `grant` has not granted yet.
        self.asked: list[AskPilot] = []
        #: Agents that are told to end do so at once, and hand nothing over.
        self.ends_at_once = True

    def feed(self, event: events.Event) -> list[Command]:
        """Give the controller an event; what it wants to be done then."""
        self.fed += 1
        if self.fed % self.together:
            return self.take(self.controller.handle(event, self.now))
        return self.take(self.controller.step(event, self.now))

    def tick(self, seconds: float = 0.0) -> list[Command]:
        """So many seconds pass."""
        self.now += seconds
        return self.take(self.controller.tick(self.now))

    def take(self, commands: list[Command]) -> list[Command]:
        """Keep what the controller wants to be done."""
        ended: list[str] = []
        for command in commands:
            if isinstance(command, SendBatch):
                ids = [entry.id for entry in command.entries]
                assert all(self.tasks[id].state is TaskState.BOUND for id in ids)
                assert not any(self.settled[id] for id in ids), "a task that is over was sent"
                self.batches.setdefault(command.pilot, {})[command.batch] = ids
                self.sizes.append(len(ids))
                self.order += ids
                self.pilot_of.update(dict.fromkeys(ids, command.pilot))
            elif isinstance(command, AskPilot):
                self.asked.append(command)
            elif isinstance(command, StopPilot) and not command.drain and self.ends_at_once:
                ended.append(command.pilot)
            elif isinstance(command, Settle):
                for entry, outcome in command.pairs:
                    self.settled[entry.id] += 1
                    self.outcomes[entry.id] = outcome.status
            elif isinstance(command, Fail):
                for entry in command.entries:
                    self.settled[entry.id] += 1
                    self.errors[entry.id] = command
            elif isinstance(command, FailDependents):
                for link in command.failed:
                    self.settled[link.entry.id] += 1
                    self.links[link.entry.id] = link
        self.commands += commands
        self.taken += 1
        if len(self.controller.queue.tasks) <= 300 or self.taken % 100 == 0:  # it looks at every task
            self.controller.validate()
        more = [self.feed(events.PilotEnded(pilot, "its agent has ended", JobState.ENDED)) for pilot in ended]
        return sum(more, commands)

    # ---- what happens

    def pilot(self, id: str = "p", cores: int = 2, ready: bool = True, rejoins: bool = False, **fields: Any) -> str:
        """A pilot of one node.

        Args:
            id: by which the other methods know it.
            cores: of its node.
            ready: its agent has joined.
            rejoins: an agent of an earlier manager may still be there.
            fields: of its `PilotDescription`; ``qpus`` are `QPUInfo`, of devices.
        """
        qpus: list[QPUInfo] = fields.pop("qpus", [])
        names = tuple(info.name for info in qpus)
        wanted = PilotDescription(cores_per_node=cores, qpus=names, **fields)
        self.feed(events.PilotAsked(id, wanted, 2**30, rejoins, devices=names))
        if ready:
            self.ready(id, qpus=qpus)
        return id

    def ready(
        self,
        id: str = "p",
        batches: dict[int, list[int]] | None = None,
        nodes: list[Node] | None = None,
        left: float | None = None,
        qpus: list[QPUInfo] | None = None,
    ) -> list[Command]:
        self.feed(events.AgentJoined(id))
        nodes = self.controller.pilots.by_id[id].nodes if nodes is None else nodes
        return self.feed(events.PilotReady(id, nodes, batches or {}, left, qpus or []))

    def grant(self, id: str, ready: bool = True) -> str:
        """The pilot that the controller requested first is there."""
        one = self.asked.pop(0)
        wanted = one.description
        self.feed(events.PilotAsked(id, wanted, 2**30, ancestors=one.ancestors, parent=one.parent, scaler=one.scaler))
        if ready:
            self.ready(id)
        return id

    def submit(self, count: int = 1, function: FunctionRecord | None = None, **fields: Any) -> list[int]:
        """Tasks of one function.

        Args:
            count: of tasks.
            function: what runs; see `measured`.
            fields: of `TaskDescription`; also ``terms`` (fields of `Terms` to change), ``weights`` (one for each task)
                and ``needs`` (tasks to wait for, with True where their result is an argument).

        Returns:
            Their ids.
        """
        needs, changes, weights = fields.pop("needs", None), fields.pop("terms", {}), fields.pop("weights", None)
        terms = msgspec.structs.replace(TaskDescription(function=len, **fields).terms(), **changes)
        function = function or FunctionRecord(1, "digest", "work")
        entries = []
        for number in range(count):
            entry = TaskRecord(len(self.tasks) + 1, function, b"", terms, None, 0.0, needs)
            entry.blockers = {id for id in needs if not is_final(self.tasks[id].state)} if needs else None
            entry.weight = weights[number] if weights else 1.0
            self.tasks[entry.id] = entry
            entries.append(entry)
        self.feed(events.TasksSubmitted(entries))
        return [entry.id for entry in entries]

    def finish(
        self, tasks: list[int], seconds: float = 0.001, status: int = OK, value: bytes = b"value"
    ) -> list[Command]:
        """Tasks of one batch have an outcome."""
        pilot, batch = self.where(tasks[0])
        for id in tasks:
            self.batches[pilot][batch].remove(id)
        if not self.batches[pilot][batch]:
            del self.batches[pilot][batch]
        outcomes = [Outcome(id, status, 1.0, seconds, value) for id in tasks]
        return self.feed(events.OutcomesArrived(pilot, batch, "w", outcomes))

    def finish_batch(self, seconds: float = 0.001, pilot: str = "p") -> list[Command]:
        return self.finish(list(next(iter(self.batches[pilot].values()))), seconds)

    def work_off(self, seconds: float = 0.001, pilot: str = "p") -> None:
        while self.batches.get(pilot):
            self.finish_batch(seconds, pilot)

    def lose(self, task: int, blame: bool = True) -> list[Command]:
        """The worker that has this task's batch died, or gave it back."""
        pilot, batch = self.where(task)
        tasks = self.batches[pilot].pop(batch)
        return self.feed(events.AttemptsLost(pilot, batch, "w", tasks, "worker w died", blame))

    def end(
        self,
        pilot: str = "p",
        reason: str = "the agent was killed by signal 9",
        how: JobState = JobState.ENDED,
    ) -> list[Command]:
        self.batches.pop(pilot, None)
        return self.feed(events.PilotEnded(pilot, reason, how))

    def cancel(self, task: int) -> None:
        """A user cancels a task, and what a pilot has of it ends."""
        self.feed(events.CancelAsked([task]))
        if self.state(task) in (TaskState.BOUND, TaskState.RUNNING):
            self.finish([task], status=CANCELLED)

    # ---- what is the case

    def where(self, task: int) -> tuple[str, int]:
        return next((p, b) for p, some in self.batches.items() for b, tasks in some.items() if task in tasks)

    def sent(self, pilot: str = "p") -> list[list[int]]:
        return list(self.batches.get(pilot, {}).values())

    def state(self, task: int) -> TaskState:
        return self.tasks[task].state

    def pilot_state(self, pilot: str = "p") -> PilotState:
        return self.controller.pilots.by_id[pilot].state

    def explain(self, task: int) -> str:
        return self.controller.explain(self.tasks[task], self.now)


def measured(seconds: float, id: int = 1) -> FunctionRecord:
    """A function that is known to take so many seconds."""
    function = FunctionRecord(id, f"digest {id}", f"work {id}")
    function.measured(seconds)
    return function
