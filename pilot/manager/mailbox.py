"""What other threads leave for the manager's thread, and how they wake it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from pilot.scheduling import events
from pilot.scheduling.records import TaskRecord

_Answer = TypeVar("_Answer")

#: An event for the controller, a command that needs no decision, or a function to call.
Item = events.Event | events.Command | Callable[[], object]

#: Seconds between two looks whether the thread that is to answer has ended.
ASK_SECONDS = 0.1


class Mailbox:
    """New tasks, and in a queue of their own all other items. Many threads put, one takes.

    Its queues need no lock: each operation of a deque is atomic.
    """

    def __init__(self) -> None:
        self._tasks: deque[TaskRecord] = deque()
        self._items: deque[Item] = deque()
        self._sleeping = False
        #: The pipe that ends the sleep of the thread that takes: it polls `descriptor`.
        self.descriptor, self._writer = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writer, False)
        #: Held for a moment, to write to the pipe or to close it: the number of a closed descriptor is soon that of
        #: another file. A handler of a signal, or a finalizer, may come while its own thread holds it.
        self._piping = threading.RLock()
        #: The threads that must not wait for the one that takes: itself, and those that it waits for.
        self.own_threads: set[threading.Thread] = set()
        #: True when no more tasks are taken: who puts one must cancel it.
        self.is_over = False
        self._is_closed = False

    # ---- any thread -------------------------------------------------------------------------------------------

    def put_task(self, entry: TaskRecord) -> None:
        """Leave a new task."""
        self._tasks.append(entry)
        if self._sleeping:
            self.wake()

    def put(self, item: Item) -> None:
        """Leave anything else."""
        self._items.append(item)
        self.wake()

    def when_taken(self) -> threading.Event:
        """It is set when all that was left before is taken and handled."""
        taken = threading.Event()
        self.put(taken.set)
        return taken

    def wake(self) -> None:
        """End the sleep of the thread that takes."""
        self._sleeping = False
        with self._piping, contextlib.suppress(BlockingIOError):
            if not self._is_closed:
                os.write(self._writer, b"x")

    def is_own_thread(self) -> bool:
        """True in a thread that must not wait for the one that takes."""
        return threading.current_thread() in self.own_threads

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Have the thread that takes call this, and wait for what it returns or raises.

        In one of the own threads, or when that thread has ended, it is called here.
        """
        if self.is_own_thread():
            return question()
        answer: Future[_Answer] = Future()

        def reply() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        self.put(reply)
        while not self._is_closed:
            with contextlib.suppress(TimeoutError):
                return answer.result(timeout=ASK_SECONDS)
        return question()

    # ---- the thread that takes --------------------------------------------------------------------------------

    def may_sleep(self) -> bool:
        """True when there is nothing to take. From now on, until `awake`, who puts something writes to the pipe."""
        self._sleeping = True
        return not (self._tasks or self._items)

    def awake(self, readable: bool) -> None:
        """The sleep is over; ``readable``: there is something in the pipe."""
        self._sleeping = False
        if readable:
            os.read(self.descriptor, 4096)

    def take_tasks(self) -> list[TaskRecord]:
        """The new tasks, in order."""
        tasks = self._tasks
        return [tasks.popleft() for _ in range(len(tasks))] if tasks else []

    def take_late_tasks(self) -> Iterator[TaskRecord]:
        """The same for several threads at once, each task to one of them."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._tasks.popleft()

    def take(self) -> Item | None:
        """The next item; None: there is none."""
        return self._items.popleft() if self._items else None

    def close(self) -> None:
        """Close the pipe: nothing is taken any more."""
        with self._piping:
            self._is_closed = True
            os.close(self.descriptor)
            os.close(self._writer)
