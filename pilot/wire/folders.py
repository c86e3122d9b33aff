"""The folders of a pilot on one host: for temporary files, and for sockets, whose paths must be short."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

from pilot.errors import SessionError

log = logging.getLogger(__name__)

#: Bytes of the longest path of a folder for sockets. The path of a socket may have 107 (unix(7)); Ray's
#: ``ray/session_DATE_TIME_MICROSECONDS_PID/sockets/plasma_store`` takes the most of them.
SOCKET_FOLDER_BYTES = 41

#: Letters of a mark that is not below another one.
MARK_LENGTH = 32

#: Environment variable with the folder for sockets.
SOCKETS = "PILOT_SOCKETS"


def scratch(mark: str) -> Path:
    """The folder for temporary files of the processes with this mark, on this host."""
    return Path(tempfile.gettempdir()) / _folder_name(mark)


def scratch_parent(given: str) -> str:
    """Where a pilot's folder for temporary files is made on this host, when its description names a folder: in it $NAME
    stands for variables of the job, ~ for the home directory."""
    return os.path.expandvars(os.path.expanduser(given))  # noqa: PTH111


def takes_files(folder: str) -> bool:
    """True when this is the absolute path of a folder where this process may make files."""
    return Path(folder).is_absolute() and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)


def use_scratch(given: str) -> None:
    """Have this process, and those that it starts, make temporary files in this folder, where it can."""
    folder = scratch_parent(given)
    if given and takes_files(folder):
        os.environ["TMPDIR"] = tempfile.tempdir = folder


def socket_folder(mark: str) -> Path:
    """The folder for their sockets: the same folder if its path is short enough, else one of that name elsewhere. One
    whose path is no UTF-8 text, which Dask cannot send, is the last choice.

    Raises:
        SessionError: there is no folder with a path that is short enough.
    """
    folders = [scratch(mark), *_short_folders(mark)]
    for folder in sorted(folders, key=lambda folder: not is_text(folder)):
        if len(os.fsencode(folder)) <= SOCKET_FOLDER_BYTES and os.access(folder.parent, os.W_OK | os.X_OK):
            return folder
    raise SessionError(
        f"the paths of sockets would be too long below {' and '.join(str(folder.parent) for folder in folders)}: set "
        f"TMPDIR to a folder on this host with a path of at most {SOCKET_FOLDER_BYTES - len(folders[0].name) - 1} bytes"
    )


def is_text(folder: Path) -> bool:
    """True for a path that is UTF-8 text."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return False
    return True


def _short_folders(mark: str) -> list[Path]:
    parents = ("/tmp", os.environ.get("XDG_RUNTIME_DIR", ""))
    return [Path(parent) / _folder_name(mark) for parent in parents if Path(parent).is_absolute()]


def _folder_name(mark: str) -> str:
    """It begins with the name for the mark above it, and stays short for nested managers."""
    parts = mark.split(".")
    last = max((index for index, part in enumerate(parts) if len(part) == MARK_LENGTH), default=0)
    names = [parts[0][:8]]
    if last:
        import hashlib  # here, since it brings OpenSSL: 4 MiB in each worker

        names.append(hashlib.sha256(".".join(parts[: last + 1]).encode()).hexdigest()[:8])
    return f"pilot-{'.'.join([*names, *parts[last + 1 :]])}"


def make_folders(mark: str) -> None:
    """Make both, with access for this user only. This process and those that it starts use the first as their TMPDIR,
    and the other for the sockets of engines and of multiprocessing."""
    temporary, short = scratch(mark), socket_folder(mark)
    for folder in {temporary, short}:
        folder.mkdir(mode=0o700)
    if short != temporary:
        why = "too long for sockets" if is_text(temporary) else "no UTF-8 text, and not for sockets"
        log.warning("the path %s is %s: they are in %s", temporary, why, short)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.environ[SOCKETS] = str(short)
    use_socket_folder()


def sockets() -> Path:
    """The folder for sockets of the pilot that this process belongs to."""
    return Path(os.environ[SOCKETS])


def use_socket_folder() -> None:
    """Have this process's multiprocessing use it as well; child processes inherit the setting."""
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if SOCKETS in os.environ and "tempdir" not in config:
        folder = sockets() / "pymp"  # one for all: workers that are killed leave none behind
        folder.mkdir(mode=0o700, exist_ok=True)
        config["tempdir"] = str(folder)


def remove_folders() -> None:
    """Remove what `make_folders` has made."""
    for path in (tempfile.gettempdir(), sockets()):
        shutil.rmtree(path, ignore_errors=True)


def remove_scratch(mark: str) -> None:
    """Remove these folders, and those of the marks below the mark, if they are there."""
    for folder in (scratch(mark), *_short_folders(mark)):
        for path in (folder, *folder.parent.glob(f"{folder.name}.*")):
            shutil.rmtree(path, ignore_errors=True)
