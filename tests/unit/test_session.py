"""The session folder: which one it is when none is given, and which ones are refused."""

from __future__ import annotations

import inspect
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot import PilotManager
from pilot.errors import SessionError
from pilot.wire.session import SESSIONS, Connection, SessionFolder, write_private

Put = Callable[..., None]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory, a temporary one, and nothing on PATH."""
    for name, folder in (("HOME", "home"), ("TMPDIR", "tmp"), ("PATH", "bin")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in (SESSIONS, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def create_and_remove() -> Path:
    session = SessionFolder.create(None)
    assert stat.S_IMODE(session.path.stat().st_mode) == 0o700
    assert session.spool.is_dir()
    session.lock.release()
    session.remove()
    assert not session.path.exists()
    return session.path.parent


def test_below_the_temporary_directory_on_one_machine(tmp_path: Path) -> None:
    assert create_and_remove() == tmp_path / "tmp"
    assert (tmp_path / "tmp").is_dir()


@pytest.mark.parametrize("client", ["sbatch", "qsub", "bsub", "flux", None])
def test_below_home_on_a_cluster(
    client: str | None, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if client:
        (tmp_path / "bin" / client).touch(mode=0o755)
    else:
        monkeypatch.setenv("SLURM_JOB_ID", "17")
    kept = SessionFolder.create(None)
    assert stat.S_IMODE((home / ".quantum-pilot").stat().st_mode) == 0o700
    assert create_and_remove() == home / ".quantum-pilot/sessions"
    assert kept.path.is_dir()  # another session keeps the folder
    kept.lock.release()
    kept.remove()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("client", [True, False])
def test_the_variable_overrides_all(client: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if client:
        (tmp_path / "bin/sbatch").touch(mode=0o755)
    monkeypatch.setenv(SESSIONS, str(tmp_path / "scratch/me"))
    assert create_and_remove() == tmp_path / "scratch/me"
    assert (tmp_path / "scratch/me").is_dir()


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(SESSIONS, str(tmp_path / "file/below"))
    with pytest.raises(SessionError, match=f"{SESSIONS} names a folder that cannot be made: .*session_dir"):
        SessionFolder.create(None)


@pytest.mark.parametrize("given", [None, 5, "", "a\0b", b"bytes", "~nobody-has-this-name/x"])
def test_what_is_no_path_is_refused(given: object) -> None:
    with pytest.raises(SessionError, match=r"session_dir: .* is not valid; expected the path of a folder"):
        PilotManager.attach(given)  # type: ignore[arg-type]
    if given is not None:
        with pytest.raises(SessionError, match=r"session_dir: .* is not valid; expected the path of a folder"):
            PilotManager(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "files", "refused"), [(0o755, 1, True), (0o755, 0, False), (0o700, 1, False)])
def test_a_folder_that_others_use_stays_open_to_them(mode: int, files: int, refused: bool, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for number in range(files):
        (folder / str(number)).touch()
    folder.chmod(mode)
    if refused:
        with pytest.raises(SessionError, match="has files in it and is open to other users"):
            PilotManager(folder)
        assert [file.name for file in folder.iterdir()] == ["0"]
    else:
        PilotManager(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == (mode if refused else 0o700)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("connection.json", "{}", "connection.json is not what a manager has written"),
        ("connection.json", "", "connection.json is not what a manager has written"),
        ("connection.json", None, "holds no session .no connection.json"),
        ("journal.sqlite", "no database " * 100, "journal.sqlite cannot be used: file is not a database"),
        ("journal.sqlite", None, "holds no session .no journal.sqlite"),
    ],
)
def test_a_damaged_session_is_told_in_words_and_free_again(
    file: str, text: str | None, words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "session"
    PilotManager(folder).close()
    right = (folder / file).read_bytes()
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    for _ in range(2):
        with pytest.raises(SessionError, match=words):
            PilotManager.attach(folder)
    (folder / file).write_bytes(right)
    PilotManager.attach(folder).close()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = SessionFolder.create(tmp_path / "session")
    folder.lock.release()
    folder.connection_path.mkdir()
    with pytest.raises(SessionError, match=r"connection\.json cannot be written: Is a directory"):
        folder.write_connection(Connection(("tcp://127.0.0.1:1",), "host", "public", "secret"))
    assert [path.name for path in folder.path.iterdir() if path.name.endswith(".part")] == []


def test_files_beside_the_one_that_is_written_stay(tmp_path: Path) -> None:
    other, wanted = tmp_path / "events.part", tmp_path / "events.msgpack"
    other.write_text("a download of mine")
    write_private(wanted, b"data")
    assert (other.read_text(), wanted.read_bytes()) == ("a download of mine", b"data")


def test_attach_takes_what_a_new_manager_takes() -> None:
    new, again = (inspect.signature(one).parameters for one in (PilotManager.__init__, PilotManager.attach))
    assert [*again] == [name for name in new if name not in ("self", "name")]
