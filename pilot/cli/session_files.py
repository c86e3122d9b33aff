"""`pilot sessions logs`, `stop` and `clean`: what sessions leave behind."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pilot.errors import DescriptionError, SessionError, invalid
from pilot.manager import keeping
from pilot.manager.manager import PilotManager
from pilot.manager.summary import find_sessions, summary
from pilot.wire import names
from pilot.wire.session import default_parent


def logs(folder: str, pilot: str | None, lines: int) -> int:
    """Print the end of the logs of a session's pilots: of their agents, and of workers that wrote something.

    Args:
        folder: the session, by name or path.
        pilot: the name or id of one pilot; None: of all.
        lines: of each log.

    Raises:
        DescriptionError: there is no such pilot, or the number of lines is not valid.
        SessionError: there is no session in the folder.
    """
    if lines < 1:
        raise invalid("sessions logs: --lines", lines, "a whole number of at least 1")
    one = summary(names.find(folder))
    wanted = [known for known in one.pilots if pilot in (None, known.name, known.id)]
    if not wanted and pilot is not None:
        there = ", ".join(known.name for known in one.pilots) or "none"
        raise DescriptionError(
            f"sessions logs: there is no pilot {pilot!r}; pilots: {there}", field="pilot", given=pilot
        )
    for known in wanted:
        for path in sorted(Path(one.path, "pilots", known.id).glob("*.log")):
            if path.is_symlink():  # the log of another pilot that was submitted with this one
                continue
            text = path.read_text(errors="backslashreplace").splitlines()
            if text:
                print(f"== {path}")
                print("\n".join(text[-lines:]))
    return 0


def stop(folder: str) -> int:
    """End the pilots of a session whose manager is gone, and cancel its tasks that are not over. Blocks.

    Raises:
        SessionError: a manager has the session, or it cannot be taken over.
    """
    one = summary(names.find(folder))
    if one.in_use:
        raise SessionError(
            f"{one.path}: a manager has this session: end that program, or close() it there", path=one.path
        )
    running = keeping.running_pilots(one)
    PilotManager.attach(one.path, wait_for_pilot=0).close()
    print(f"{one.path}: {len(running)} pilot(s) ended")
    return 0


def clean(folders: Sequence[str], older: str | None, dry_run: bool) -> int:
    """Remove sessions that nobody uses: their manager is gone, their pilots are over, and they were not written for
    some time.

    Args:
        folders: sessions by name or path, or folders with sessions, besides the one where sessions are made.
        older: how long, as `keeping.parse_age` has it; None: as the variable `keeping.KEEP` says.
        dry_run: only say which.

    Raises:
        DescriptionError: ``older``, or the variable, is not a time.
        SessionError: there is no such session or folder.
    """
    seconds = keeping.seconds_to_keep() if older is None else keeping.parse_age(older, "sessions clean: --older")
    paths = find_sessions(default_parent(make=False))
    for folder in folders:
        paths += [path for path in find_sessions(names.find(folder)) if path not in paths]
    removed = size = 0
    for path in paths:
        reason, bytes_ = keeping.why_kept(path, seconds), _size(path)
        if not reason and not dry_run:
            try:
                keeping.remove(path)
            except SessionError as error:  # somebody has opened it meanwhile
                reason = str(error)
        if reason:
            print(f"kept: {path}: {reason}")
            continue
        print(f"{'would remove' if dry_run else 'removed'}: {path} ({bytes_ / 2**20:.1f} MiB)")
        removed, size = removed + 1, size + bytes_
    print(f"{removed} session(s), {size / 2**20:.1f} MiB{' would be removed' if dry_run else ' removed'}")
    return 0


def _size(path: Path) -> int:
    size = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            size += file.lstat().st_size
    return size
