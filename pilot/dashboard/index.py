"""`TaskIndex`: some columns of every task of a session, to count, filter, sort and page them without their handles."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.manager.following import TaskLine
from pilot.states import TaskState

#: A task that no pilot has yet: whether it waits for other tasks, its handle says.
STATES = (TaskState.QUEUED, TaskState.BOUND, TaskState.RUNNING, TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED)
#: The number of a state in the columns; 0: no such task.
_NUMBERS = {state: number for number, state in enumerate(STATES, 1)} | {TaskState.WAITING: 1}
_ENDED = _NUMBERS[TaskState.DONE]

#: One row for each task id, from 0 on; times are seconds since the epoch, NaN where there is none yet.
_COLUMNS = np.dtype(
    [
        ("state", np.uint8),
        ("pilot", np.int32),
        ("name", np.int32),
        ("submitted", np.float64),
        ("started", np.float64),
        ("seconds", np.float64),
        ("ended", np.float64),
    ]
)
#: What tasks can be sorted by.
SORTS = ("id", "name", "state", "pilot", "submitted", "seconds")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks to show."""

    #: A part of the name, whatever the case, or an id.
    text: str = ""
    state: TaskState | None = None
    #: Id of a pilot.
    pilot: str | None = None
    #: One of `SORTS`.
    sort: str = "id"
    descending: bool = True
    #: From 0 on.
    page: int = 0
    size: int = 25


class Page(NamedTuple):
    """The tasks of one page, and how many there are on all."""

    lines: list[TaskLine]
    total: int
    #: As it is: at most the last one.
    page: int
    pages: int


class _Names:
    """Texts by number, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self._numbers = {"": 0}

    def number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def matching(self, text: str) -> NDArray[np.bool_]:
        """For each number: whether its text has this part."""
        return np.fromiter((text in one.lower() for one in self.texts), bool, len(self.texts))

    def ranks(self) -> NDArray[np.intp]:
        """For each number: the place of its text in the alphabet."""
        return np.argsort(np.argsort(np.array(self.texts, dtype=object), kind="stable"))


class TaskIndex:
    """The columns. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns = np.zeros(1024, _COLUMNS)
        #: One more than the largest id.
        self._end = 1
        self._names, self._pilots = _Names(), _Names()
        #: By task, and by number: the attempts that did not count, from when to when.
        self._lost: dict[int, dict[int, tuple[float, float]]] = {}
        #: Grows with each change.
        self.version = 0

    # ---- what happens ---------------------------------------------------------------------------------------------

    def add(self, tasks: Sequence[tuple[int, str, float]]) -> None:
        """Tasks were submitted: id, name, and when. Those that are known stay as they are."""
        if not tasks:
            return
        with self._lock:
            self._grow(max(task[0] for task in tasks))
            rows = self._columns
            for id, name, submitted in tasks:
                if not rows["state"][id]:
                    rows[id] = (1, 0, self._names.number(name), submitted, np.nan, np.nan, np.nan)
            self.version += 1

    def change(self, changes: Iterable[tuple[int, TaskState, str, float]]) -> None:
        """Tasks are in another state, which is not their last, on a pilot ("": none), since a moment. Those that are
        over or unknown stay as they are."""
        with self._lock:
            rows = self._columns
            for id, state, pilot, since in changes:
                if id < self._end and 0 < rows["state"][id] < _ENDED:
                    rows["state"][id], rows["pilot"][id] = _NUMBERS[state], self._pilots.number(pilot)
                    rows["started"][id] = since if state is TaskState.RUNNING else np.nan
            self.version += 1

    def end(self, lines: Sequence[TaskLine]) -> None:
        """Tasks are over, known ones or not."""
        if not lines:
            return
        with self._lock:
            self._grow(max(line.id for line in lines))
            rows = self._columns
            for line in lines:
                rows[line.id] = (
                    _NUMBERS[line.state],
                    self._pilots.number(line.pilot),
                    self._names.number(line.name),
                    *(np.nan if t is None else t for t in (line.submitted, line.started, line.seconds, line.ended)),
                )
            self.version += 1

    def lose(self, attempts: Iterable[tuple[int, int, float | None, float]]) -> None:
        """Attempts did not count, known ones or not: task, number, when each began (None: not known) and ended."""
        with self._lock:
            for id, number, began, ended in attempts:
                self._lost.setdefault(id, {})[number] = (ended if began is None else began, ended)
            self.version += 1

    def _grow(self, id: int) -> None:
        if id >= len(self._columns):
            more = np.zeros(max(id + 1, 2 * len(self._columns)), _COLUMNS)
            more[: self._end] = self._columns[: self._end]
            self._columns = more
        self._end = max(self._end, id + 1)

    # ---- what is shown --------------------------------------------------------------------------------------------

    def counts(self) -> dict[TaskState, int]:
        """How many tasks are in each of `STATES`."""
        with self._lock:
            found = np.bincount(self._columns["state"][: self._end], minlength=len(STATES) + 1)
        return {state: int(found[number]) for number, state in enumerate(STATES, 1)}

    def by_pilot(self) -> dict[str, dict[TaskState, int]]:
        """The same for each pilot that has or had a task, by its id."""
        with self._lock:
            rows = self._columns[: self._end]
            width = len(STATES) + 1
            both = np.bincount(rows["pilot"] * width + rows["state"], minlength=len(self._pilots.texts) * width)
            names = list(self._pilots.texts)
        table = both.reshape(-1, width)
        return {
            name: {state: int(table[at, number]) for number, state in enumerate(STATES, 1)}
            for at, name in enumerate(names)
            if name
        }

    def ended_in(self, first: float, last: float, bins: int) -> list[int]:
        """How many tasks ended in each of so many equal parts of a time span; wall clocks."""
        with self._lock:
            ended = self._columns["ended"][: self._end]
            ended = ended[(ended >= first) & (ended <= last)]
        return [int(count) for count in np.histogram(ended, bins, (first, last))[0]]

    def span(self) -> tuple[float, float] | None:
        """When the first task was submitted, and the last one ended; None: none has ended."""
        with self._lock:
            rows = self._columns[: self._end]
            rows = rows[rows["state"] >= _ENDED]
            ended = rows["ended"][~np.isnan(rows["ended"])]
            if not len(ended):
                return None
            return float(np.nanmin(rows["submitted"])), float(ended.max())

    def unfinished(self) -> list[int]:
        """Ids of the tasks that are not over, in order."""
        with self._lock:
            states = self._columns["state"][: self._end]
            return [int(id) for id in np.flatnonzero((states > 0) & (states < _ENDED))]

    @property
    def last(self) -> int:
        """The largest id; 0: there is none."""
        return self._end - 1

    def page(self, query: Query) -> Page:
        """The tasks that a page of the table shows."""
        with self._lock:
            ids = self._found(query)
            total = len(ids)
            pages = max(1, -(-total // query.size))
            page = min(max(query.page, 0), pages - 1)
            ids = self._sorted(ids, query, page * query.size, query.size)
            lines = [self._line(int(id)) for id in ids]
        return Page(lines, total, page, pages)

    def _found(self, query: Query) -> NDArray[np.intp]:
        rows = self._columns[: self._end]
        wanted = rows["state"] > 0
        if query.state is not None:
            wanted &= rows["state"] == _NUMBERS[query.state]
        if query.pilot is not None:
            wanted &= rows["pilot"] == self._pilots.number(query.pilot)
        if text := query.text.strip().lower():
            named = self._names.matching(text)[rows["name"]]
            if text.isdecimal() and int(text) < self._end:
                named[int(text)] = True
            wanted &= named
        return np.flatnonzero(wanted)

    def _sorted(self, ids: NDArray[np.intp], query: Query, first: int, size: int) -> NDArray[np.intp]:
        """Some of these, in the order that is asked for; equal ones by id."""
        if query.sort != "id":
            keys = self._columns[query.sort][ids]
            if query.sort in ("name", "pilot"):
                keys = (self._names if query.sort == "name" else self._pilots).ranks()[keys]
            order = np.argsort(-keys.astype(float) if query.descending else keys, kind="stable")
            return ids[order[first : first + size]]
        return (ids[::-1] if query.descending else ids)[first : first + size]

    def _line(self, id: int) -> TaskLine:
        state, pilot, name, *times = self._columns[id].item()
        # NaN is not equal to itself
        submitted, started, seconds, ended = (None if moment != moment else moment for moment in times)
        what = (id, self._names.texts[name], STATES[state - 1], self._pilots.texts[pilot])
        return TaskLine(*what, submitted, started, seconds, ended, tuple(self._lost.get(id, {}).values()))
