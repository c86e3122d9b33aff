"""Running tasks that wait for tasks of their own: others have their cores; waits that can never end are ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from pilot.resources import ROUNDING, Capacity, Node, Terms
from pilot.scheduling import events
from pilot.scheduling.events import Command
from pilot.scheduling.fitting import unservable
from pilot.scheduling.index import Index
from pilot.scheduling.pilots import Pilots
from pilot.scheduling.queue import TaskQueue
from pilot.states import TaskState

#: Tasks that wait on one pilot at a time, for each of its cores: each keeps a process.
MOST_FOR_A_CORE = 64


class _Held(NamedTuple):
    """What waiting tasks keep of a node."""

    gpus: float
    memory: int


_NOTHING = _Held(0.0, 0)


class WaitingTasks:
    """The tasks that wait. While one waits it keeps its memory and its GPUs, so that tasks may wait for each other for
    ever: for a GPU that a waiting task has, say. Who waits so is told, and goes on with an error."""

    def __init__(
        self, queue: TaskQueue, pilots: Pilots, index: Index, further: Callable[[], Iterable[Capacity]]
    ) -> None:
        """Make it; ``further``: what pilots have that autoscalers may request."""
        self._queue = queue
        self._pilots = pilots
        self._index = index
        self._further = further
        #: By task.
        self._waits: dict[int, events.TaskWaits] = {}

    def waits(self, event: events.TaskWaits, now: float, commands: list[Command]) -> None:
        """A task waits, or waits for other tasks than before."""
        pilot = self._pilots.by_id[event.pilot]
        if event.batch not in pilot.sent:
            return  # its pilot was given up in the meantime
        self._waits[event.task] = event
        if pilot.lend(event.batch):
            self._index.touch(pilot)
        most = MOST_FOR_A_CORE * pilot.cores
        if sum(one.pilot == event.pilot for one in self._waits.values()) > most:
            self._end(
                event, f"{most} tasks of {pilot.name} wait for others already, and each keeps a process", commands
            )
        else:
            self.end_endless(now, commands)

    def resumes(self, event: events.TaskResumes, now: float, commands: list[Command]) -> None:
        """A task goes on."""
        self._waits.pop(event.task, None)
        pilot = self._pilots.by_id[event.pilot]
        pilot.take_back(event.batch)
        self._index.touch(pilot)

    def end_endless(self, now: float, commands: list[Command]) -> None:
        """End the waits that can never end. Call it when one begins, and now and then: pilots may be gone."""
        for task, wait in list(self._waits.items()):
            record = self._queue.tasks.get(task)
            if record is None or record.batch != wait.batch or record.pilot != wait.pilot:
                del self._waits[task]  # it is over, or its attempt is
        if all(self._holds(wait) == _NOTHING for wait in self._waits.values()):
            return  # cores come back
        endless, before = set(self._waits), set[int]()
        reasons: dict[int, str] = {}
        while endless != before:  # a task that can go on gives back what it has
            held, before = self._held_by(endless), endless
            reasons = {task: why for task in before if (why := self._blocked(self._waits[task], before, held, now))}
            endless = set(reasons)
        if endless:  # the last one to wait: the others may go on when it does
            last = next(task for task in reversed(self._waits) if task in endless)
            self._end(self._waits[last], reasons[last], commands)

    def _end(self, wait: events.TaskWaits, reason: str, commands: list[Command]) -> None:
        self._waits.pop(wait.task, None)
        commands.append(events.EndWait(wait.pilot, wait.worker, wait.task, wait.number, reason))

    # ---- what can run -----------------------------------------------------------------------------------------

    def _holds(self, wait: events.TaskWaits) -> _Held:
        """What a waiting task keeps."""
        needs = self._queue.tasks[wait.task].terms.resources
        return _Held(needs.num_gpus, needs.memory)

    def _held_by(self, tasks: Iterable[int]) -> dict[tuple[str, str], _Held]:
        """What these tasks keep, by pilot and node."""
        held: dict[tuple[str, str], _Held] = {}
        for task in tasks:
            wait = self._waits[task]
            gpus, memory = held.get((wait.pilot, wait.node), _NOTHING)
            own = self._holds(wait)
            held[wait.pilot, wait.node] = _Held(gpus + own.gpus, memory + own.memory)
        return held

    def _blocked(
        self, wait: events.TaskWaits, endless: set[int], held: dict[tuple[str, str], _Held], now: float
    ) -> str:
        """Why none of the tasks that it waits for can ever run while these tasks wait; "": one can, or all are over."""
        why = ""
        for task in wait.tasks:
            if task in self._queue.tasks:
                why = self._why_not(task, endless, held, now, set())
                if not why:
                    return ""
        return why

    def _why_not(
        self, task: int, endless: set[int], held: dict[tuple[str, str], _Held], now: float, seen: set[int]
    ) -> str:
        record = self._queue.tasks.get(task)
        if record is None or task in seen:
            return ""
        seen.add(task)
        if task in endless:
            return f"task {task} ({record.title}) waits itself"
        if record.state is TaskState.RUNNING:
            return ""
        if record.state is TaskState.WAITING:
            whys = (self._why_not(one, endless, held, now, seen) for one in record.blockers or ())
            return next((why for why in whys if why), "")
        if unservable(record.terms, self._capacities(now)) is not None:
            return ""  # that is seen to elsewhere, whoever waits
        left = unservable(record.terms, self._capacities(now, record.terms, held))
        return "" if left is None else f"task {task} ({record.title}) can never run: {left}"

    def _capacities(
        self, now: float, terms: Terms | None = None, held: dict[tuple[str, str], _Held] | None = None
    ) -> list[Capacity]:
        """What the pilots have and may have; without what is held, for such a task."""
        found = []
        for id, pilot in self._pilots.by_id.items():
            capacity = pilot.capacity_to_come(now)
            if held and terms is not None:
                wanted = terms.resources.num_gpus
                nodes = [_less(node, held.get((id, node.name), _NOTHING), wanted) for node in capacity.nodes]
                capacity = capacity._replace(nodes=nodes)
            found.append(capacity)
            if pilot.can_be_renewed():
                found.append(pilot.capacity_renewed())
        return [*found, *(capacity for _, capacity in self._pilots.coming), *self._further()]


def _less(node: Node, held: _Held, wanted: float) -> Node:
    """A node without what is held, for a task that wants so many GPUs: a part of one fits where as much is left."""
    if held == _NOTHING:
        return node
    gpus = len(node.gpus) - held.gpus + ROUNDING
    count = int(gpus >= wanted) if 0 < wanted < 1 else int(max(0.0, gpus))
    names: Sequence[str] = node.gpus[:count]
    return msgspec.structs.replace(node, gpus=list(names), memory=node.memory - held.memory)
