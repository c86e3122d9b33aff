"""What every journal does: rows that are handed over come back, single values too, and marks after their rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.manager.journal import (
    AttemptRow,
    FunctionRow,
    Journal,
    KeyRow,
    PilotChangeRow,
    PilotParentRow,
    PilotRow,
    ResultRow,
    Row,
    SessionRow,
    TaskRow,
    TermsRow,
    WorkerRow,
    pack,
)
from pilot.manager.recovery import read
from pilot.manager.sqlite import SqliteJournal
from pilot.resources import PLAIN
from pilot.results import OK, Spooled
from pilot.states import PilotState, TaskState
from pilot.testing.journal import MemoryJournal

Eventually = Callable[..., Any]
encode = msgspec.msgpack.encode


@pytest.fixture(params=["sqlite", "memory"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    one = SqliteJournal(tmp_path / "journal.sqlite") if request.param == "sqlite" else MemoryJournal()
    yield one
    one.close()


def task(id: int, payload: Any = b"payload", needs: dict[int, bool] | None = None) -> TaskRow:
    return TaskRow(id, 1, pack(payload), 1, None, 1.5, encode(needs) if needs else None)


def result(id: int, value: Any = b"value", error: str | None = None) -> ResultRow:
    state = "done" if error is None else "failed"
    return ResultRow(id, state, OK, "pilot-1", "w", 2.0, 3.0, 0.5, pack(value), "out", "err", error)


WANTED = PilotDescription(cores_per_node=2, walltime=300)
PAIR = TaskDescription(function=len, num_cpus=2, labels=["a"]).terms()
#: One list for each kind of row; a later row with the same key takes the place of the first.
ROWS: list[list[Row]] = [
    [SessionRow("schema", "1"), SessionRow("path", "/before"), SessionRow("path", "/here")],
    [PilotRow("pilot-1", encode(WANTED)), PilotRow("pilot-1", encode(WANTED), "mark")],
    [
        PilotChangeRow("pilot-1", "queued", "submitted", None, 1.0),
        PilotChangeRow("pilot-1", "queued", "submitted", "4711:1.00", 1.0),
        PilotChangeRow("pilot-1", "active", "2 slots", None, 2.0),
        PilotChangeRow("pilot-1", "queued", "submitted", "4712:1.00", 3.0, job=1),
        PilotChangeRow("pilot-1", "queued", "submitted", "4713:1.00", 3.0, job=2),
        PilotChangeRow("pilot-1", "done", "over", None, 3.0, job=2),
    ],
    [PilotParentRow("pilot-2", "pilot-1")],
    [FunctionRow(1, "digest", "work", b"code")],
    [TermsRow(1, encode(PLAIN)), TermsRow(2, encode(PAIR))],
    [task(1), task(2, Spooled("f", 2**33)), task(3, None, {1: True, 2: False}), task(4)],
    [AttemptRow(4, 1, "pilot-1", "w", "worker w died", 2.0), AttemptRow(4, 2, "pilot-1", "w", "it raised", 2.5, 7, 3)],
    [WorkerRow("w", "node-0", "host", "0 1", None)],
    [result(1), result(4, Spooled("g", 5))],
]


def fill(journal: Journal) -> None:
    for rows in ROWS:
        journal.put(rows[0])
        journal.extend(rows[1:])
    assert journal.flush(60)


@pytest.fixture
def filled(journal: Journal) -> Journal:
    journal.start(lambda marks: None)
    fill(journal)
    return journal


def test_rows_come_back(filled: Journal) -> None:
    for rows in ROWS:
        kind = type(rows[0])
        keys = [getattr(row, row.__struct_fields__[0]) if kind.keyed else number for number, row in enumerate(rows)]
        assert filled.rows(kind) == list(dict(zip(keys, rows, strict=True)).values())


def test_tasks_come_without_payload_when_they_are_over_and_results_without_values(filled: Journal) -> None:
    tasks = {row.id: row for row in filled.tasks()}
    assert list(tasks) == [1, 2, 3, 4]
    assert [tasks[id].payload for id in tasks] == [None, pack(Spooled("f", 2**33)), None, None]
    assert [row.task for row in filled.results()] == [1, 4]
    assert {(row.value, row.stdout, row.stderr) for row in filled.results()} == {(None, None, None)}
    assert {(row.state, row.status, row.started) for row in filled.results()} == {("done", OK, 3.0)}


def test_rows_of_forgotten_tasks_are_gone(journal: Journal) -> None:
    journal.start(lambda marks: None)
    fill(journal)
    journal.put(KeyRow("mine", 1, b"digests"))
    journal.put(result(2))
    journal.forget([1, 2])  # after these rows
    journal.forget([4])
    assert journal.flush(60)
    assert [row.id for row in journal.tasks()] == [3]
    assert [journal.rows(kind) for kind in (ResultRow, AttemptRow, KeyRow)] == [[], [], []]
    assert (journal.work(1), journal.value(4)) == (None, None)
    journal.put(AttemptRow(3, 1, "pilot-1", "w", "it raised", 2.5))
    journal.put(AttemptRow(3, 2, "pilot-1", "w", "it raised", 2.5))
    assert journal.flush(60)
    assert [row.number for row in journal.rows(AttemptRow)] == [1, 2]


def test_single_values(filled: Journal) -> None:
    assert [filled.value(id) for id in (1, 4, 99)] == [b"value", Spooled("g", 5), None]
    assert [filled.output(id) for id in (1, 99)] == [("out", "err"), ("", "")]
    assert filled.work(2) == (Spooled("f", 2**33), {})
    assert filled.work(3) == (None, {1: True, 2: False})
    assert filled.work(99) is None
    filled.forked()  # a child reads the same
    assert filled.value(1) == b"value"


def test_marks_come_after_their_rows(journal: Journal, eventually: Eventually) -> None:
    seen: list[Any] = []
    journal.put(task(1))
    journal.mark("first")
    journal.start(lambda marks: seen.extend((mark, len(journal.rows(TaskRow))) for mark in marks))
    called = threading.Event()
    journal.put(task(2))
    journal.mark(called.set)
    journal.mark("second")
    assert called.wait(60)
    eventually(lambda: len(seen) == 2)
    assert [mark for mark, _ in seen] == ["first", "second"]
    assert seen[0][1] >= 1 and seen[1][1] == 2


def test_what_an_attached_manager_takes_over(filled: Journal, tmp_path: Path) -> None:
    filled.put(PilotRow("pilot-2", encode(WANTED)))
    filled.put(PilotChangeRow("pilot-2", "failed", "lost", None, 3.0))
    assert filled.flush(60)
    restored = read(filled, tmp_path)
    assert [(function.id, function.name, function.code) for function in restored.functions] == [(1, "work", b"code")]
    assert restored.terms == {1: PLAIN, 2: PAIR}
    assert restored.workers == {"w": WorkerRow("w", "node-0", "host", "0 1", None)}
    first, second = restored.pilots
    assert (first.description, first.mark, first.state) == (WANTED, "", PilotState.NEW)  # moved: it starts anew
    assert (first.succeeded, first.reported, first.native_id) == (True, True, "4711:1.00")
    assert (first.further_jobs, restored.last_job) == ({1: "4712:1.00"}, 2)
    assert (second.state, second.ancestors) == (PilotState.FAILED, ("pilot-1", "pilot-1"))
    states = [(task.entry.id, task.entry.state, task.outcome is not None) for task in restored.tasks]
    queued = TaskState.QUEUED
    assert states == [(1, TaskState.DONE, True), (2, queued, False), (3, queued, False), (4, TaskState.DONE, True)]
    assert [len(task.entry.attempts) for task in restored.tasks] == [0, 0, 0, 2]
    assert restored.tasks[2].entry.needs == {1: True, 2: False}
    assert (restored.firsts, restored.last_task, restored.moved_from) == ((1, 5), 4, "/here")
