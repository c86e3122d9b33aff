"""`pilot doctor --session`: the errors of a session's manager, and the files that show again how they came about."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from pilot.cli.findings import Finding
from pilot.errors import SessionError
from pilot.manager import faults
from pilot.wire import names
from pilot.wire.session import SessionFolder


def examine_session(session: str) -> list[Finding]:
    """One finding for each error that was written to the session's folder, oldest first.

    Raises:
        SessionError: there is no session in the folder.
    """
    folder = names.find(session).resolve()
    files = sorted(folder.glob("events-*.msgpack"), key=lambda path: path.stat().st_mtime)
    if not files:
        if not SessionFolder(folder).connection_path.exists():
            raise SessionError(f"doctor --session: {folder} holds no session; give the session folder of a manager")
        return [Finding(topic="session", state="ok", what=f"{folder}: its manager had no error of its own")]
    return [_error(path) for path in files]


def _error(path: Path) -> Finding:
    try:
        written, error = faults.read_error(path)
    except (OSError, msgspec.MsgspecError) as reason:
        what, advice = f"{path} cannot be read: {reason}", "read it with the version of the library that wrote it"
        return Finding(topic="session", state="broken", what=what, advice=advice, needed=True)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))
    last = error.strip().rpartition("\n")[2] or "written on request"
    advice = f"report it with this file; to see it again: pilot.testing.replay({str(path)!r})"
    return Finding(topic="session", state="broken", what=f"{when} {last}", advice=advice, needed=True)
