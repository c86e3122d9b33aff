"""`Steps`: tells connections of the steps that tasks take, as they happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pilot.service.problems import Problem

if TYPE_CHECKING:
    from pilot.service.active import ActiveTask

#: Steps that wait for one connection at most; one that is too slow misses the others.
MOST_WAITING = 10_000
#: After so many seconds without a step a connection is told that there is none, so that proxies keep it open.
QUIET_SECONDS = 15.0


class Step(NamedTuple):
    """A task has taken a step, at a time (seconds since the epoch)."""

    task: str
    user: str
    step: str
    state: str
    time: float


class Listener:
    """One connection's steps. For its event loop."""

    def __init__(self, user: str | None, task: str | None) -> None:
        self._user, self._task = user, task
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Step] = asyncio.Queue(MOST_WAITING)
        #: How many steps were left out.
        self.missed = 0

    def wants(self, step: Step) -> bool:
        """True for steps that it is to hear of. Any thread."""
        return self._user in (None, step.user) and self._task in (None, step.task)

    def put(self, step: Step) -> None:
        """Any thread: leave a step."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._add, step)

    def _add(self, step: Step) -> None:
        if self._queue.full():
            self.missed += 1
        else:
            self._queue.put_nowait(step)

    async def steps(self) -> AsyncIterator[Step | None]:
        """The steps as they come; with a task, up to its last one. None where none has come for some seconds."""
        while True:
            try:
                step = await asyncio.wait_for(self._queue.get(), QUIET_SECONDS)
            except TimeoutError:
                yield None
                continue
            yield step
            if self._task is not None and step.step == "retired":
                return


class Steps:
    """Who listens to the steps of tasks."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def __call__(self, task: ActiveTask, step: str, time: float) -> None:
        """A task has taken a step. Does not block."""
        if listeners := self._listeners:
            one = Step(task.id, task.user, step, task.state, time)
            for listener in listeners:
                if listener.wants(one):
                    listener.put(one)

    @contextlib.contextmanager
    def listener(self, user: str | None, task: str | None = None) -> Iterator[Listener]:
        """Hear of the steps of a user's tasks, or of everybody's; of all tasks, or of one."""
        one = Listener(user, task)
        self._listeners = [*self._listeners, one]
        try:
            yield one
        finally:
            self._listeners = [other for other in self._listeners if other is not one]


class Streams:
    """How many connections each user has open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def opened(self, user: str) -> Iterator[None]:
        """Count a connection while it is open.

        Raises:
            Problem: 429: the user has as many as are allowed.
        """
        if self._open[user] >= self._most:
            raise Problem(429, f"events: {user} has {self._most} connections already", headers={"Retry-After": "10"})
        self._open[user] += 1
        try:
            yield
        finally:
            self._open[user] -= 1
