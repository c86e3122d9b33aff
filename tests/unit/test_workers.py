"""What a manager keeps of its workers."""

from __future__ import annotations

from typing import Any

import pytest

from pilot.errors import SessionError
from pilot.manager import workers
from pilot.manager.journal import WorkerRow
from pilot.manager.workers import Workers


class Rows:
    """A journal with rows of workers; None: it cannot be read."""

    def __init__(self) -> None:
        self.of: dict[str, WorkerRow] | None = {}

    def row(self, kind: type[WorkerRow], name: str) -> WorkerRow | None:
        if self.of is None:
            raise SessionError("the session is not there any more")
        return self.of.get(name)


def test_only_the_last_workers_are_in_memory_and_the_others_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST", 10)
    journal: Any = Rows()
    known = Workers(journal)
    rows = {f"w{number}": WorkerRow(f"w{number}", "node", f"host-{number}", "", None) for number in range(1000)}
    for name, row in rows.items():
        journal.of[name] = row
        known.add(row)
    assert [name for name in rows if known.has(name)] == list(rows)[-10:]
    assert all(known.get(name) == row for name, row in rows.items())
    assert sum(map(known.has, rows)) == 10
    journal.of = None
    assert known.get("w999") == rows["w999"] and known.get("w0") is None and known.get(None) is None
