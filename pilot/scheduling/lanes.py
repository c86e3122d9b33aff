"""One lane: queued tasks that pilots are matched with by the same terms, in order of submission."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec

from pilot.resources import Terms
from pilot.scheduling.records import TaskRecord


@lru_cache(maxsize=10_000)
def terms_of_lane(terms: Terms, has_planner: bool) -> Terms:
    """What pilots are matched with for tasks of these terms. Where a policy chooses QPUs by estimates
    (``has_planner``), what is demanded of these does not matter."""
    terms = terms.matched()
    if has_planner and terms.facts is not None and (terms.min_fidelity or terms.fallback):
        facts = msgspec.structs.replace(terms.facts, fidelities=())
        return msgspec.structs.replace(terms, min_fidelity=0.0, fallback="", facts=facts)
    return terms


class Lane:
    """Queued tasks of one lane.

    New tasks come in the order of their ids, at the end. Tasks that were queued before, or waited for others, have
    their place by their ids. A task that is removed is only marked: it is skipped when it would be next.
    """

    __slots__ = (
        "_early",
        "_queue",
        "_removed",
        "_served",
        "group",
        "is_for_devices",
        "key",
        "last_arrival",
        "longest",
        "shortest",
        "terms",
        "weight",
    )

    def __init__(self, terms: Terms) -> None:
        #: What all of its tasks have in common.
        self.terms = terms
        self.is_for_devices = bool(terms.resources.qpu)
        self._queue: deque[TaskRecord] = deque()
        #: A heap of tasks that came out of the order of their ids.
        self._early: list[tuple[int, TaskRecord]] = []
        #: Ids of removed tasks that are still among the others.
        self._removed: set[int] = set()
        #: The sum of the weights of its tasks, where they are for QPUs.
        self.weight = 0.0
        #: Of the index: which pilots fit, and its place among the lanes.
        self.group: Any = None
        self.key: tuple[Any, ...] | None = None
        #: Bounds of the durations that its tasks are expected to have, where they have any, since it was empty.
        #: When the last task was submitted.
        self.last_arrival = float("-inf")
        self.longest = 0.0
        self.shortest = float("inf")
        #: That pilots can run all of its tasks: as `served` got it, and the `longest` at that time.
        self._served = (-1, 0.0, 0.0)

    def __len__(self) -> int:
        return len(self._queue) + len(self._early) - len(self._removed)

    def __iter__(self) -> Iterator[TaskRecord]:
        """Its tasks in order."""
        at, removed = 0, self._removed
        if not removed and not self._early:
            yield from self._queue
            return
        early = [record for id, record in sorted(self._early, key=itemgetter(0)) if id not in removed]
        for record in self._queue:
            if record.id in removed:
                continue
            while at < len(early) and early[at].id < record.id:
                yield early[at]
                at += 1
            yield record
        yield from early[at:]

    @property
    def head(self) -> TaskRecord:
        """The next task. There must be one."""
        early, queue = self._early, self._queue
        if self._removed:
            self._skip_removed()
        if early and (not queue or early[0][0] < queue[0].id):
            return early[0][1]
        return queue[0]

    def pop(self) -> TaskRecord:
        """Take the next task. There must be one."""
        record = self.head
        if self._early and self._early[0][1] is record:
            heapq.heappop(self._early)
        else:
            self._queue.popleft()
        if self.is_for_devices:
            self.weight -= record.weight
        return record

    def taken(self) -> Iterator[TaskRecord]:
        """Its tasks in order: each is taken when the one after it is asked for."""
        queue = self._queue
        while True:
            if self._early or self._removed or self.is_for_devices:
                if not self:
                    return
                yield self.head
                self.pop()
            elif queue:
                yield queue[0]
                queue.popleft()
            else:
                return

    def extend(self, records: Sequence[TaskRecord]) -> None:
        """Tasks that go to the end: new ones with the same `Terms`, or one that is tried again."""
        if self._removed and records[0].id in self._removed:
            self._drop_removed()
        self._queue.extend(records)
        self._count(records)

    def insert(self, record: TaskRecord) -> None:
        """A task that has its place by its id."""
        if record.id in self._removed:
            self._drop_removed()
        heapq.heappush(self._early, (record.id, record))
        self._count((record,))

    def remove(self, records: Iterable[TaskRecord]) -> None:
        """These of its tasks are queued here no more."""
        for record in records:
            self._removed.add(record.id)
            if self.is_for_devices:
                self.weight -= record.weight
        if len(self._removed) > 64 and 2 * len(self._removed) > len(self._queue) + len(self._early):
            self._drop_removed()

    def reorder(self, records: Iterable[TaskRecord]) -> None:
        """All of its tasks, in another order."""
        self._queue, self._early = deque(records), []
        self._removed.clear()

    def sample(self, most: int) -> list[TaskRecord]:
        """Some of its tasks from all over, at most this number."""
        step = max(1, -(-(len(self._queue) + len(self._early)) // most))
        found = [record for at, (_, record) in enumerate(self._early) if at % step == 0]
        found += [self._queue[at] for at in range(0, len(self._queue), step)]
        return [record for record in found if record.id not in self._removed] or [self.head]

    def served(self, version: int, until: float) -> None:
        """Until this time one of the pilots can run its tasks. ``version``: of what is known of the pilots."""
        self._served = (version, until, self.longest)

    def is_served(self, version: int, now: float) -> bool:
        """True when it is known that pilots can run all of its tasks."""
        known, until, longest = self._served
        return known == version and now < until and self.longest <= longest

    def validate(self) -> None:
        """Raise AssertionError unless its sums are right."""
        records = list(self)
        assert len(records) == len(self) > 0, f"a lane of {len(self)} tasks has {len(records)}"
        assert records[0] is self.head, "another task is next than the first one"
        weight = sum(record.weight for record in records) if self.terms.resources.qpu else 0.0
        assert abs(weight - self.weight) < 1e-6 * max(1.0, weight), f"tasks weigh {weight}, not {self.weight}"
        durations = [record.terms.duration or 0.0 for record in records]
        assert self.shortest <= min(durations), "a task is shorter than the shortest"
        assert self.longest >= max(durations), "a task is longer than the longest"

    def _count(self, records: Sequence[TaskRecord]) -> None:
        if self.is_for_devices:
            self.weight += sum(record.weight for record in records)
        duration = records[0].terms.duration or 0.0
        self.longest = max(self.longest, duration)
        self.shortest = min(self.shortest, duration)

    def _skip_removed(self) -> None:
        early, queue, removed = self._early, self._queue, self._removed
        while queue and queue[0].id in removed:
            removed.discard(queue.popleft().id)
        while early and early[0][0] in removed:
            removed.discard(heapq.heappop(early)[0])

    def _drop_removed(self) -> None:
        removed = self._removed
        self._queue = deque(record for record in self._queue if record.id not in removed)
        self._early = [one for one in self._early if one[0] not in removed]
        heapq.heapify(self._early)
        removed.clear()
