"""What every journal does (`JournalContract`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot.manager.journal import Journal
from pilot.manager.sqlite import SqliteJournal
from pilot.testing import JournalContract, MemoryJournal


class TestSqlite(JournalContract):
    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        return SqliteJournal(tmp_path / "journal.sqlite")


class TestMemory(JournalContract):
    @pytest.fixture
    def journal(self) -> Journal:
        return MemoryJournal()
