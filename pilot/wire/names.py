"""Names of sessions: links to their folders, ``names-UID/NAME.session``, below `own_parent`."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from pilot.errors import SessionError, did_you_mean, invalid
from pilot.wire.locks import SessionLock
from pilot.wire.session import SESSIONS, SessionFolder, folder_path, own_parent

#: What a session may be called: no path, no option of a command, no hidden file.
_NAME = re.compile(r"\w[\w .-]{0,99}")
_SUFFIX = ".session"
#: Seconds to wait while others change names, which takes them milliseconds.
_PATIENCE = 10.0


def check(name: str) -> None:
    """Raise DescriptionError for what cannot be a session's name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "1 to 100 letters, digits, blanks, '.', '_' and '-', beginning with a letter, a digit or '_'"
        raise invalid("name", name, expected)


def take(name: str, path: Path) -> Path | None:
    """Give a name to the session in a folder, which this process holds. Blocks while another process changes names.

    A session whose manager is gone loses its name to the new one.

    Returns:
        The folder that had the name until now, and is still there; None: there is none.

    Raises:
        SessionError: a session that is in use has it, or the link cannot be made.
    """
    try:
        with _locked(_folder(make=True)) as folder:
            link = folder / f"{name}{_SUFFIX}"
            other = _target(link)
            if other is not None and SessionLock(other).is_held():
                advice = "close() its manager, or give another name"
                raise SessionError(
                    f"name: the session {other} is named {name!r} and in use: {advice}",
                    path=str(other),
                )
            made = link.with_name(f"{link.name}.{secrets.token_hex(4)}")
            made.symlink_to(path)
            made.rename(link)
    except SessionError:
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        raise SessionError(
            f"the session cannot be named {name!r}: {error}; {SESSIONS} names another folder", path=str(path)
        ) from error
    return other


def drop(path: Path) -> None:
    """The session in this folder is removed: its name is free. Blocks as `take` does."""
    with contextlib.suppress(OSError, RuntimeError), _locked(_folder(make=False)) as folder:
        for link in folder.glob(f"*{_SUFFIX}"):
            if link.readlink() == path:
                link.unlink()


def known() -> dict[str, Path]:
    """The folders of this user's sessions that have names, by name in alphabetical order, as far as they are there."""
    found: dict[str, Path] = {}
    with contextlib.suppress(OSError, RuntimeError):
        for link in sorted(_folder(make=False).glob(f"*{_SUFFIX}")):
            path = _target(link)
            if path is not None:
                found[link.name.removesuffix(_SUFFIX)] = path
    return found


def find(given: str | os.PathLike[str]) -> Path:
    """The folder of a session, by its name or its path. A name goes before a folder that is called the same; a
    `pathlib.Path` is always a path.

    Raises:
        SessionError: there is neither such a name nor such a folder, or it is no path.
    """
    names = known() if isinstance(given, str) else {}
    if given in names:
        return names[str(given)]
    path = folder_path(given)
    if isinstance(given, str) and os.sep not in given and not path.exists():
        listed = f"; names: {', '.join(names)}{did_you_mean(given, names)}" if names else ""
        raise SessionError(f"there is no session named {given!r} and no folder {path}{listed}", path=str(path))
    return path


def _folder(*, make: bool) -> Path:
    """Where the links are: private to this user."""
    folder = own_parent() / f"names-{os.geteuid()}"
    if make:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    SessionFolder(folder).check_private()
    return folder


def _target(link: Path) -> Path | None:
    """The folder of a session; None: it is not there, or holds none any more."""
    try:
        folder = SessionFolder(link.readlink())
        return folder.path if folder.lock.is_held() or folder.connection_path.exists() else None
    except OSError:
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """The names, which nobody else changes in this block."""
    lock, deadline = SessionLock(folder), time.monotonic() + _PATIENCE
    while True:
        try:
            lock.take()
            break
        except SessionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    try:
        yield folder
    finally:
        lock.release()
