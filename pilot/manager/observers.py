"""Observers of a session: each subscription has a queue and a thread. `interfaces.Observer` has the rules."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence

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
    TaskSubmitted,
)
from pilot.manager.pilots import Pilot
from pilot.publishing import publish
from pilot.resources import QPUInfo
from pilot.results import Attempt, Outcome
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState

log = logging.getLogger(__name__)

#: Events of one subscription that wait at most.
MOST_WAITING = 100_000
#: Events wait this long for others, so that the thread wakes up seldom.
PAUSE_SECONDS = 0.05
#: Seconds that an observer has to take what waits, when its subscription or the manager ends.
CLOSE_SECONDS = 5.0

Kind = type[SessionEvent]
#: All that can be subscribed to. `EventsDropped` comes always.
KINDS: frozenset[Kind] = frozenset({TaskSubmitted, TaskChanged, TaskEnded, AttemptEnded, PilotChanged, QPUChanged})


class Subscription:
    """One observer of a session. `PilotManager.unsubscribe` ends it."""

    def __init__(self, observer: Observer, kinds: frozenset[Kind], tasks: Collection[int] | None, limit: int) -> None:
        self._observer = observer
        #: The kinds of events and the tasks that it gets.
        self.kinds = kinds
        #: How many events were left out since the queue was full.
        self.dropped = 0
        self._tasks = tasks
        self._limit = limit
        self._events: deque[SessionEvent] = deque()
        #: Left out since the last event that was taken.
        self._missing = 0
        self._has_failed = self._is_over = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pilot-observer", daemon=True)
        self._thread.start()

    def put(self, kind: Kind, events: Sequence[SessionEvent]) -> None:
        """Leave events, all of one kind, for the observer. Does not block."""
        if kind not in self.kinds:
            return
        if self._tasks is not None and issubclass(kind, TaskEvent):
            tasks = self._tasks
            events = [event for event in events if event.task in tasks]  # type: ignore[attr-defined]
        room = self._limit - len(self._events)
        if room < len(events) or self._missing:
            events = self._with_gap(events, room)
        self._events.extend(events)
        if not self._wake.is_set():
            self._wake.set()

    def _with_gap(self, events: Sequence[SessionEvent], room: int) -> list[SessionEvent]:
        """What there is room for; before it, how many are missing there."""
        taken = list(events[: max(0, room - 1)])
        if taken and self._missing:
            taken.insert(0, EventsDropped(time.time(), self._missing))
            self._missing = 0
        left = len(events) - max(0, room - 1)
        if left > 0:
            self._missing += left
            self.dropped += left
        return taken

    def close(self) -> None:
        """Tell the observer what waits, and nothing more. Blocks, some seconds at most; not in its thread."""
        self._is_over = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        events, call = self._events, self._call
        while True:
            self._wake.wait()
            if not self._is_over:
                time.sleep(PAUSE_SECONDS)
            is_over = self._is_over
            self._wake.clear()
            while events:
                call(events.popleft())
            if is_over:
                if self._missing:
                    call(EventsDropped(time.time(), self._missing))
                return

    def _call(self, event: SessionEvent) -> None:
        try:
            self._observer(event)
        except BaseException:  # SystemExit included: the next event comes all the same
            if not self._has_failed:
                log.exception("an observer failed at %s; what it raises from now on is not logged", event)
            self._has_failed = True

    def __repr__(self) -> str:
        return f"<Subscription of {self._observer!r}>"


publish(Subscription)


class Observers:
    """The subscriptions of one session. Any thread may call it; events come from the manager's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()
        #: Kinds of events that some subscription gets: no others are made.
        self._wanted: frozenset[Kind] = frozenset()
        #: The first task that is new to observers: those before are from before an attach.
        self.first_task = 1

    def add(self, subscription: Subscription) -> None:
        """Begin to tell it."""
        self._set((*self._subscriptions, subscription))

    def remove(self, subscription: Subscription) -> None:
        """Tell it nothing more."""
        self._set(tuple(one for one in self._subscriptions if one is not subscription))

    def _set(self, subscriptions: tuple[Subscription, ...]) -> None:
        with self._lock:
            self._subscriptions = subscriptions
            self._wanted = frozenset[Kind]().union(*(one.kinds for one in subscriptions))

    def _tell(self, kind: Kind, events: Sequence[SessionEvent]) -> None:
        for one in self._subscriptions:
            one.put(kind, events)

    def close(self) -> None:
        """End all subscriptions. Blocks, some seconds at most."""
        subscriptions = self._subscriptions
        self._set(())
        for one in subscriptions:
            one.close()

    # ---- what happens; a batch at a time --------------------------------------------------------------------

    def submitted(self, entries: Sequence[TaskRecord]) -> None:
        """Tasks were submitted, or taken over from the manager before."""
        if TaskSubmitted in self._wanted:
            first = self.first_task
            new = [TaskSubmitted(entry.submitted, entry.id, entry.title) for entry in entries if entry.id >= first]
            self._tell(TaskSubmitted, new)

    def sent(self, entries: Sequence[TaskRecord], pilot: str, now: float) -> None:
        """Tasks were sent to a pilot."""
        if TaskChanged in self._wanted:
            self._tell(TaskChanged, [TaskChanged(now, entry.id, TaskState.BOUND, pilot) for entry in entries])

    def started(self, task: int, pilot: str, worker: str) -> None:
        """A task has begun."""
        if TaskChanged in self._wanted:
            self._tell(TaskChanged, [TaskChanged(time.time(), task, TaskState.RUNNING, pilot, worker)])

    def ended(self, pairs: Iterable[tuple[TaskRecord, Outcome | None]]) -> None:
        """Tasks are over; those that have no outcome failed without one."""
        if TaskEnded not in self._wanted:
            return
        now, events = time.time(), []
        for entry, outcome in pairs:
            started, seconds = None, None
            if outcome is not None and outcome.started > 0:
                started, seconds = outcome.started, outcome.seconds
            events.append(
                TaskEnded(
                    now,
                    entry.id,
                    entry.name or entry.function.name,
                    entry.state,
                    entry.pilot,
                    entry.worker,
                    entry.submitted,
                    started,
                    seconds,
                    len(entry.attempts),
                )
            )
        self._tell(TaskEnded, events)

    def attempt_ended(self, entry: TaskRecord, attempt: Attempt) -> None:
        """An attempt did not count."""
        if AttemptEnded in self._wanted:
            pilot, worker = entry.pilot or "", attempt.worker
            event = AttemptEnded(attempt.ended, entry.id, attempt.number, pilot, worker, attempt.reason)
            self._tell(AttemptEnded, [event])

    def pilot_changed(self, pilot: Pilot) -> None:
        """A pilot is in a new state, or its job is."""
        if PilotChanged in self._wanted:
            event = PilotChanged(time.time(), pilot.id, pilot.name, pilot.state, pilot.reason, pilot.job)
            self._tell(PilotChanged, [event])

    def qpus_reported(self, pilot: Pilot, infos: Sequence[QPUInfo]) -> None:
        """The QPUs of a pilot have reported; before `Pilot.qpus` is changed."""
        if QPUChanged in self._wanted:
            new = [QPUChanged(time.time(), pilot.id, info) for info in infos if info not in pilot.qpus]
            self._tell(QPUChanged, new)
