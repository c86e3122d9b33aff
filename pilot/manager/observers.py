"""Observers of a session: each subscription has a queue and a thread. `interfaces.Observer` has the rules."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import repeat

from pilot.errors import invalid
from pilot.interfaces import (
    AttemptEnded,
    EventsDropped,
    Observer,
    PilotChanged,
    QPUChanged,
    SessionEvent,
    TaskChanged,
    TaskEnded,
    TaskEvent,
    TaskOutput,
    TaskSubmitted,
)
from pilot.manager.pilots import Pilot
from pilot.publishing import publish
from pilot.resources import QPUInfo
from pilot.results import Attempt, Outcome
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState

log = logging.getLogger(__name__)

#: Events of one subscription that wait at most, and those of one batch more.
MOST_WAITING = 100_000
#: The same for observers that count, or write down, all that happens: an event left out would make them wrong.
NO_LIMIT = sys.maxsize
#: Events wait this long for others, so that the thread wakes up seldom.
PAUSE_SECONDS = 0.05
#: An observer gets so many events at once, and those of one batch more.
AT_ONCE = 1000
#: Seconds that an observer has to take what waits, when its subscription or the manager ends.
CLOSE_SECONDS = 5.0

Kind = type[SessionEvent]
#: All that can be subscribed to. `EventsDropped` comes always.
KINDS: frozenset[Kind] = frozenset(
    {TaskSubmitted, TaskChanged, TaskOutput, TaskEnded, AttemptEnded, PilotChanged, QPUChanged}
)


def kinds_of(given: Iterable[Kind]) -> frozenset[Kind]:
    """The kinds of events that somebody wants, checked.

    Raises:
        DescriptionError: there are none, or one of them is no kind of events.
    """
    kinds = [] if isinstance(given, type) or not isinstance(given, Iterable) else list(given)
    if not kinds or any(kind not in (*KINDS, EventsDropped) for kind in kinds):
        known = ", ".join(sorted(kind.__name__ for kind in KINDS))
        raise invalid("kinds", kinds or given, f"a list of classes of events: {known}")
    return frozenset(kinds)


#: Makes the events of a batch, in the thread of an observer: to make and keep them all would cost the manager's thread
#: more than all else that it does for an observer.
Make = Callable[[], list[SessionEvent]]


class Subscription:
    """One observer of a session. `PilotManager.unsubscribe` ends it."""

    def __init__(self, observer: Observer, kinds: frozenset[Kind], tasks: Collection[int] | None, limit: int) -> None:
        self._observer = observer
        #: The kinds of events and the tasks that it gets.
        self.kinds = kinds
        #: How many events were left out since too many waited.
        self.dropped = 0
        self._tasks = tasks
        self._limit = limit
        #: Held for a moment, to read or write the next three.
        self._lock = threading.Lock()
        self._batches: list[Make] = []
        self._waiting = 0
        #: Left out since the last batch that was taken.
        self._missing = 0
        self._has_failed = self._is_over = False
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="pilot-observer", daemon=True)
        self._thread.start()

    def put(self, kind: Kind, count: int, make: Make) -> None:
        """Leave so many events, all of one kind, for the observer. Does not block."""
        if kind not in self.kinds or not count:
            return
        if self._tasks is not None and issubclass(kind, TaskEvent):
            tasks = self._tasks
            events = [event for event in make() if event.task in tasks]  # type: ignore[attr-defined]
            count, make = len(events), lambda: events
        with self._lock:
            if self._waiting >= self._limit:
                self._missing += count
                self.dropped += count
                return
            self._tell_missing()
            self._batches.append(make)
            self._waiting += count
        if not self._wake.is_set():
            self._wake.set()

    def _tell_missing(self) -> None:
        if self._missing:
            gap: list[SessionEvent] = [EventsDropped(time.time(), self._missing)]
            self._batches.append(lambda: gap)
            self._missing = 0

    @property
    def is_over(self) -> bool:
        """True when nothing more is reported: it was ended, or the manager was closed."""
        return self._is_over

    def hurry(self) -> None:
        """Tell the observer what waits now, and not after a pause for more. Does not block."""
        self._hurry.set()

    def close(self, timeout: float | None = CLOSE_SECONDS) -> None:
        """Tell the observer what waits, and nothing more. Blocks so many seconds at most, None: until it has all; not
        in its thread."""
        self._is_over = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        is_over = False
        while not is_over:
            self._wake.wait()
            if not self._is_over:
                self._hurry.wait(PAUSE_SECONDS)
            is_over = self._is_over
            self._wake.clear()
            self._hurry.clear()
            with self._lock:
                if is_over:
                    self._tell_missing()
                batches, self._batches = self._batches, []
                self._waiting = 0
            events: list[SessionEvent] = []
            for make in batches:
                events += make()
                if len(events) >= AT_ONCE:
                    self._call(events)
                    events = []
            if events:
                self._call(events)

    def _call(self, events: list[SessionEvent]) -> None:
        try:
            self._observer(events)
        except BaseException:  # SystemExit included: the next events come all the same
            if not self._has_failed:
                log.exception("%r failed; what it raises from now on is not logged", self)
            self._has_failed = True

    def __repr__(self) -> str:
        return f"<Subscription of {self._observer!r}>"


publish(Subscription)


class Observers:
    """The subscriptions of one session. Any thread may call it; what happens comes from the manager's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._closed = False
        #: Kinds of events that some subscription gets: no others are made.
        self._wanted: frozenset[Kind] = frozenset()
        #: The first task that is new to observers: those before are from before an attach.
        self.first_task = 1

    def add(self, subscription: Subscription) -> None:
        """Begin to tell it. One that comes while the manager is being closed is told nothing."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._set((*self._subscriptions, subscription))
        if closed:
            subscription.close()

    def remove(self, subscription: Subscription) -> None:
        """Tell it nothing more."""
        with self._lock:
            self._set(tuple(one for one in self._subscriptions if one is not subscription))

    def _set(self, subscriptions: tuple[Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self._wanted = frozenset[Kind]().union(*(one.kinds for one in subscriptions))

    def close(self) -> None:
        """End all subscriptions. Blocks, some seconds at most."""
        with self._lock:
            self._closed, subscriptions = True, self._subscriptions
            self._set(())
        for one in subscriptions:
            one.close()

    def _tell(self, kind: Kind, count: int, make: Make) -> None:
        for one in self._subscriptions:
            one.put(kind, count, make)

    def _tell_one(self, event: SessionEvent) -> None:
        self._tell(type(event), 1, lambda: [event])

    # ---- what happens; a batch at a time. What is kept for an observer must not change any more -------

    def submitted(self, entries: Sequence[TaskRecord]) -> None:
        """Tasks were submitted, or taken over from the manager before."""
        if TaskSubmitted in self._wanted:
            first = self.first_task
            new = [entry for entry in entries if entry.id >= first]
            self._tell(TaskSubmitted, len(new), lambda: [TaskSubmitted(e.submitted, e.id, e.title) for e in new])

    def sent(self, entries: Sequence[TaskRecord], pilot: str, now: float) -> None:
        """Tasks were sent to a pilot."""
        if TaskChanged in self._wanted:
            bound = TaskState.BOUND
            self._tell(
                TaskChanged, len(entries), lambda: [TaskChanged(now, entry.id, bound, pilot) for entry in entries]
            )

    def started(self, task: int, pilot: str, worker: str) -> None:
        """A task has begun."""
        if TaskChanged in self._wanted:
            self._tell_one(TaskChanged(time.time(), task, TaskState.RUNNING, pilot, worker))

    def written(self, task: int, stdout: str, stderr: str) -> None:
        """A task that runs has written something."""
        if TaskOutput in self._wanted:
            self._tell_one(TaskOutput(time.time(), task, stdout, stderr))

    def ended(self, pairs: Sequence[tuple[TaskRecord, Outcome]]) -> None:
        """Tasks are over, each with an outcome."""
        if TaskEnded in self._wanted:
            now, entries = time.time(), [entry for entry, _ in pairs]
            # not the outcomes, which have values; and no tuples, which would call the garbage collector more often
            started, seconds = [one.started for _, one in pairs], [one.seconds for _, one in pairs]
            self._tell(TaskEnded, len(entries), lambda: list(map(_ended, repeat(now), entries, started, seconds)))

    def failed(self, entries: Sequence[TaskRecord]) -> None:
        """Tasks are over without an outcome."""
        if TaskEnded in self._wanted:
            now = time.time()
            self._tell(TaskEnded, len(entries), lambda: [_ended(now, entry, 0.0, 0.0) for entry in entries])

    def attempt_ended(self, entry: TaskRecord, attempt: Attempt) -> None:
        """An attempt did not count."""
        if AttemptEnded in self._wanted:
            pilot, worker = entry.pilot or "", attempt.worker
            what = (attempt.number, pilot, worker, attempt.reason, attempt.started)
            self._tell_one(AttemptEnded(attempt.ended, entry.id, *what))

    def pilot_changed(self, pilot: Pilot) -> None:
        """A pilot is in a new state, or its job is."""
        if PilotChanged in self._wanted:
            self._tell_one(PilotChanged(time.time(), pilot.id, pilot.name, pilot.state, pilot.reason, pilot.job))

    def qpus_reported(self, pilot: Pilot, infos: Sequence[QPUInfo]) -> None:
        """The QPUs of a pilot have reported; before `Pilot.qpus` is changed."""
        if QPUChanged in self._wanted:
            for info in infos:
                if info not in pilot.qpus:
                    self._tell_one(QPUChanged(time.time(), pilot.id, info))


def _ended(now: float, entry: TaskRecord, started: float, seconds: float) -> SessionEvent:
    return TaskEnded(
        now,
        entry.id,
        entry.name or entry.function.name,
        entry.state,
        entry.pilot,
        entry.worker,
        entry.submitted,
        started or None,
        seconds if started else None,
        len(entry.attempts),
    )
