"""The journal: what is handed over comes back, also after a crash, and a full disk loses nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import SessionError
from pilot.manager import journal as journal_module
from pilot.manager.journal import Journal, pack, unpack
from pilot.resources import PLAIN
from pilot.results import OK, Spooled

Eventually = Callable[..., object]
encode = msgspec.msgpack.encode


class Book:
    """A journal, and the marks that have come back."""

    def __init__(self, path: Path) -> None:
        self.marks: list[Any] = []
        self.journal = Journal(path)
        self.journal.start(self.marks.extend)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def book(path: Path) -> Iterator[Book]:
    book = Book(path)
    yield book
    book.journal.close()


def task(id: int, payload: Any = b"payload", needs: dict[int, bool] | None = None) -> tuple[Any, ...]:
    return (id, 1, pack(payload), 1, None, 1.5, encode(needs) if needs else None)


def result(id: int, value: Any = b"value", error: str | None = None) -> tuple[Any, ...]:
    return (id, "done", OK, "pilot-1", "w", 2.0, 3.0, 0.5, pack(value), "out", "err", error)


def fill(journal: Journal) -> None:
    wanted = PilotDescription(cores_per_node=2, walltime=300)
    journal.put("pilots", ("pilot-1", encode(wanted), ""))
    journal.put("pilots", ("pilot-1", encode(wanted), "mark"))
    journal.put("pilot_changes", ("pilot-1", "queued", "submitted", None, 1.0))
    journal.put("pilot_changes", ("pilot-1", "queued", "submitted", "4711:1.00", 1.0))
    journal.put("pilot_changes", ("pilot-1", "active", "2 slots", None, 2.0))
    journal.put("functions", (1, "digest", "work", b"code"))
    journal.put("terms", (1, encode(PLAIN)))
    journal.put("terms", (2, encode(TaskDescription(function=len, num_cpus=2, labels=["a"]).terms())))
    journal.extend("tasks", [task(1), task(2, Spooled("/f", 2**33)), task(3, None, {1: True, 2: False}), task(4)])
    journal.put("attempts", (4, 1, "pilot-1", "w", "worker w died", 2.0))
    journal.extend("results", [result(1), result(4, Spooled("/g", 5))])


def check(journal: Journal) -> None:
    wanted = PilotDescription(cores_per_node=2, walltime=300)
    assert list(journal.pilots()) == [("pilot-1", wanted, "mark", "active", "4711:1.00")]
    assert journal.functions() == [(1, "digest", "work", b"code")]
    assert journal.terms()[1] == PLAIN
    assert journal.terms()[2].labels == ("a",)
    unfinished = journal.unfinished()
    assert [row.id for row in unfinished] == [2, 3]
    assert [row.payload for row in unfinished] == [Spooled("/f", 2**33), None]
    assert [row.needs for row in unfinished] == [None, {1: True, 2: False}]
    assert [(row.id, row.pilot, row.state) for row in journal.finished()] == [
        (1, "pilot-1", "done"),
        (4, "pilot-1", "done"),
    ]
    assert journal.last_task() == 4


def test_rows_come_back(path: Path, book: Book) -> None:
    fill(book.journal)
    book.journal.close()
    again = Journal(path)
    check(again)
    again.close()


def test_rows_are_there_without_close(path: Path, book: Book, eventually: Eventually) -> None:
    fill(book.journal)
    book.journal.mark("all")
    eventually(lambda: book.marks == ["all"])
    second = Journal(path)  # as after kill -9: the first one is still open
    check(second)
    second.close()


def test_single_rows_are_read_beside_the_writer(book: Book, eventually: Eventually) -> None:
    fill(book.journal)
    book.journal.mark("all")
    eventually(lambda: book.marks)
    journal = book.journal
    assert journal.value(1) == b"value"
    assert journal.value(4) == Spooled("/g", 5)
    assert journal.value(99) is None
    assert journal.output(1) == ("out", "err")
    assert journal.output(99) == ("", "")
    assert journal.work(2) == (Spooled("/f", 2**33), {})
    assert journal.work(3) == (None, {1: True, 2: False})
    assert journal.work(99) is None


@pytest.mark.parametrize("value", [None, b"", b"pickle", Spooled("/ä/f", 2**40)], ids=repr)
def test_pack(value: Any) -> None:
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("count", [1, 31, 32, 33, 255, 256, 257, 1000], ids=str)
def test_any_number_of_rows(path: Path, book: Book, count: int) -> None:
    book.journal.extend("tasks", [task(id) for id in range(1, count + 1)])
    book.journal.close()
    again = Journal(path)
    assert [row.id for row in again.unfinished()] == list(range(1, count + 1))
    again.close()


class Full:
    """A database on a disk that is full for a while."""

    def __init__(self, db: sqlite3.Connection, tries: int) -> None:
        self.db = db
        self.tries = tries

    def execute(self, sql: str, *args: Any) -> Any:
        if sql == "COMMIT" and self.tries > 0:
            self.tries -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return self.db.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)


def test_a_full_disk_is_tried_again_and_nothing_is_acknowledged_before(
    path: Path, book: Book, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.01)
    full = Full(book.journal._db, tries=10**9)
    book.journal._db = full  # type: ignore[assignment]
    book.journal.put("tasks", task(1))
    book.journal.mark("first")
    eventually(lambda: full.tries < 10**9 - 2)
    book.journal.put("tasks", task(2))
    book.journal.mark("second")
    eventually(lambda: full.tries < 10**9 - 4)
    assert book.marks == []
    full.tries = 0
    eventually(lambda: book.marks == ["first", "second"])
    check = sqlite3.connect(path)
    assert check.execute("SELECT id FROM tasks").fetchall() == [(1,), (2,)]
    check.close()
    said = [record.message for record in caplog.records]
    assert len([words for words in said if "cannot be written (database or disk is full)" in words]) == 1
    assert len([words for words in said if "can be written again" in words]) == 1


def test_trouble_with_the_rollback_too(book: Book, eventually: Eventually, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the file system is gone for a moment: the thread that writes goes on."""
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.01)

    class Gone(Full):
        def execute(self, sql: str, *args: Any) -> Any:
            if sql == "ROLLBACK" and self.tries > 5:
                super().execute(sql)
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *args)

    book.journal._db = Gone(book.journal._db, tries=10)  # type: ignore[assignment]
    book.journal.put("tasks", task(1))
    book.journal.mark("first")
    eventually(lambda: book.marks == ["first"])
    assert [row.id for row in book.journal.unfinished()] == [1]


def test_close_does_not_wait_for_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.01)
    book = Book(path)
    full = Full(book.journal._db, tries=10**9)
    book.journal._db = full  # type: ignore[assignment]
    book.journal.put("tasks", task(1))
    book.journal.mark("first")
    book.journal.close()
    assert book.marks == []
    assert full.tries < 10**9


def test_a_name_that_is_no_unicode_stops_nothing(book: Book, eventually: Eventually) -> None:
    book.journal.put("tasks", (2, 1, None, 1, "caf\udce9", 1.5, None))
    book.journal.put("tasks", task(1))
    book.journal.mark("first")
    eventually(lambda: book.marks == ["first"])
    assert book.journal.last_task() == 1


def test_what_is_no_journal(path: Path) -> None:
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(SessionError, match=r"the journal .* cannot be used") as caught:
        Journal(path)
    assert caught.value.path == str(path)
