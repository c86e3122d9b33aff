"""What `attach` says of sessions that are damaged, copied or not ours: one sentence, and nothing is left behind."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import platform
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from pilot import PilotManager, SessionError, TaskState
from pilot.wire import locks
from pilot.wire.keys import new_keys

DONE = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A session, and its folder as if its manager had been killed: most of it is in the journal's log."""
    folder = tmp_path_factory.mktemp("made")
    with PilotManager(folder / "session") as manager:
        manager.submit_pilot({"engine": "process", "cores_per_node": 1})
        for number in range(DONE):  # a commit for each: most of the log is about tasks, not about the layout
            assert manager.submit_task(abs, number).result() == number
            manager.flush(60)
        shutil.copytree(folder / "session", folder / "killed", ignore=shutil.ignore_patterns("socket"))
    return folder / "session", folder / "killed"


@pytest.fixture
def session(made: tuple[Path, Path]) -> Path:
    """The session of a manager that was killed, and whose agent is gone."""
    session, killed = made
    shutil.rmtree(session)
    shutil.copytree(killed, session)
    return session


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread, file or lock."""
    gc.collect()  # what other tests have left
    before = threading.active_count(), psutil.Process().num_fds()
    yield
    assert (threading.active_count(), psutil.Process().num_fds()) == before


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def noise(data: bytes, seed: int) -> bytes:
    """Eight bytes are overwritten at one place in 2,000."""
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(len(data) // 2000):
        at = chance.randrange(len(changed) - 8)
        changed[at : at + 8] = chance.randbytes(8)
    return bytes(changed)


def changed(**values: Any) -> Callable[[bytes], bytes]:
    return lambda data: msgspec.json.encode({**msgspec.json.decode(data), **values})


CONNECTION, JOURNAL, LOG = "connection.json", "journal.sqlite", "journal.sqlite-wal"
LOST = r"journal\.sqlite has lost its last \d+ commit\(s\), since .*journal\.commits to go on with what is left$"
EMPTY = r"the journal .*journal\.sqlite is empty or damaged: put it back from a copy"
NOT_WRITTEN = r"connection\.json is not what a manager has written \(.*\): put it back from a copy"


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (CONNECTION, None, "holds no session"),
        (CONNECTION, lambda data: b"", NOT_WRITTEN),
        (CONNECTION, cut, NOT_WRITTEN),
        (CONNECTION, changed(secret_key="x" * 40), NOT_WRITTEN),
        (CONNECTION, changed(public_key=new_keys()[0]), NOT_WRITTEN),
        (CONNECTION, changed(addresses=[], near=""), NOT_WRITTEN),
        (CONNECTION, changed(addresses=["tcp://here"]), NOT_WRITTEN),
        (JOURNAL, None, "holds no session"),
        (JOURNAL, lambda data: b"", EMPTY),
        (LOG, None, EMPTY),
        (LOG, lambda data: b"", EMPTY),
        (LOG, cut, LOST),
        (LOG, lambda data: data[:-5000], LOST),
    ],
)
def test_damage_is_named_and_all_is_given_back(
    file: str, change: Callable[[bytes], bytes] | None, words: str, session: Path
) -> None:
    path = session / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    for _ in range(2):
        with pytest.raises(SessionError, match=words) as caught:
            PilotManager.attach(session)
        assert str(caught.value).count("\n") == 0


def test_a_lost_log_is_told_from_one_that_is_not_needed(session: Path, caplog: pytest.LogCaptureFixture) -> None:
    (session / LOG).write_bytes(cut((session / LOG).read_bytes()))
    with pytest.raises(SessionError, match=LOST):
        PilotManager.attach(session)
    with PilotManager.read(session) as reader:
        found = len(reader.tasks)
    assert re.search(LOST, caplog.messages[-1])
    (session / "journal.commits").unlink()
    manager = PilotManager.attach(session)
    left = len(manager.tasks)
    assert left == found
    assert left < DONE or any(task.state is not TaskState.DONE for task in manager.tasks.values())
    manager.close()
    assert not (session / LOG).exists()  # SQLite has put all into the file itself
    again = PilotManager.attach(session)
    assert len(again.tasks) == left
    again.close()


@pytest.mark.parametrize("file", [JOURNAL, LOG])
def test_noise_is_a_session_error_or_harmless(file: str, made: tuple[Path, Path]) -> None:
    session, killed = made
    noticed = 0
    for seed in range(8):
        shutil.rmtree(session)
        shutil.copytree(killed, session)
        if file == JOURNAL:  # all of it is in the file
            PilotManager.attach(session).close()
        (session / file).write_bytes(noise((session / file).read_bytes(), seed))
        try:
            with contextlib.closing(PilotManager.attach(session)) as manager:
                noticed += [task.exception() for task in manager.tasks.values() if task.done()] != [None] * DONE
        except SessionError:
            noticed += 1
    assert noticed


# ---- sessions of others -----------------------------------------------------------------------------------------


def test_a_copy_is_not_mistaken_for_the_session(session: Path, tmp_path: Path) -> None:
    shutil.copytree(session, tmp_path / "copy")
    with pytest.raises(SessionError, match=f"copy is a copy of {session}, which is still there: attach to that one"):
        PilotManager.attach(tmp_path / "copy")
    session.rename(tmp_path / "elsewhere")
    manager = PilotManager.attach(tmp_path / "copy")
    assert len(manager.tasks) == DONE
    manager.close()
    (tmp_path / "elsewhere").rename(session)


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o720, True), (0o755, False)])
def test_a_folder_that_others_can_write_is_refused(mode: int, refused: bool, session: Path) -> None:
    session.chmod(mode)
    if refused:
        with pytest.raises(SessionError, match=rf"\(mode {mode:o}\).* chmod 700 {session} and try again"):
            PilotManager.attach(session)
    else:
        PilotManager.attach(session).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(session: Path) -> None:
    os.chown(session, 12345, -1)
    with pytest.raises(SessionError, match="belongs to user 12345: only its owner can open it"):
        PilotManager.attach(session)


# ---- a file system without locks --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_flock_a_session_has_one_manager(code: int, session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*args: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    owner = session / "lock.owner"
    first = PilotManager.attach(session)
    with pytest.raises(SessionError, match="another manager uses the session"):
        PilotManager.attach(session)
    first.close()
    assert not owner.exists()
    owner.write_text(f"{platform.node()} {os.getpid()}:1")  # of a process that has ended: another one has its number
    PilotManager.attach(session).close()
    owner.write_text("elsewhere 4711:99")
    with pytest.raises(SessionError, match=rf"{owner} says that process 4711 on elsewhere uses .* remove that file"):
        PilotManager.attach(session)
    owner.unlink()
    PilotManager.attach(session).close()
    assert not list(session.glob("lock.owner*"))
