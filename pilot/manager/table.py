"""The tasks of a session by id: the handles of those that have not ended, and how those that have are found again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from weakref import ref

from pilot.manager.handles import Task, leave
from pilot.states import TaskState

#: Ids of one block of an `IdSet`, and tasks that are read from the journal at once.
BLOCK, READ = 64, 1024
#: When tasks are asked for one after the other, in about the order of their ids, so many are read at once.
AHEAD = 256


class IdSet:
    """A set of ids, most of which are consecutive: it takes a few bits for each."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        #: Number of a block → a bit for each of its ids.
        self._blocks: dict[int, int] = {}
        self._count = 0
        self.update(ids)

    def update(self, ids: Iterable[int]) -> None:
        """Add ids; those that are there stay."""
        number, block = 0, 0
        for id in ids:
            if id // BLOCK != number:
                self._add(number, block)
                number, block = id // BLOCK, 0
            block |= 1 << id % BLOCK
        self._add(number, block)

    def _add(self, number: int, block: int) -> None:
        before = self._blocks.get(number, 0)
        if new := block & ~before:
            self._blocks[number] = before | block
            self._count += new.bit_count()

    def discard(self, id: int) -> None:
        """Nothing happens when it is not there."""
        number, bit = id // BLOCK, 1 << id % BLOCK
        block = self._blocks.get(number, 0)
        if block & bit:
            self._count -= 1
            if block == bit:
                del self._blocks[number]
            else:
                self._blocks[number] = block ^ bit

    def __contains__(self, id: int) -> bool:
        return bool(self._blocks.get(id // BLOCK, 0) >> id % BLOCK & 1)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        for number, block in sorted(self._blocks.items()):
            for place in range(block.bit_length()):
                if block >> place & 1:
                    yield number * BLOCK + place


class TaskTable(Mapping[int, Task]):
    """Every task of a session that was not forgotten, in the order of the ids. Any thread may call it.

    It holds the handles of tasks whose end is not in the journal yet. Of the others it has the ids, and the handles
    that somebody else holds; a handle that nobody holds is made again from the journal when it is asked for. So a task
    that nobody holds takes no memory after its end. Only the handles of tasks with parts stay, since the journal does
    not know the parts.
    """

    def __init__(self, load: Callable[[int, int], list[Task]]) -> None:
        """Make an empty one.

        Args:
            load: makes the handles of all ended tasks from the first id to the last one, both included.
        """
        self._load = load
        self._open: dict[int, Task] = {}
        self._ended = IdSet()
        self._held: dict[int, ref[Task]] = {}
        #: The last ended task that was asked for by itself; what was read with it is held for the next one.
        self._last = 0
        self._ahead: dict[int, Task] = {}
        #: When it has more, those that nobody holds any more are left out.
        self._most_held = READ
        self._lock = threading.RLock()

    def forked(self) -> None:
        """In a forked child: a thread that is not here may have held the lock."""
        self._lock = threading.RLock()

    # ---- what the session does --------------------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """A new task."""
        self._open[task.id] = task

    def add_ended(self, ids: IdSet) -> None:
        """The tasks that had ended before this manager was attached."""
        self._ended = ids

    def recorded(self, ids: Iterable[int]) -> None:
        """The ends of these tasks are in the journal now. Those that were forgotten since are left out."""
        known = self._open
        with self._lock:
            tasks = {id: task for id in ids if (task := known.get(id)) is not None and leave(task)}
            self._ended.update(tasks)
            self._held.update(zip(tasks, map(ref, tasks.values()), strict=True))
            for id in tasks:
                del known[id]
            self._leave_out_dropped()

    def _leave_out_dropped(self) -> None:
        if len(self._held) > self._most_held:
            self._held = {id: held for id, held in self._held.items() if held() is not None}
            self._most_held = 2 * len(self._held) + READ

    def remove(self, id: int) -> None:
        """A task is forgotten."""
        with self._lock:
            self._open.pop(id, None)
            self._held.pop(id, None)
            self._ended.discard(id)

    def not_recorded(self) -> list[Task]:
        """The tasks whose end is not in the journal, in the order of submission: all that have not ended, and some that
        have."""
        return list(self._open.values())

    def counts(self, not_done: Callable[[], Iterable[tuple[int, TaskState]]]) -> Counter[TaskState]:
        """How many tasks are in each state, without a handle for each. ``not_done``: of the journal."""
        with self._lock:
            found = Counter(task.state for task in self.not_recorded())
            others = Counter(state for id, state in not_done() if id in self._ended)
            found[TaskState.DONE] += len(self._ended) - others.total()
            return +(found + others)

    # ---- a mapping --------------------------------------------------------------------------------------------

    def __getitem__(self, id: int) -> Task:
        task = self._open.get(id)
        if task is None and (held := self._held.get(id)) is not None:
            task = held()
        return task if task is not None else self._ended_task(id)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, int) and (id in self._open or id in self._ended)

    def __len__(self) -> int:
        with self._lock:
            return len(self._open) + len(self._ended)

    def __iter__(self) -> Iterator[int]:
        with self._lock:
            return iter(sorted([*self._open, *self._ended]))

    def __repr__(self) -> str:
        return f"<{len(self)} tasks>"

    def items(self) -> ItemsView[int, Task]:
        return _Items(self)

    def values(self) -> ValuesView[Task]:
        return _Values(self)

    def in_order(self) -> Iterator[tuple[int, Task]]:
        """All ids and tasks, which are read from the journal many at a time."""
        ids = list(self)
        for at in range(0, len(ids), READ):
            block = ids[at : at + READ]
            ended = self._ended_tasks(block[0], block[-1])
            for id in block:
                task = self._open.get(id) or ended.get(id) or self.get(id)
                if task is not None:  # else it was forgotten meanwhile
                    yield id, task

    def _ended_task(self, id: int) -> Task:
        """The handle of an ended task; those behind it are read along when it is not the first one of a row."""
        with self._lock:
            held = self._held.get(id)
            task = held() if held is not None else None
            is_next = 0 < id - self._last <= AHEAD
            self._last = id
            if task is None and is_next and id in self._ended:
                self._ahead = self._ended_tasks(id, id + AHEAD - 1)
            task = task or self._ended_tasks(id, id).get(id)
            if task is None:
                raise KeyError(f"task {id} was forgotten meanwhile" if id in self._ended else id)
            return task

    def _ended_tasks(self, first: int, last: int) -> dict[int, Task]:
        """The handles of ended tasks: those that somebody holds, and new ones."""
        with self._lock:
            found: dict[int, Task] = {}
            missing = False
            for id in range(first, last + 1):
                held = self._held.get(id)
                task = self._open.get(id) or (held() if held is not None else None)
                if task is not None:
                    found[id] = task
                elif id in self._ended:
                    missing = True
            if missing:
                for task in self._load(first, last):
                    if task.id in self._ended and task.id not in found:
                        found[task.id] = task
                        self._held[task.id] = ref(task)
                self._leave_out_dropped()
        return found


class _Items(ItemsView[int, Task]):
    _mapping: TaskTable

    def __iter__(self) -> Iterator[tuple[int, Task]]:
        return self._mapping.in_order()


class _Values(ValuesView[Task]):
    _mapping: TaskTable

    def __iter__(self) -> Iterator[Task]:
        return (task for _, task in self._mapping.in_order())
