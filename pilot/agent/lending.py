"""Cores of tasks that wait for tasks of their own: others have them meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pilot.agent.batches import Worker
from pilot.agent.nodes import Place
from pilot.resources import ROUNDING, SLOT
from pilot.wire import messages
from pilot.wire.messages import Message


class Lending:
    """Which workers have given their cores back, and which of them want to go on. For the agent's thread.

    A worker that wants to go on takes its cores at once, so that no batch begins on them, and goes on when nobody else
    uses them, or when it has waited long for that. Its memory and its GPUs stay its own all the time.
    """

    def __init__(self, send: Callable[[Worker, Message], None]) -> None:
        """Make it; ``send`` sends to a worker."""
        self._send = send
        #: By name: what each waits for, as it has said last.
        self.waits: dict[str, messages.TaskWaits] = {}
        self._wanting: deque[Worker] = deque()

    def lend(self, worker: Worker, message: messages.TaskWaits) -> None:
        """The task of a worker waits; or it waits for other tasks than before."""
        if worker.name not in self.waits:
            if worker in self._wanting:  # it is to wait again before it has gone on
                self._wanting.remove(worker)
            worker.lends = True
            _move(worker, 1)
        self.waits[worker.name] = message

    def want_back(self, worker: Worker, *, at_once: bool) -> None:
        """The task of a worker wants to go on; ``at_once``: also when others still use its cores."""
        if worker.name in self.waits:
            self._take(worker)
            self._wanting.append(worker)
        if at_once and worker in self._wanting:
            self._wanting.remove(worker)
            self._send(worker, messages.Resume())

    def end(self, worker: Worker) -> None:
        """The worker's batch is over, or it is gone: what it needs is counted as before."""
        if worker.name in self.waits:
            self._take(worker)
        elif worker in self._wanting:
            self._wanting.remove(worker)

    def _take(self, worker: Worker) -> None:
        del self.waits[worker.name]
        worker.lends = False
        _move(worker, -1)

    def let_go_on(self) -> None:
        """Those of the wanting workers whose cores are free go on, in order."""
        if not self._wanting:
            return
        free: dict[Place, float] = {}
        for worker in self._wanting:
            place = worker.place
            free[place] = free.get(place, place.cores) + worker.needs.num_cpus
        for worker in list(self._wanting):
            free[worker.place] -= worker.needs.num_cpus
            if free[worker.place] >= -ROUNDING:
                self._wanting.remove(worker)
                self._send(worker, messages.Resume())
            else:
                free[worker.place] = float("-inf")  # those behind it on this node wait as well


def _move(worker: Worker, sign: int) -> None:
    """The cores of a worker's batch, and its place among the workers of the slots, are for others; -1: its own."""
    worker.place.cores += sign * worker.needs.num_cpus
    worker.place.slots -= sign * (worker.shape == SLOT)
