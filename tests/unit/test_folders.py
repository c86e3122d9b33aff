"""Where a pilot has its temporary files and its sockets on a host."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import tempfile
from pathlib import Path

import pytest

from pilot.errors import SessionError
from pilot.wire.folders import SOCKETS, make_folders, remove_scratch, scratch, socket_folder, sockets

MARK_OF_PILOT = "0123456789abcdef" * 2


@pytest.mark.parametrize("length", [5, 20, 26, 27, 60, 200])
def test_sockets_have_a_short_path(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = Path(f"/tmp/{'t' * 240}"[:length])  # no such folder is needed
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    folder = socket_folder(MARK_OF_PILOT)
    assert scratch(MARK_OF_PILOT) == temporary / "pilot-01234567"
    assert (folder == scratch(MARK_OF_PILOT)) is (length <= 26)
    assert len(os.fsencode(folder)) <= 41


def test_where_tmp_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", f"/{'t' * 100}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/tmp")
    assert socket_folder(MARK_OF_PILOT) == Path("/run/user/1000/pilot-01234567")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(SessionError, match="set TMPDIR to a folder on this host with a path of at most 26 bytes"):
        socket_folder(MARK_OF_PILOT)


def test_folders_are_private_and_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = tmp_path / ("t" * 80)
    long.mkdir()
    mark = secrets.token_hex(16)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setenv(SOCKETS, "")
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", "of this process")  # type: ignore[attr-defined]
    make_folders(mark)
    folders = [Path(os.environ["TMPDIR"]), sockets()]
    assert folders[0].parent == long
    assert sockets().parent != long
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    assert f"too long for sockets: they are in {sockets()}" in caplog.text
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(FileExistsError):
        make_folders(mark)  # what somebody else has made there is not used
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    remove_scratch(mark)
    assert not any(folder.exists() for folder in folders)


def test_folders_of_managers_in_tasks_are_short_and_found_from_above() -> None:
    marks = [MARK_OF_PILOT]
    for _ in range(9):
        marks.append(f"{marks[-1]}.1.w12.{secrets.token_hex(16)}")
    names = [scratch(mark).name for mark in marks]
    assert names[0] == "pilot-01234567"
    assert len(set(names)) == 10
    assert all(name.startswith("pilot-01234567.") for name in names[1:])
    assert max(map(len, names)) == 23
    assert scratch(f"{marks[3]}.7-1").name == f"{names[3]}.7-1"
