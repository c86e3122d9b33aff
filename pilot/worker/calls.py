"""What the running task of a worker asks its manager, and its waits for the answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pilot.wire import children, messages, payload
from pilot.wire.messages import Frames, Message
from pilot.wire.spool import Spool

#: A task that waits for others keeps its cores for so many seconds: what is over by then costs nobody anything.
GRACE_SECONDS = 0.01
#: Then it waits so long at most for a core that is free: what others run there may take hours.
CORE_SECONDS = 1.0


class Sender(Protocol):
    """A connection to the agent."""

    def send(self, message: Message, frames: Frames = ()) -> None:
        """Send, from one thread at a time."""


#: Of the worker that this process is: its calls, where large values go, and the id of the process; empty: it is none.
here: list[tuple[TaskCalls, Spool, int]] = []


class _Running:
    """The task that runs."""

    def __init__(self, batch: int, task: int) -> None:
        self.batch = batch
        self.task = task
        #: Calls that were not answered, by number; and the answers that nobody has taken yet.
        self.calls: dict[int, children.Submission] = {}
        self.replies: dict[int, children.Reply] = {}
        #: Its children: those of whose end the manager was to tell, and the ends.
        self.watched: set[int] = set()
        self.ends: dict[int, children.Ended] = {}
        self.children: set[int] = set()
        #: What each of its waiting threads waits for; empty: the task has its cores, or is to get them back.
        self.waits: list[Sequence[int]] = []
        self.resumed = True
        self.is_over = False


class TaskCalls:
    """The conversation of one worker's tasks with the manager. Any thread of the running task may use it; `received`
    and `repeat` are for the thread that receives the agent's messages."""

    def __init__(
        self, worker: str, connection: Sender, attend: Callable[[], None], give_back: Callable[[], None]
    ) -> None:
        """Make it.

        Args:
            worker: its name.
            connection: by which all is sent; `send` may be used by several threads.
            attend: has the agent's messages received at once, from now on.
            give_back: gives the worker's tasks back that have not begun.
        """
        self._worker = worker
        self._connection = connection
        self._attend = attend
        self._give_back = give_back
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._number = 0
        #: The number of the last wait; that of a wait that will never end, and why.
        self._wait = 0
        self._stuck: tuple[int, children.Stuck] | None = None
        self._running: _Running | None = None

    def send(self, message: Message, frames: Frames = ()) -> None:
        """Send to the agent."""
        with self._sending:
            self._connection.send(message, frames)

    def of(self, batch: int, task: int) -> _Block:
        """While this task runs, which is in the returned block, calls are its own."""
        running = self._running = _Running(batch, task)
        return _Block(self, running)

    def ended(self, running: _Running) -> None:
        """The task runs no more: nothing that it has left behind waits any more."""
        self._running = None
        with self._changed:  # threads that it has left may still wait
            running.is_over = True
            self._changed.notify_all()

    @property
    def task(self) -> int | None:
        """The id of the running task; None: nothing runs that may call."""
        return None if self._running is None else self._running.task

    @property
    def is_waiting(self) -> bool:
        """True while the running task has given its cores back."""
        running = self._running
        return running is not None and bool(running.waits)

    # ---- the task's threads -----------------------------------------------------------------------------------

    def submit(self, what: children.Submission) -> list[tuple[int, str]]:
        """Submit tasks; their ids and names, in order. Blocks until the manager has answered.

        Raises:
            Exception: why they are refused; none of them is submitted then.
        """
        running = self._here()
        with self._changed:
            self._number += 1
            number = self._number
            running.calls[number] = what
        self._attend()
        self._call(running, number, what)
        with self._changed:
            self._changed.wait_for(lambda: number in running.replies or running.is_over)
            self._check(running)
            reply = running.replies.pop(number)
            if isinstance(reply, children.Accepted):
                running.children.update(id for id, _ in reply.tasks)
                return reply.tasks
        assert isinstance(reply, children.Rejected)
        raise payload.load_exception(reply.error, "the manager")

    def cancel(self, tasks: Sequence[int]) -> None:
        """Have tasks cancelled. Does not block."""
        self._call(self._here(), 0, children.Cancelling(list(tasks)))

    def end_of(self, task: int) -> children.Ended | None:
        """How a child ended, as far as that is known here."""
        return self._here().ends.get(task)

    def watch(self, tasks: Sequence[int]) -> None:
        """Have the manager tell of the ends of these. Does not block."""
        running = self._here()
        with self._changed:
            new = [id for id in tasks if id not in running.watched]
            running.watched.update(new)
        if new:
            self._attend()
            self._call(running, 0, children.Watching(new))

    def wait(self, tasks: Sequence[int], is_enough: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for tasks, and let others have the cores meanwhile.

        Args:
            tasks: those that are not over.
            is_enough: called when one of them has ended: True ends the wait.
            timeout: seconds; None: for ever.

        Returns:
            False when the time was over first.

        Raises:
            NoPilotError: the wait would never end, since waiting tasks hold what these tasks need.
            RuntimeError: the task itself is over.
        """
        running = self._here()
        deadline = None if timeout is None else time.monotonic() + timeout
        self.watch(tasks)
        with self._changed:
            grace = GRACE_SECONDS if timeout is None else min(GRACE_SECONDS, timeout)
            if self._changed.wait_for(is_enough, grace):
                return True
        if deadline is not None and time.monotonic() >= deadline:
            return False
        self._lend(running, tasks)
        try:
            with self._changed:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._changed.wait_for(lambda: is_enough() or running.is_over or self._why_stuck() is not None, left)
                stuck = self._why_stuck()
        finally:
            self._take_back(running, tasks, at_once=not is_enough())
        self._check(running)
        if not is_enough() and stuck is not None:
            raise payload.load_exception(stuck.error, "the manager")
        return is_enough()

    def _why_stuck(self) -> children.Stuck | None:
        return self._stuck[1] if self._stuck is not None and self._stuck[0] == self._wait else None

    def _lend(self, running: _Running, tasks: Sequence[int]) -> None:
        """Give the cores back."""
        with self._changed:
            self._wait += 1
            number = self._wait
            running.waits.append(tasks)
            all_tasks = list(dict.fromkeys(id for some in running.waits for id in some))
        self._give_back()
        self.send(messages.TaskWaits(running.batch, self._worker, running.task, number, all_tasks))

    def _take_back(self, running: _Running, tasks: Sequence[int], *, at_once: bool) -> None:
        """A thread waits no more: the last one waits for the cores, unless it is to go on ``at_once``."""
        with self._changed:
            running.waits.remove(tasks)
            if running.waits or running.is_over:
                return
            running.resumed = False

        def may_go_on() -> bool:
            return running.resumed or bool(running.waits) or running.is_over

        if not at_once:
            self.send(messages.TaskResumes(running.batch, self._worker, running.task, False))
            with self._changed:
                if self._changed.wait_for(may_go_on, CORE_SECONDS):
                    return
        self.send(messages.TaskResumes(running.batch, self._worker, running.task, True))
        with self._changed:
            self._changed.wait_for(may_go_on)

    def _here(self) -> _Running:
        if (running := self._running) is None:
            raise RuntimeError("the task that this belongs to is over")
        return running

    def _check(self, running: _Running) -> None:
        if running.is_over:
            raise RuntimeError("the task that this belongs to is over")

    def _call(self, running: _Running, number: int, what: children.Call) -> None:
        self.send(messages.TaskCall(self._worker, running.task, number), [children.encode(what)])

    # ---- the agent's messages ---------------------------------------------------------------------------------

    def received(self, message: Message, frames: Sequence[bytes]) -> None:
        """Take in an answer of the manager's or the agent's."""
        with self._changed:
            if (running := self._running) is None:
                return
            if isinstance(message, messages.Resume):
                running.resumed = True
            elif isinstance(message, messages.TaskReply) and message.task == running.task:
                reply = children.decode_reply(frames[0])
                if isinstance(reply, children.Ended):
                    running.ends[reply.task] = reply
                elif isinstance(reply, children.Stuck):
                    self._stuck = message.number, reply
                elif running.calls.pop(message.number, None) is not None:
                    running.replies[message.number] = reply
            self._changed.notify_all()

    def repeat(self) -> None:
        """Another manager has the session: ask it what the one before has not answered."""
        if (running := self._running) is None:
            return
        with self._changed:
            calls = dict(running.calls)
            open = sorted(running.children - running.ends.keys())
            watched = sorted(running.watched - running.ends.keys())
        if open:
            self._call(running, 0, children.Owning(open))
        if watched:
            self._call(running, 0, children.Watching(watched))
        for number, what in calls.items():
            self._call(running, number, what)


class _Block:
    """In which a task runs. Those of contextlib read and set attributes of the exception; its class may refuse that."""

    def __init__(self, calls: TaskCalls, running: _Running) -> None:
        self._calls = calls
        self._running = running

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._calls.ended(self._running)
