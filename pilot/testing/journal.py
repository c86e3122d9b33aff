"""A journal that keeps its rows in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, cast

from msgspec.structs import replace

from pilot.manager.journal import (
    KINDS,
    OF_TASKS,
    SCHEMA,
    AnyRow,
    Journal,
    Needs,
    ResultRow,
    Row,
    SessionRow,
    TaskRow,
    unpack,
    unpack_needs,
)
from pilot.results import Value


class MemoryJournal(Journal):
    """A `Journal` without a file and a thread: each row is committed when it is handed over."""

    name = "in memory"

    def __init__(self) -> None:
        self._rows: dict[type[Row], dict[object, Row]] = {kind: {} for kind in KINDS}
        self._numbers = count()
        self._marks: list[Any] = []
        self._on_commit: Callable[[list[Any]], None] | None = None
        self.put(SessionRow("schema", str(SCHEMA)))

    def start(self, on_commit: Callable[[list[Any]], None]) -> None:
        self._on_commit = on_commit
        while self._marks:
            self.mark(self._marks.pop(0))

    def put(self, row: Row) -> None:
        kind = type(row)
        rows = self._rows[kind]
        rows[getattr(row, kind.__struct_fields__[0]) if kind.keyed else next(self._numbers)] = row

    def extend(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.put(row)

    def mark(self, mark: Any) -> None:
        if callable(mark):
            mark()
        elif self._on_commit is None:
            self._marks.append(mark)
        else:
            self._on_commit([mark])

    def forget(self, tasks: Sequence[int]) -> None:
        gone = set(tasks)
        for kind, column in OF_TASKS.items():
            self._rows[kind] = {key: row for key, row in self._rows[kind].items() if getattr(row, column) not in gone}

    def flush(self, timeout: float) -> bool:
        return True

    def close(self) -> None:
        return

    def forked(self) -> None:
        return

    def rows(self, kind: type[AnyRow]) -> list[AnyRow]:
        return cast("list[AnyRow]", list(self._rows[kind].values()))

    def tasks(self) -> list[TaskRow]:
        ended = self._rows[ResultRow]
        rows = sorted(self.rows(TaskRow), key=lambda row: row.id)
        return [replace(row, payload=None) if row.id in ended else row for row in rows]

    def results(self) -> list[ResultRow]:
        rows = sorted(self.rows(ResultRow), key=lambda row: row.task)
        return [replace(row, value=None, stdout=None, stderr=None) for row in rows]

    def value(self, task: int) -> Value:
        row = cast("ResultRow | None", self._rows[ResultRow].get(task))
        return unpack(row.value) if row is not None else None

    def output(self, task: int) -> tuple[str, str]:
        row = cast("ResultRow | None", self._rows[ResultRow].get(task))
        return (row.stdout or "", row.stderr or "") if row is not None else ("", "")

    def work(self, task: int) -> tuple[Value, Needs] | None:
        row = cast("TaskRow | None", self._rows[TaskRow].get(task))
        return (unpack(row.payload), unpack_needs(row.needs)) if row is not None else None
