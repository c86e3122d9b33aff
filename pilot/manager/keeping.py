"""How long sessions that nobody uses are kept."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import time
from datetime import timedelta
from pathlib import Path

from pilot.errors import SessionError, invalid
from pilot.manager.summary import Summary, is_session, summary
from pilot.states import PilotState, is_final
from pilot.wire import names
from pilot.wire.session import PRIVATE, SessionFolder, default_parent

log = logging.getLogger(__name__)

#: Environment variable: how long private sessions stay that were not removed when their manager closed.
KEEP = "QUANTUM_PILOT_KEEP_SESSIONS"
#: Where the variable is not set.
DEFAULT = "7d"
#: Seconds of the units of `parse_age`.
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def parse_age(text: str, field: str) -> float:
    """Seconds of "30m", "12h", "7d" or "2w".

    Raises:
        DescriptionError: it is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if found is None:
        raise invalid(field, text, "a number and m, h, d or w, such as 7d")
    return float(found[1]) * _UNITS[found[2]]


def seconds_to_keep() -> float:
    """How long they stay.

    Raises:
        DescriptionError: the variable is no time.
    """
    return parse_age(os.environ.get(KEEP) or DEFAULT, KEEP)


def why_kept(path: Path, older: float) -> str:
    """Why a session must stay: it is used, its pilots may still run, or it was written in the last ``older`` seconds.
    "": it may be removed."""
    try:
        one = summary(path)
    except SessionError as error:
        return str(error)
    if one.in_use:
        return "a manager has it"
    if (unused := time.time() - one.changed) < older:
        return f"written {timedelta(seconds=round(unused))} ago"
    if running := running_pilots(one):
        return f"pilot {running[0]} may still run: pilot sessions stop {path}"
    return ""


def running_pilots(one: Summary) -> list[str]:
    """The pilots that are not over, as far as the journal has it."""
    return [pilot.name for pilot in one.pilots if not is_final(PilotState(pilot.state))]


def remove(path: Path) -> None:
    """Remove a session with all that is in it; nobody can open it meanwhile.

    Raises:
        SessionError: a manager has it.
        OSError: a part of it cannot be removed.
    """
    folder = SessionFolder.find(path)
    folder.lock.take()
    try:
        names.drop(path)
        shutil.rmtree(path)
    finally:
        folder.lock.release()


def remove_old() -> None:
    """Remove the private sessions of this user that were kept (a pilot had failed, or the manager was killed) and are
    older than `seconds_to_keep`. One that is used, or whose pilots may still run, stays.

    Raises:
        DescriptionError: the variable is no time.
    """
    older = seconds_to_keep()
    with contextlib.suppress(OSError, SessionError), os.scandir(default_parent(make=False)) as entries:
        for entry in entries:
            if not PRIVATE.fullmatch(entry.name):
                continue
            path, found = Path(entry.path), entry.stat(follow_symlinks=False)
            is_old = found.st_uid == os.geteuid() and found.st_mtime < time.time() - older
            if is_old and is_session(path) and not why_kept(path, older):
                log.info("the session %s was not used for %s: it is removed", path, timedelta(seconds=older))
                with contextlib.suppress(OSError, SessionError):
                    remove(path)
