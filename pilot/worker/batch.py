"""The batch that a worker has."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from pilot.results import Outcome
from pilot.wire import messages

#: A batch that may be given back later than after so many seconds takes long.
SHORT_SECONDS = 1.0


class HeldBatch:
    """A batch that the worker has, shared by the two threads; a thread that reads or writes its fields holds
    ``lock``."""

    def __init__(
        self, run: messages.RunBatch, batch: messages.BatchBody, functions: Sequence[tuple[str, bytes]]
    ) -> None:
        self.lock = threading.Lock()
        self.id = run.batch
        #: Digest and pickle of each.
        self.functions = functions
        self.give_back_seconds = run.give_back_seconds
        #: It may take long, or has to be ended in time.
        self.has_attention = (
            bool(run.alone or run.limit or run.resources.ranks) or run.give_back_seconds > SHORT_SECONDS
        )
        self.resources = run.resources
        self.hosts = run.hosts
        self.gpus = run.gpus
        self.works = batch.works
        self.values = batch.values
        #: Index of the task that runs; None before the first and after the last.
        self.at: int | None = None
        #: Tasks from here on were given back.
        self.end = len(batch.works)
        self.began = self.task_began = 0.0
        self.task_wall = 0.0
        self.done: list[Outcome] = []
        #: How many tasks, from `at` on, run together.
        self.together = 1
        self.skip: set[int] = set()
        #: Index of the last task whose start was reported.
        self.reported = -1

    def begin(self) -> int | None:
        """Index of the first task, which begins now; None when all were given back."""
        with self.lock:
            if self.end:
                self.at = 0
                self.began = self.task_began = time.perf_counter()
                self.task_wall = time.time()
            return self.at

    def step(self, *outcomes: Outcome) -> int | None:
        """The running task, or those that run together, are over; index of the next one, which begins now."""
        with self.lock:
            self.done += outcomes
            assert self.at is not None
            self.together, following = 1, self.at + len(outcomes)
            self.at = following if following < self.end else None
            self.task_began = time.perf_counter()
            self.task_wall = time.time()
            return self.at

    def take(self) -> list[Outcome]:
        """The outcomes that were not sent yet. The lock is held."""
        outcomes, self.done = self.done, []
        return outcomes

    def unfinished(self) -> list[int]:
        """The tasks that have no outcome and were not given back. The lock is held."""
        return [] if self.at is None and self.began else [work.task for work in self.works[self.at or 0 : self.end]]

    def give_back(self) -> list[int]:
        """The tasks that were not begun, which never will be. The lock is held."""
        if self.at is None and self.began:
            return []  # all of them are over; the main thread is about to send the last outcomes
        first = 0 if self.at is None else self.at + self.together
        tasks = [work.task for work in self.works[first : self.end]]
        self.end = min(self.end, first)
        return tasks
