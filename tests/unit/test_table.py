"""The table of tasks: what has ended and nobody holds is read from the journal, and is one and the same handle."""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import pytest

from pilot.manager.handles import Task, entry_of, outcome_of, settle
from pilot.manager.journal import Recorded
from pilot.manager.table import AHEAD, READ, IdSet, TaskTable
from pilot.resources import PLAIN
from pilot.results import KEPT_BYTES, OK, Outcome
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import TaskState

WORK = FunctionRecord(1, "digest", "work")


def test_a_set_of_ids_is_a_set() -> None:
    dice, ids, expected = random.Random(3), IdSet(), set[int]()
    for _ in range(5000):
        id = dice.choice((dice.randrange(1, 3000), dice.randrange(1, 10**9)))
        if dice.random() < 0.6:
            more = range(id, id + dice.choice((1, 1, 200)))
            ids.update(more)
            expected.update(more)
        else:
            victim = dice.choice(sorted(expected)) if expected and dice.random() < 0.5 else id
            ids.discard(victim)
            expected.discard(victim)
        assert (id in ids) == (id in expected)
    assert (list(ids), len(ids)) == (sorted(expected), len(expected))


class Journal:
    """Stands for the journal: the ids of the ended tasks that it has, and how often it was read."""

    def __init__(self) -> None:
        self.ended: set[int] = set()
        self.reads = 0

    def read(self, first: int, last: int) -> list[Task]:
        self.reads += 1
        tasks = [new(id) for id in sorted(self.ended) if first <= id <= last]
        for task in tasks:
            settle(task, Recorded(task.id, OK, 1.0, 0.5), None)
        return tasks


def new(id: int) -> Task:
    return Task(None, TaskRecord(id, WORK, None, PLAIN, None, 0.0))  # type: ignore[arg-type]


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def table(journal: Journal) -> TaskTable:
    return TaskTable(journal.read)


def end(table: TaskTable, journal: Journal, task: Task, value: bytes = b"v") -> None:
    entry_of(task).state = TaskState.DONE
    settle(task, Outcome(task.id, OK, 1.0, 0.5, value), None)
    journal.ended.add(task.id)
    table.recorded([task.id])


def test_a_handle_that_somebody_holds_is_the_one_that_is_found(table: TaskTable, journal: Journal) -> None:
    task = new(1)
    table.add(task)
    assert table[1] is task and table.not_recorded() == [task]
    end(table, journal, task)
    assert table[1] is task and table.not_recorded() == []
    gone = weakref.ref(task)
    del task
    gc.collect()
    assert gone() is None
    again = table[1]
    assert again.done() and table[1] is again and table.get(1) is again
    assert journal.reads == 1
    table.remove(1)
    assert 1 not in table and table.get(1) is None and len(table) == 0


def test_tasks_that_are_asked_for_in_turn_are_read_together(table: TaskTable, journal: Journal) -> None:
    count = 10 * AHEAD
    journal.ended.update(range(1, count + 1))
    table.add_ended(IdSet(journal.ended))
    assert [table[id].id for id in range(1, count + 1)] == list(range(1, count + 1))
    assert journal.reads == 10 and len(table._held) < 3 * READ
    ids = random.Random(5).sample(range(1, count + 1), 100)
    assert [table[id].id for id in ids] == ids
    assert journal.reads <= 110


def test_tasks_are_counted_without_handles(table: TaskTable, journal: Journal) -> None:
    for id in range(1, 8):
        table.add(new(id))
    for id in range(1, 6):
        end(table, journal, table[id])
    gc.collect()
    table.remove(5)
    states = [(2, TaskState.FAILED), (3, TaskState.CANCELLED), (5, TaskState.FAILED), (7, TaskState.FAILED)]
    waiting = table[6].state
    assert table.counts(lambda: states) == {TaskState.DONE: 2, TaskState.FAILED: 1, TaskState.CANCELLED: 1, waiting: 2}
    assert journal.reads == 0


@pytest.mark.parametrize("size", [KEPT_BYTES, KEPT_BYTES + 1])
def test_a_large_value_leaves_the_memory_when_it_is_recorded(table: TaskTable, journal: Journal, size: int) -> None:
    task = new(1)
    table.add(task)
    end(table, journal, task, bytes(size))
    outcome: Any = outcome_of(task)
    assert isinstance(outcome, Recorded) == (size > KEPT_BYTES)
    assert (outcome.status, outcome.started, outcome.seconds) == (OK, 1.0, 0.5)


def test_a_task_with_parts_stays(table: TaskTable, journal: Journal) -> None:
    whole, part = new(2), new(1)
    whole.parts = (part,)
    for task in (part, whole):
        table.add(task)
        end(table, journal, task)
    del task, part
    assert table[2].parts[0] is table[1] and journal.reads == 0


def test_all_tasks_come_in_the_order_of_their_ids(table: TaskTable, journal: Journal) -> None:
    dice, held = random.Random(4), []
    count = 3 * READ
    for id in range(1, count + 1):
        task = new(id)
        table.add(task)
        if dice.random() < 0.8:
            end(table, journal, task)
        if dice.random() < 0.1:
            held.append(task)
        elif dice.random() < 0.1:
            table.remove(id)
            journal.ended.discard(id)
    del task
    ids = list(table)
    assert ids == sorted(set(ids)) and len(ids) == len(table)
    assert [task.id for task in table.values()] == ids == [id for id, _ in table.items()]
    assert journal.reads <= 2 * 4  # blocks, not tasks
    assert all(table[task.id] is task for task in held)


def test_what_was_forgotten_before_it_was_recorded_stays_forgotten(table: TaskTable, journal: Journal) -> None:
    task = new(1)
    table.add(task)
    table.remove(1)
    end(table, journal, task)
    assert list(table) == [] and table.not_recorded() == []
