"""The contract suite of journals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
    ObjectRow,
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
from pilot.resources import PLAIN
from pilot.results import OK, RAISED, Spooled
from pilot.states import PilotState, TaskState
from pilot.testing.polling import eventually

encode = msgspec.msgpack.encode


def task(id: int, payload: Any = b"payload", needs: dict[int, bool] | None = None) -> TaskRow:
    return TaskRow(id, 1, pack(payload), 1, None, 1.5, encode(needs) if needs else None)


def result(id: int, value: Any = b"value") -> ResultRow:
    return ResultRow(id, "done", OK, "pilot-1", "w", 2.0, 3.0, 0.5, pack(value), "out", "err")


WANTED = PilotDescription(cores_per_node=2, walltime=300)
PAIR = TaskDescription(function=len, num_cpus=2, labels=("a",)).terms()
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
    [
        ObjectRow(1, pack(Spooled("g", 3)), "list"),
        ObjectRow(1, None, ""),
        ObjectRow(2, pack(Spooled("h", 3)), "list"),
    ],
    [AttemptRow(4, 1, "pilot-1", "w", "worker w died", 2.0), AttemptRow(4, 2, "pilot-1", "w", "it raised", 2.5, 7, 3)],
    [WorkerRow("w", "node-0", "host", "0 1", None)],
    [result(1), result(4, Spooled("g", 5))],
]


class JournalContract:
    """What every journal does, as tests: rows that are handed over come back, single values too, and marks come after
    their rows. An author subclasses it and overrides the fixture `journal`."""

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        """A new journal without rows; it is closed after the test."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def closing(self, journal: Journal) -> Iterator[None]:
        """Close the journal."""
        yield
        journal.close()

    @pytest.fixture
    def filled(self, journal: Journal) -> Journal:
        journal.start(lambda marks: None)
        fill(journal)
        return journal

    def test_rows_come_back(self, filled: Journal) -> None:
        for rows in ROWS:
            kind = type(rows[0])
            keys = [getattr(row, row.__struct_fields__[0]) if kind.keyed else number for number, row in enumerate(rows)]
            assert filled.rows(kind) == list(dict(zip(keys, rows, strict=True)).values())

    def test_tasks_that_have_ended_and_those_that_have_not(self, filled: Journal) -> None:
        assert [(row.id, row.payload) for row in filled.unfinished()] == [(2, pack(Spooled("f", 2**33))), (3, None)]
        assert filled.ended() == [1, 4]
        first, last = filled.ended_between(1, 4)
        assert [rows.task.id for rows in filled.ended_between(2, 9)] == [4]
        assert (first.task.payload, first.task.submitted, first.attempts, first.key) == (None, 1.5, [], None)
        assert (last.result.value, last.result.stdout, last.result.stderr) == (None, None, None)
        assert (last.result.state, last.result.status, last.result.started) == ("done", OK, 3.0)
        assert [row.number for row in last.attempts] == [1, 2]

    def test_arguments_are_kept_of_tasks_that_may_be_submitted_again(self, filled: Journal) -> None:
        assert filled.kept_arguments() == []
        filled.put(msgspec.structs.replace(result(2), status=RAISED))
        filled.put(ResultRow(3, "failed", None, None, None, 0.0))
        assert filled.flush(60)
        assert filled.kept_arguments() == [Spooled("f", 2**33)]
        assert [(id, state.value) for id, state in filled.not_done()][-1:] == [(3, "failed")]

    def test_rows_of_forgotten_tasks_are_gone(self, filled: Journal) -> None:
        filled.put(KeyRow("mine", 1, b"digests"))
        filled.put(result(2))
        filled.forget([1, 2])  # after these rows
        filled.forget([4])
        assert filled.flush(60)
        assert [row.id for row in filled.rows(TaskRow)] == [3]
        gone = (ResultRow, AttemptRow, KeyRow)
        assert not any(filled.rows(kind) for kind in gone)
        assert (filled.work(1), filled.value(4)) == (None, None)
        filled.extend([AttemptRow(3, number, "pilot-1", "w", "it raised", 2.5) for number in (1, 2)])
        assert filled.flush(60)
        assert [row.number for row in filled.rows(AttemptRow)] == [1, 2]

    def test_single_values(self, filled: Journal) -> None:
        assert filled.row(FunctionRow, 1) == FunctionRow(1, "digest", "work", b"code")
        assert filled.row(SessionRow, "path") == SessionRow("path", "/here")
        assert filled.row(FunctionRow, 2) is None
        assert [filled.value(id) for id in (1, 4, 99)] == [b"value", Spooled("g", 5), None]
        assert [filled.output(id) for id in (1, 99)] == [("out", "err"), ("", "")]
        assert filled.work(2) == (Spooled("f", 2**33), {})
        assert filled.work(3) == (None, {1: True, 2: False})
        assert filled.work(99) is None
        filled.forked()  # a child reads the same
        assert filled.value(1) == b"value"

    def test_marks_come_after_their_rows(self, journal: Journal) -> None:
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

    def test_what_an_attached_manager_takes_over(self, filled: Journal, tmp_path: Path) -> None:
        filled.put(PilotRow("pilot-2", encode(WANTED)))
        filled.put(PilotChangeRow("pilot-2", "failed", "lost", None, 3.0))
        assert filled.flush(60)
        restored = read(filled, tmp_path)
        (function,) = restored.functions
        assert (function.id, function.name, function.code) == (1, "work", b"code")
        assert restored.terms == {1: PLAIN, 2: PAIR}
        assert filled.row(WorkerRow, "w") == WorkerRow("w", "node-0", "host", "0 1", None)
        first, second = restored.pilots
        assert (first.description, first.mark, first.state) == (WANTED, "", PilotState.NEW)  # moved: it starts anew
        assert (first.succeeded, first.reported, first.native_id) == (True, True, "4711:1.00")
        assert (first.further_jobs, restored.last_job) == ({1: "4712:1.00"}, 2)
        assert (second.state, second.ancestors) == (PilotState.FAILED, ("pilot-1", "pilot-1"))
        assert [(task.id, task.state) for task in restored.tasks] == [(2, TaskState.QUEUED), (3, TaskState.QUEUED)]
        assert restored.tasks[1].needs == {1: True, 2: False}
        assert list(restored.ended) == [1, 4]
        assert restored.objects == [ObjectRow(1, None, ""), ObjectRow(2, pack(Spooled("h", 3)), "list")]
        assert (restored.firsts, restored.last_task, restored.moved_from) == ((1, 5), 4, "/here")


def fill(journal: Journal) -> None:
    for rows in ROWS:
        journal.put(rows[0])
        journal.extend(rows[1:])
    assert journal.flush(60)
