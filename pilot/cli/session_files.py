"""`pilot sessions logs`, `stop` and `clean`: what sessions leave behind."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from pilot.cli.qpus import age
from pilot.errors import DescriptionError, SessionError
from pilot.manager.manager import PilotManager
from pilot.manager.summary import Summary, find_sessions, summary
from pilot.states import PilotState, is_final
from pilot.wire.session import default_parent

#: Seconds of the units of `parse_age`.
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def logs(folder: str, pilot: str | None, lines: int) -> int:
    """Print the end of the logs of a session's pilots: of their agents, and of workers that wrote something.

    Args:
        folder: of the session.
        pilot: the name or id of one pilot; None: of all.
        lines: of each log.

    Raises:
        DescriptionError: there is no such pilot.
        SessionError: there is no session in the folder.
    """
    one = summary(Path(folder).expanduser().absolute())
    wanted = [known for known in one.pilots if pilot in (None, known.name, known.id)]
    if not wanted:
        names = ", ".join(known.name for known in one.pilots) or "none"
        raise DescriptionError(
            f"sessions logs: there is no pilot {pilot!r}; pilots: {names}", field="pilot", given=pilot
        )
    for known in wanted:
        for path in sorted(Path(one.path, "pilots", known.id).glob("*.log")):
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
    one = summary(Path(folder).expanduser().absolute())
    if one.in_use:
        raise SessionError(
            f"{one.path}: a manager has this session: end that program, or close() it there", path=one.path
        )
    running = _running(one)
    PilotManager.attach(one.path, wait_for_pilot=0).close()
    print(f"{one.path}: {len(running)} pilot(s) ended")
    return 0


def clean(folders: Sequence[str], older: str, dry_run: bool) -> int:
    """Remove sessions that nobody uses: their manager is gone, their pilots are over, and they were not written for
    some time.

    Args:
        folders: sessions, or folders with sessions, besides the one where sessions are made.
        older: how long, as `parse_age` has it.
        dry_run: only say which.

    Raises:
        DescriptionError: ``older`` is not a time.
    """
    before = time.time() - parse_age(older)
    paths = find_sessions(default_parent(make=False))
    for folder in folders:
        paths += [path for path in find_sessions(Path(folder).expanduser().absolute()) if path not in paths]
    removed = size = 0
    for path in paths:
        reason, bytes_ = _kept(path, before), _size(path)
        if reason:
            print(f"kept: {path}: {reason}")
            continue
        print(f"{'would remove' if dry_run else 'removed'}: {path} ({bytes_ / 2**20:.1f} MiB)")
        if not dry_run:
            shutil.rmtree(path)
        removed, size = removed + 1, size + bytes_
    print(f"{removed} session(s), {size / 2**20:.1f} MiB{' would be removed' if dry_run else ' removed'}")
    return 0


def parse_age(text: str) -> float:
    """Seconds of "30m", "12h", "7d" or "2w".

    Raises:
        DescriptionError: it is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if found is None:
        raise DescriptionError(
            f"sessions clean: --older: {text!r} is not valid; expected a number and m, h, d or w, such as 7d",
            field="older",
            given=text,
        )
    return float(found[1]) * _UNITS[found[2]]


def _kept(path: Path, before: float) -> str:
    """Why a session stays; "": it does not."""
    try:
        one = summary(path)
    except SessionError as error:
        return str(error)
    if one.in_use:
        return "a manager has it"
    if one.changed > before:
        return f"written {age(time.time() - one.changed)} ago"
    if running := _running(one):
        return f"pilot {running[0]} may still run: pilot sessions stop {path}"
    return ""


def _running(one: Summary) -> list[str]:
    """The pilots that are not over, as far as the journal has it."""
    return [pilot.name for pilot in one.pilots if not is_final(PilotState(pilot.state))]


def _size(path: Path) -> int:
    size = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            size += file.lstat().st_size
    return size
