"""The journal in a file: what is handed over is there after a crash, and a full disk loses nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilot.descriptions import PilotDescription
from pilot.errors import SessionError
from pilot.manager import recovery
from pilot.manager import sqlite as journal_module
from pilot.manager.journal import (
    SCHEMA,
    AttemptRow,
    EstimateRow,
    FunctionRow,
    PilotRow,
    SessionRow,
    TaskRow,
    TermsRow,
    pack,
    pack_estimates,
    unpack,
)
from pilot.manager.sqlite import SqliteJournal
from pilot.manager.sqlite_reader import FileReader
from pilot.resources import ANY_QPU, CircuitFacts, QPUEstimate, Resources, Terms
from pilot.results import Spooled

Eventually = Callable[..., object]


class Book:
    """A journal, and the marks that have come back."""

    def __init__(self, path: Path) -> None:
        self.marks: list[Any] = []
        self.journal = SqliteJournal(path)
        self.journal.start(self.marks.extend)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def book(path: Path) -> Iterator[Book]:
    book = Book(path)
    yield book
    book.journal.close()


def task(id: int, name: str | None = None) -> TaskRow:
    return TaskRow(id, 1, b"payload", 1, name, 1.5)


def test_a_new_file_has_the_schema_at_once(path: Path, book: Book) -> None:
    second = SqliteJournal(path)  # as after kill -9
    assert second.rows(SessionRow) == [SessionRow("schema", str(SCHEMA))]
    second.close()


def test_rows_are_there_without_close(path: Path, book: Book, eventually: Eventually) -> None:
    book.journal.extend([task(1), task(2)])
    book.journal.mark("all")
    eventually(lambda: book.marks == ["all"])
    second = SqliteJournal(path)  # as after kill -9: the first one is still open
    assert second.unfinished() == [task(1), task(2)]
    second.close()


@pytest.mark.parametrize("value", [None, b"", b"pickle", Spooled("/ä/f", 2**40)], ids=repr)
def test_pack(value: Any) -> None:
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("count", [1, 31, 32, 33, 255, 256, 257, 1000], ids=str)
def test_any_number_of_rows(path: Path, book: Book, count: int) -> None:
    book.journal.extend([task(id) for id in range(1, count + 1)])
    book.journal.close()
    again = SqliteJournal(path)
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
    book.journal.put(task(1))
    book.journal.mark("first")
    eventually(lambda: full.tries < 10**9 - 2)
    book.journal.put(task(2))
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
    book.journal.put(task(1))
    book.journal.mark("first")
    eventually(lambda: book.marks == ["first"])
    assert [row.id for row in book.journal.unfinished()] == [1]


def test_close_does_not_wait_for_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.01)
    book = Book(path)
    full = Full(book.journal._db, tries=10**9)
    book.journal._db = full  # type: ignore[assignment]
    book.journal.put(task(1))
    book.journal.mark("first")
    book.journal.close()
    assert book.marks == []
    assert full.tries < 10**9


def test_a_name_that_is_no_unicode_stops_nothing(book: Book, eventually: Eventually) -> None:
    book.journal.put(task(2, "caf\udce9"))
    book.journal.put(task(1))
    book.journal.mark("first")
    eventually(lambda: book.marks == ["first"])
    assert [row.id for row in book.journal.unfinished()] == [1]


def test_what_a_mark_raises_stops_no_other(
    path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(marks: list[Any]) -> None:
        raise OSError("the manager is gone")

    called: list[str] = []
    journal = SqliteJournal(path)
    journal.start(refuse)
    journal.put(task(1))
    journal.mark("told")
    journal.mark(lambda: [].pop())
    journal.mark(lambda: called.append("another one"))
    eventually(lambda: called)
    journal.put(task(2))
    assert journal.flush(60)
    assert [row.id for row in journal.rows(TaskRow)] == [1, 2]
    assert len(caplog.records) == 2
    journal.close()


def test_rows_that_there_was_no_memory_for_are_tried_again(
    book: Book, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.01)
    insert, fails = book.journal._insert, [MemoryError()]

    def scarce(*args: Any) -> None:
        if fails:
            raise fails.pop()
        insert(*args)

    monkeypatch.setattr(book.journal, "_insert", scarce)
    book.journal.put(task(1))
    eventually(lambda: [row.id for row in book.journal.rows(TaskRow)] == [1])
    assert book.journal.trouble is None


def test_what_is_no_journal(path: Path) -> None:
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(SessionError, match=r"the journal .* cannot be used") as caught:
        SqliteJournal(path)
    assert caught.value.path == str(path)


def test_a_manager_that_attaches_knows_the_estimates(path: Path, book: Book) -> None:
    """The last ones of each task; a circuit with a least fidelity is matched by them."""
    terms = Terms(Resources(num_cpus=0.0, qpu=ANY_QPU), facts=CircuitFacts(2, 100), min_fidelity=0.9)
    first, last = (QPUEstimate("fake:manila", fidelity, 2.0) for fidelity in (0.8, 0.95))
    book.journal.put(FunctionRow(1, "digest", "work", b""))
    book.journal.put(TermsRow(1, msgspec.msgpack.encode(terms)))
    book.journal.extend([task(1), task(2)])
    book.journal.extend([EstimateRow(1, pack_estimates((estimate,))) for estimate in (first, last)])
    assert book.journal.flush(10.0)
    one, other = recovery.read(book.journal, path.parent).tasks
    assert one.estimates == (last,) and one.terms.facts is not None
    assert one.terms.facts.fidelities == (("fake:manila", 0.95),)
    assert other.estimates == () and other.terms == terms
    book.journal.forget([1])
    assert book.journal.flush(10.0)
    assert book.journal.rows(EstimateRow) == []


def test_the_id_of_a_pilot_is_not_given_again_when_another_ones_row_is_gone(path: Path, book: Book) -> None:
    wanted = msgspec.msgpack.encode(PilotDescription(cores_per_node=1))
    for number in (1, 10, 7):
        book.journal.put(PilotRow(f"pilot-{number}", wanted))
    assert book.journal.flush(10.0)
    assert recovery.read(book.journal, path.parent).last_pilot == 10


@pytest.mark.parametrize("is_open", [True, False])
def test_a_reader_sees_what_a_manager_has_written_since(path: Path, is_open: bool) -> None:
    first = SqliteJournal(path)
    first.start(lambda marks: None)
    first.extend([task(id) for id in range(1, 200)])
    first.close()
    with contextlib.closing(FileReader(path)) as reader:
        assert len(reader.rows(TaskRow)) == 199
        later = SqliteJournal(path, is_there=True)
        later.start(lambda marks: None)
        later.forget(range(1, 100))
        later.extend([task(id, "another one") for id in range(200, 300)])
        assert later.flush(60)
        if not is_open:
            later.close()
        rows = reader.rows(TaskRow)
        assert [row.id for row in rows] == list(range(100, 300))
        assert [row.name for row in rows] == [None] * 100 + ["another one"] * 100
        later.close()


@pytest.mark.parametrize("is_open", [True, False])
def test_what_is_read_at_one_moment_is_so_when_a_manager_comes_meanwhile(path: Path, is_open: bool) -> None:
    first = SqliteJournal(path)
    first.start(lambda marks: None)
    first.extend([task(id, "before" * 100) for id in range(1, 1000)])
    first.close()
    managers: list[SqliteJournal] = []

    def read() -> tuple[set[str], set[str]]:
        begin = {row.name for row in reader.unfinished()[:400]}
        if not managers:
            managers.append(SqliteJournal(path, is_there=True))
            managers[0].start(lambda marks: None)
            managers[0].extend([task(id, "since" * 100) for id in range(1, 1000)])
            assert managers[0].flush(60)
            if not is_open:
                managers[0].close()
        return begin, {row.name for row in reader.rows(TaskRow)}

    with contextlib.closing(FileReader(path)) as reader:
        begin, all_ = reader.at_one_moment(read)
    assert begin == all_ == {"since" * 100}
    managers[0].close()


def test_a_session_of_before_has_no_estimates(path: Path, book: Book) -> None:
    book.journal.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE estimates")
    reader = FileReader(path)
    assert reader.rows(EstimateRow) == [] and reader.rows(SessionRow)
    reader.close()


def test_a_journal_without_the_newest_columns_is_read_and_goes_on(path: Path) -> None:
    SqliteJournal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE attempts DROP COLUMN started")
        db.execute("INSERT INTO attempts VALUES (3, 1, 'one', 'w', 'it raised', 2.5, 7, 3)")
        db.commit()
    before = AttemptRow(3, 1, "one", "w", "it raised", 2.5, 7, 3)
    with contextlib.closing(FileReader(path)) as reader:
        assert reader.rows(AttemptRow) == [before]
    journal = SqliteJournal(path, is_there=True)
    journal.start(lambda marks: None)
    later = msgspec.structs.replace(before, number=2, started=2.0)
    journal.put(later)
    assert journal.flush(10)
    assert journal.rows(AttemptRow) == [before, later]
    journal.close()
